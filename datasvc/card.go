package datasvc

import (
	"context"

	"keyd/audit"
	"keyd/hsm"
	"keyd/keyuse"
)

// Card is what a card verification value is made of. Exactly one of CVV, CVV2 and ICVV is
// set.
type Card struct {
	KeyID string // of usage C0
	PAN   string // 12 to 19 digits
	CVV   *CVV
	CVV2  *Expiry
	ICVV  *Expiry
}

// CVV is the value on the magnetic stripe.
type CVV struct {
	Expiry      string // 4 digits
	ServiceCode string // 3 digits, neither 000 nor 999
}

// Expiry is what CVV2 and iCVV take: their service codes are fixed.
type Expiry struct{ Expiry string } // 4 digits

// The service codes that stand for a kind of value instead of a service.
const (
	codeCVV2 = "000"
	codeICVV = "999"
)

// GenerateCard makes a card verification value. Errors are refusals of package fault in the
// order that the package comment gives, or ctx's error.
func (s *Service) GenerateCard(ctx context.Context, c Card) (hsm.GeneratedCVV, error) {
	entry := s.keys.Entry(ctx)
	c.record(entry)
	input, err := c.input()
	if err != nil {
		return hsm.GeneratedCVV{}, err
	}
	key, demands, err := s.keys.Authorized(ctx, ActionGenerateCard, entry, keyuse.Named{Field: "key_id", Name: c.KeyID})
	if err != nil {
		return hsm.GeneratedCVV{}, err
	}
	answer, err := s.modules.GenerateCVV(ctx, hsm.GenerateCVV{Key: keyuse.Sealed(key[0]), Input: input, Demands: demands})
	return keyuse.Answered(entry, answer, answer.Custody, err)
}

// VerifyCard says whether a card verification value is the card's. A wrong one is an answer;
// each costs one of the card's tries. Errors are refusals of package fault in the order that
// the package comment gives, or ctx's error.
func (s *Service) VerifyCard(ctx context.Context, c Card, value string) (hsm.VerifiedCVV, error) {
	entry := s.keys.Entry(ctx)
	c.record(entry)
	input, err := c.input()
	if err != nil {
		return hsm.VerifiedCVV{}, err
	}
	if !keyuse.Fits(value, hsm.CVVSize, "0123456789") {
		return hsm.VerifiedCVV{}, keyuse.Invalid("validation_data has 3 decimal digits")
	}
	key, demands, err := s.keys.Authorized(ctx, ActionVerifyCard, entry, keyuse.Named{Field: "key_id", Name: c.KeyID})
	if err != nil {
		return hsm.VerifiedCVV{}, err
	}
	answer, err := s.modules.VerifyCVV(ctx, hsm.VerifyCVV{Key: keyuse.Sealed(key[0]), Input: input, Value: value, Demands: demands})
	return keyuse.Answered(entry, answer, answer.Custody, err)
}

func (c Card) record(entry *audit.Entry) {
	keyuse.Record(entry, c.KeyID, nil)
	entry.PAN = audit.MaskPAN(c.PAN)
}

// input checks the shape and returns what the value is made of.
func (c Card) input() (hsm.CVVInput, error) {
	in := hsm.CVVInput{PAN: c.PAN}
	if err := keyuse.CheckKeyID("key_id", c.KeyID); err != nil {
		return in, err
	}
	if len(c.PAN) < 12 || len(c.PAN) > 19 || !keyuse.Decimal(c.PAN) {
		return in, keyuse.Invalid("primary_account_number has 12 to 19 decimal digits and nothing else")
	}
	methods := 0
	if c.CVV != nil {
		methods++
		in.Expiry, in.ServiceCode = c.CVV.Expiry, c.CVV.ServiceCode
	}
	if c.CVV2 != nil {
		methods++
		in.Expiry, in.ServiceCode = c.CVV2.Expiry, codeCVV2
	}
	if c.ICVV != nil {
		methods++
		in.Expiry, in.ServiceCode = c.ICVV.Expiry, codeICVV
	}
	switch {
	case methods != 1:
		return in, keyuse.Invalid("method has exactly one of cvv, cvv2 and icvv")
	case !keyuse.Fits(in.Expiry, 4, "0123456789"):
		return in, keyuse.Invalid("method: card_expiry_date has 4 decimal digits")
	case !keyuse.Fits(in.ServiceCode, 3, "0123456789"):
		return in, keyuse.Invalid("method.cvv.service_code has 3 decimal digits")
	case c.CVV != nil && (in.ServiceCode == codeCVV2 || in.ServiceCode == codeICVV):
		return in, keyuse.Invalid("method.cvv.service_code is not 000, which makes a CVV2 (cvv2), and not 999, which makes an iCVV (icvv)")
	}
	return in, nil
}
