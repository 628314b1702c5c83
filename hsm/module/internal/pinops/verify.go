package pinops

import (
	"errors"

	"github.com/miekg/pkcs11"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/pinverify"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/pinblock"
)

// verifyWorkspace is what is clear during a verification besides the block.
type verifyWorkspace struct {
	in      [8]byte // transformed security parameter, or validation data
	out     [8]byte // the same enciphered
	pvv     [pinverify.PVVSize]byte
	natural [pinverify.NaturalSize]byte
}

// Verify reports whether the PIN in a block is the one of a Visa PVV or an IBM 3624
// offset.
func (e *Engine) Verify(r hsm.VerifyPIN) (answer hsm.VerifiedPIN, err error) {
	pan, err := parsePAN(r.PAN, hsm.Format0)
	if err != nil {
		return answer, err
	}
	err = e.do(func(s *token.Session, w *workspace) (err error) {
		in, err := e.open(s, r.Incoming.Key)
		if err != nil {
			return err
		}
		defer in.Release()
		pvk, err := e.open(s, r.Verification)
		if err != nil {
			return err
		}
		defer pvk.Release()
		for _, check := range []error{
			checkKSN(in.Header, &r.Incoming),
			checkPINKey(in.Header, &r.Incoming, deciphers),
			checkPVK(pvk.Header, &r),
			checkVerification(r.Incoming.Format),
		} {
			if check != nil {
				return check
			}
		}
		var rule pinverify.IBM3624
		if r.IBM3624 != nil {
			if rule, err = w.validationData(pvk.Header, pan); err != nil {
				return err
			}
		}
		incoming, err := w.cipherFor(s, in, &r.Incoming)
		if err != nil {
			return err
		}
		err = w.decipher(&incoming, r.Incoming.Format, pan, r.Block)
		if err = errors.Join(err, incoming.close()); err != nil {
			return err
		}
		var verified bool
		if r.VisaPVV != nil {
			verified, err = w.visaPVV(s, pvk, pan, r.VisaPVV)
		} else {
			if err := checkBoundPAN(pvk.Header.IBM3624, r.Incoming.Format, pan, pinblock.PINIn(&w.pin).Len()); err != nil {
				return err
			}
			verified, err = w.ibm3624(s, pvk, &rule, r.IBM3624)
		}
		answer = hsm.VerifiedPIN{Verified: verified, Custody: hsm.InModule}
		return err
	})
	if err != nil {
		return hsm.VerifiedPIN{}, err
	}
	return answer, nil
}

// checkPVK decides whether the verification key may verify by the method asked for.
func checkPVK(h *hsm.Header, r *hsm.VerifyPIN) error {
	want := "V2"
	if r.IBM3624 != nil {
		want = "V1"
	}
	switch {
	case h.Usage != want || h.Algorithm != "T":
		return fault.New(fault.KeyUsageMismatch, "the verification key is not a "+want+" key")
	case !oneOf(h.Mode, "VCN"):
		return fault.New(fault.KeyUsageMismatch, "the verification key may not verify: mode of use "+h.Mode)
	}
	return nil
}

// visaPVV compares with a Visa PIN verification value.
func (w *workspace) visaPVV(s *token.Session, pvk *sealing.Key, pan pinblock.PAN, expected *hsm.VisaPVV) (verified bool, err error) {
	v, pin := &w.verify, pinblock.PINIn(&w.pin)
	erase.Do(func() { err = pinverify.PutTSP(&v.in, pan, int(expected.KeyIndex), pin) })
	if err == nil {
		err = s.Encrypt(pkcs11.CKM_DES3_ECB, pvk.Object, v.out[:], v.in[:])
	}
	if err != nil {
		return false, err
	}
	erase.Do(func() {
		pinverify.PutPVV(&v.pvv, &v.out)
		verified, err = pinverify.VerifyPVV(&v.pvv, pin, expected.PVV)
	})
	return verified, err
}

// validationData writes the validation data of a PAN to the workspace, by the rule that
// is sealed with the key.
func (w *workspace) validationData(h *hsm.Header, pan pinblock.PAN) (pinverify.IBM3624, error) {
	if h.IBM3624 == nil {
		return pinverify.IBM3624{}, errors.New("sealed V1 key without a rule")
	}
	rule, err := pinverify.NewIBM3624(pinverify.Rule{
		DecimalizationTable: h.IBM3624.DecimalizationTable, Start: h.IBM3624.Start, Length: h.IBM3624.Length, Pad: h.IBM3624.Pad,
	})
	if err != nil {
		return rule, err
	}
	if err := rule.PutValidationData(&w.verify.in, pan); err != nil {
		return rule, fault.New(fault.RequestInvalid, "primary_account_number: shorter than the key's validation-data rule needs")
	}
	return rule, nil
}

// checkBoundPAN refuses a verification in which the caller could change PIN digits by
// changing the PAN. In formats 0 and 3 (ISO 9564-1:2017 §9.3) the third PIN digit is
// combined with the first of the 12 account digits, and so on; each of those that meets
// a PIN digit must go into the validation data too. Format 4 is bound to the whole PAN.
func checkBoundPAN(rule *hsm.IBM3624Rule, f hsm.Format, pan pinblock.PAN, pinLength int) error {
	if rule.AllowUnboundPAN || f == hsm.Format4 {
		return nil
	}
	first := pan.Len() - 13 // of the account digits; below 0 where they are padding
	for i := range pinLength - 2 {
		digit := first + i
		if digit >= 0 && (digit < int(rule.Start) || digit >= int(rule.Start)+int(rule.Length)) {
			return fault.New(fault.KeyUsageMismatch, "the key's validation data leaves out PAN digits that this format combines with the PIN: use ISO format 4")
		}
	}
	return nil
}

// ibm3624 compares with an IBM 3624 offset; the validation data is in the workspace.
func (w *workspace) ibm3624(s *token.Session, pvk *sealing.Key, rule *pinverify.IBM3624, expected *hsm.IBM3624) (verified bool, err error) {
	v, pin := &w.verify, pinblock.PINIn(&w.pin)
	if err := s.Encrypt(pkcs11.CKM_DES3_ECB, pvk.Object, v.out[:], v.in[:]); err != nil {
		return false, err
	}
	erase.Do(func() {
		natural := pinverify.NaturalIn(&v.natural)
		if err = rule.NaturalPIN(natural, &v.out); err == nil {
			verified, err = natural.Verify(pin, expected.Offset)
		}
	})
	return verified, err
}
