package pinops

import (
	"errors"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinverify"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/velocity"
	"keyd/pinblock"
)

// count has every try counted before anything is compared or enciphered: no crash and
// no parallel call gives one for nothing.
//
// A verification counts for what enters the comparison (the verification key and the
// account digits of the transformed security parameter, or the validation data), so
// that a false PAN beside the block evades no limit. A translation counts for the last 8
// of the 12 account digits that formats 0 and 3 combine with the PIN. The first ones meet
// PIN digits, which may be any nibble: with another label the same block comes out, and
// would count for another account. Of a PIN of up to 6 digits none meets the last 8. From
// format 1 to format 1 no account is known.
func (b *batch) count() {
	for l := range b.going {
		if v := l.op.Verify; v != nil && v.IBM3624 != nil {
			if err := checkBoundPAN(l.keys[1].Header.IBM3624, v.Incoming.Format, l.pan, pinblock.PINIn(&l.pin).Len()); err != nil {
				b.fail(l, err)
				continue
			}
		}
		if l.counted {
			continue
		}
		if l.counted = b.allowed(l); !l.counted {
			b.fail(l, fault.New(fault.RateLimited, ""))
		}
	}
}

func (b *batch) allowed(l *lane) bool {
	if b.tries == nil {
		return true
	}
	var room [maxSubject]byte
	if t := l.op.Translate; t != nil {
		if t.Incoming.Format == hsm.Format1 && t.Outgoing.Format == hsm.Format1 {
			return true
		}
		return b.tries.Count(velocity.Translation, translationSubject(room[:0], l.pan))
	}
	v := &l.verify.in
	if l.op.Verify.VisaPVV != nil {
		v = nil
	}
	return b.tries.Count(velocity.Verification, verificationSubject(room[:0], l.keys[1].Header, l.pan, v))
}

// maxSubject is the size of the largest subject in bytes.
const maxSubject = 32 + 12

// translationSubject is what a translation counts for.
func translationSubject(b []byte, pan pinblock.PAN) []byte {
	var account [8]byte
	pan.Account(account[:])
	return append(b, account[:]...)
}

// verificationSubject is what a verification counts for: under Visa's method, where
// there is no validation data, the account digits of the transformed security parameter.
func verificationSubject(b []byte, h *hsm.Header, pan pinblock.PAN, validation *[8]byte) []byte {
	b = append(b, h.Fingerprint...)
	if validation != nil {
		return append(b, validation[:]...)
	}
	var account [11]byte
	pan.Account(account[:])
	return append(b, account[:]...)
}

// PermitSubject is what a permit to reset an account's tries is given for. Which
// verification key it is used for is decided by whoever redeems it.
func PermitSubject(pan pinblock.PAN) []byte {
	var account [12]byte
	pan.Account(account[:])
	return append([]byte("permit"), account[:]...)
}

// ResetTries resets the tries of an account, for verifications under a key or, without
// one, for translations. It uses up a permit, and fails with [fault.PermitMissing]
// where there is none.
func (e *Engine) ResetTries(verification *hsm.Key, text string) error {
	pan, err := pinblock.ParsePAN(text)
	if err != nil {
		return fault.New(fault.RequestInvalid, "primary_account_number: 1 to 19 digits")
	}
	if e.tries == nil {
		return fault.New(fault.PermitMissing, "tries are not limited here")
	}
	kind, subject := velocity.Translation, translationSubject(nil, pan)
	if verification != nil {
		kind = velocity.Verification
		if subject, err = e.subjectOf(*verification, pan); err != nil {
			return err
		}
	}
	if !e.tries.Redeem(kind, PermitSubject(pan)) {
		return fault.New(fault.PermitMissing, "")
	}
	if !e.tries.Reset(kind, subject) {
		return fault.Wrap(fault.Internal, errors.New("the tries of an account cannot be reset: the velocity table is crowded"))
	}
	return nil
}

// subjectOf is what verifications of an account under a key count for. What the token
// has lost is made anew once.
func (e *Engine) subjectOf(key hsm.Key, pan pinblock.PAN) (subject []byte, err error) {
	generation := e.token.Generation()
	subject, err = e.subjectIn(key, pan)
	if lost(err) {
		if err = e.token.Renew(generation); err == nil {
			subject, err = e.subjectIn(key, pan)
		}
	}
	return subject, err
}

func (e *Engine) subjectIn(key hsm.Key, pan pinblock.PAN) (subject []byte, err error) {
	err = e.token.Do(func(s *token.Session) error {
		k, err := e.keys.Open(s, key.Name, key.Sealed)
		if err != nil {
			return err
		}
		defer k.Release()
		switch h := k.Header; h.Usage {
		case "V2":
			subject = verificationSubject(nil, h, pan, nil)
			return nil
		case "V1":
			rule, err := ruleOf(h)
			if err != nil {
				return err
			}
			var validation [pinverify.ValidationSize]byte
			if err := putValidationData(&validation, &rule, pan); err != nil {
				return err
			}
			subject = verificationSubject(nil, h, pan, &validation)
			return nil
		}
		return fault.New(fault.KeyUsageMismatch, "a "+k.Header.Usage+" key verifies no PIN")
	})
	return subject, err
}
