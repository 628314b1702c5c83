package tries

import (
	"errors"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinverify"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/velocity"
	"keyd/hsm/module/internal/working"
	"keyd/pinblock"
)

// Reset resets the tries of an account, for verifications under a key or, without one, for
// translations. It uses up a permit, and fails with [fault.PermitMissing] where there is
// none.
func (t *Tries) Reset(keys *working.Keys, verification *hsm.Key, text string) error {
	pan, err := pinblock.ParsePAN(text)
	if err != nil {
		return fault.New(fault.RequestInvalid, "primary_account_number: 1 to 19 digits")
	}
	if t == nil {
		return fault.New(fault.PermitMissing, "tries are not limited here")
	}
	kind, subject := velocity.Translation, translationSubject(nil, pan)
	if verification != nil {
		kind = velocity.Verification
		err := keys.Do(func(s *token.Session) (err error) {
			subject, err = subjectUnder(s, keys, *verification, pan)
			return err
		})
		if err != nil {
			return err
		}
	}
	if !t.table.Redeem(kind, PermitSubject(pan)) {
		return fault.New(fault.PermitMissing, "")
	}
	if !t.table.Reset(kind, subject) {
		return fault.Wrap(fault.Internal, errors.New("the tries of an account cannot be reset: the velocity table is crowded"))
	}
	return nil
}

// subjectUnder is what verifications of an account under a key count for.
func subjectUnder(s *token.Session, keys *working.Keys, key hsm.Key, pan pinblock.PAN) ([]byte, error) {
	k, err := keys.Open(s, key)
	if err != nil {
		return nil, err
	}
	defer k.Release()
	switch h := k.Header; h.Usage {
	case "V2":
		return verificationSubject(nil, h, pan, nil), nil
	case "V1":
		rule, err := pinverify.RuleOf(h.IBM3624)
		if err != nil {
			return nil, err
		}
		var validation [pinverify.ValidationSize]byte
		if err := rule.PutValidationData(&validation, pan); err != nil {
			return nil, fault.New(fault.RequestInvalid, "primary_account_number: shorter than the key's validation-data rule needs")
		}
		return verificationSubject(nil, h, pan, &validation), nil
	}
	return nil, fault.New(fault.KeyUsageMismatch, "a "+k.Header.Usage+" key verifies no PIN")
}
