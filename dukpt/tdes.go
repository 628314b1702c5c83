package dukpt

// Variant is a working key of the TDES scheme: a mask that is combined with the transaction key by exclusive
// or (X9.24-1:2009 A.4.1, table A-1).
type Variant uint8

// The variants. Requests go from the device to the host, responses back.
const (
	VariantPIN Variant = iota + 1
	VariantMACRequest
	VariantMACResponse
	VariantDataRequest
	VariantDataResponse
)

// Valid reports whether v is one of the variants above.
func (v Variant) Valid() bool { return v >= VariantPIN && v <= VariantDataResponse }

// Mask returns the 16 bytes to combine with the 16-byte transaction key. The mask of an invalid variant is
// zero, which is no variant's.
func (v Variant) Mask() (m [16]byte) {
	if v.Valid() {
		// One byte of each half: 7 for PINs, 6 and 4 for MACs, 5 and 3 for data.
		i := [...]int{VariantPIN: 7, VariantMACRequest: 6, VariantMACResponse: 4, VariantDataRequest: 5, VariantDataResponse: 3}[v]
		m[i], m[8+i] = 0xFF, 0xFF
	}
	return m
}

// OneWay reports whether the variant key is not yet the working key: data keys go through a one-way function
// that encrypts each half of the variant key under the whole of it (X9.24-1:2009 A.4.1).
func (v Variant) OneWay() bool { return v == VariantDataRequest || v == VariantDataResponse }

// Variant returns the TDES variant of a usage; false where the TDES scheme has none.
func (u Usage) Variant() (Variant, bool) {
	switch u {
	case UsagePIN:
		return VariantPIN, true
	case UsageMACGeneration:
		return VariantMACRequest, true
	case UsageMACVerification:
		return VariantMACResponse, true
	case UsageDataEncryption:
		return VariantDataRequest, true
	case UsageDataDecryption:
		return VariantDataResponse, true
	}
	return 0, false
}

// TDESInitialKeyMask returns what is combined with the 16-byte BDK by exclusive or to make the right half of
// a TDES initial key (X9.24-1:2009 A.6):
//
//	left  half = TDES-E(BDK,        KSN.InitialKeyID())
//	right half = TDES-E(BDK ^ mask, KSN.InitialKeyID())
//
// Mask and input are public, so a token that holds the BDK and its masked twin can do both encryptions. The
// key generation process of X9.24-1:2009 A.2 uses the same mask.
func TDESInitialKeyMask() [16]byte {
	return [16]byte{0: 0xC0, 1: 0xC0, 2: 0xC0, 3: 0xC0, 8: 0xC0, 9: 0xC0, 10: 0xC0, 11: 0xC0}
}
