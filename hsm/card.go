package hsm

// CVVInput is what a card verification value is made of besides the key.
type CVVInput struct {
	PAN         string // 12 to 19 decimal digits
	Expiry      string // 4 decimal digits
	ServiceCode string // 3 decimal digits: 000 for CVV2, 999 for iCVV
}

// CVVSize is the number of digits of a card verification value.
const CVVSize = 3

// GenerateCVV asks for a card verification value.
type GenerateCVV struct {
	Key   Key
	Input CVVInput
	Demands
}

// GeneratedCVV is the answer to [GenerateCVV].
type GeneratedCVV struct {
	Value      string // CVVSize decimal digits
	CheckValue string // KCV of the key
	Custody    Custody
}

// VerifyCVV asks whether a card verification value is the card's. A value that is not is
// no error.
type VerifyCVV struct {
	Key   Key
	Input CVVInput
	Value string // CVVSize decimal digits
	Demands
}

// VerifiedCVV is the answer to [VerifyCVV].
type VerifiedCVV struct {
	Verified bool
	Custody  Custody
}
