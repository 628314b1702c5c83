package pinops

import (
	"errors"

	"github.com/miekg/pkcs11"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/pinverify"
	"keyd/pinblock"
)

// verifyWorkspace is what is clear during a verification besides the block.
type verifyWorkspace struct {
	in      [8]byte // transformed security parameter, or validation data
	out     [8]byte // the same enciphered
	pvv     [pinverify.PVVSize]byte
	natural [pinverify.NaturalSize]byte
}

// prepareRule reads the rule that is sealed with a V1 key and writes the validation
// data of the PAN to the workspace.
func (l *lane) prepareRule() (err error) {
	if l.op.Verify.IBM3624 == nil {
		return nil
	}
	if l.rule, err = ruleOf(l.keys[1].Header); err != nil {
		return err
	}
	return putValidationData(&l.verify.in, &l.rule, l.pan)
}

// ruleOf returns the IBM 3624 rule that is sealed with a V1 key.
func ruleOf(h *hsm.Header) (pinverify.IBM3624, error) {
	if h.IBM3624 == nil {
		return pinverify.IBM3624{}, errors.New("sealed V1 key without a rule")
	}
	return pinverify.NewIBM3624(pinverify.Rule{
		DecimalizationTable: h.IBM3624.DecimalizationTable, Start: h.IBM3624.Start, Length: h.IBM3624.Length, Pad: h.IBM3624.Pad,
	})
}

func putValidationData(dst *[pinverify.ValidationSize]byte, rule *pinverify.IBM3624, pan pinblock.PAN) error {
	if err := rule.PutValidationData(dst, pan); err != nil {
		return fault.New(fault.RequestInvalid, "primary_account_number: shorter than the key's validation-data rule needs")
	}
	return nil
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

// compare says of each verification whether the PIN is right. What enters the
// comparison is enciphered under the verification key by the token.
func (b *batch) compare() {
	var blocks []ecb
	for l := range b.going {
		if l.op.Verify != nil {
			blocks = append(blocks, ecb{l, pkcs11.CKM_DES3_ECB, l.keys[1].Object, l.verify.out[:], l.verify.in[:]})
		}
	}
	if len(blocks) == 0 {
		return
	}
	erase.Do(func() {
		for l := range b.going {
			if v := l.op.Verify; v != nil && v.VisaPVV != nil {
				if err := pinverify.PutTSP(&l.verify.in, l.pan, int(v.VisaPVV.KeyIndex), pinblock.PINIn(&l.pin)); err != nil {
					b.fail(l, err)
				}
			}
		}
	})
	b.together(encrypt, blocks)
	erase.Do(func() {
		for l := range b.going {
			v := l.op.Verify
			if v == nil {
				continue
			}
			verified, err := l.matches(v)
			if err != nil {
				b.fail(l, err)
				continue
			}
			l.op.Verified = hsm.VerifiedPIN{Verified: verified, Custody: hsm.InModule}
		}
	})
}

// matches compares the PIN with the verification value. It is called within erase.Do.
func (l *lane) matches(v *hsm.VerifyPIN) (bool, error) {
	pin := pinblock.PINIn(&l.pin)
	if v.VisaPVV != nil {
		pinverify.PutPVV(&l.verify.pvv, &l.verify.out)
		return pinverify.VerifyPVV(&l.verify.pvv, pin, v.VisaPVV.PVV)
	}
	natural := pinverify.NaturalIn(&l.verify.natural)
	if err := l.rule.NaturalPIN(natural, &l.verify.out); err != nil {
		return false, err
	}
	return natural.Verify(pin, v.IBM3624.Offset)
}
