package pinops

import (
	"github.com/miekg/pkcs11"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/pinverify"
	"keyd/hsm/module/internal/working"
	"keyd/pinblock"
)

// compareWorkspace is what is clear while a PIN is compared, or a value is made of it.
type compareWorkspace struct {
	in      [8]byte // transformed security parameter, or validation data
	out     [8]byte // the same enciphered
	pvv     [pinverify.PVVSize]byte
	natural [pinverify.NaturalSize]byte
	offset  [pinblock.MaxPINLen]byte
}

// prepareRule reads the rule that is sealed with a V1 key and writes the validation
// data of the PAN to the workspace.
func (l *lane) prepareRule() (err error) {
	if l.method.ibm == nil {
		return nil
	}
	if l.rule, err = pinverify.RuleOf(l.pvkKey.Header.IBM3624); err != nil {
		return err
	}
	if err := l.rule.PutValidationData(&l.compare.in, l.pan); err != nil {
		return fault.New(fault.RequestInvalid, "primary_account_number: shorter than the key's validation-data rule needs")
	}
	return nil
}

// checkPVK decides whether the verification key may serve the method asked for, in one of
// these modes of use.
func checkPVK(h *hsm.Header, m method, modes string) error {
	if h == nil {
		return nil
	}
	want := "V2"
	if m.ibm != nil {
		want = "V1"
	}
	if h.Usage != want || h.Algorithm != "T" {
		return fault.New(fault.KeyUsageMismatch, "the verification key is not a "+want+" key")
	}
	return working.CheckMode(h, modes, "the verification key may not do this")
}

// bind applies [checkBoundPAN] to the PINs that came in a block.
func (b *batch) bind() {
	for l := range b.going {
		if l.method.ibm == nil || l.in == nil {
			continue
		}
		if err := checkBoundPAN(l.pvkKey.Header.IBM3624, l.in.Format, l.pan, pinblock.PINIn(&l.pin).Len()); err != nil {
			b.fail(l, err)
		}
	}
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

// compare says of each PIN whether it is right, or makes the value to verify it by.
func (b *batch) compare() {
	b.each(way.enciphers)
	erase.Do(func() {
		for l := range b.going {
			if l.pvk == nil {
				continue
			}
			var err error
			switch {
			case l.task.compares():
				l.verified, err = l.matches()
			case l.task.makes():
				l.datum, err = l.makeDatum()
			}
			if err != nil {
				b.fail(l, err)
			}
		}
	})
}

func (inModule) enciphers(b *batch) {
	var blocks []ecb
	for l := range b.of(inModule{}) {
		if l.pvk != nil {
			blocks = append(blocks, ecb{l, pkcs11.CKM_DES3_ECB, l.pvkKey.Object, l.compare.out[:], l.compare.in[:]})
		}
	}
	if len(blocks) == 0 {
		return
	}
	erase.Do(func() {
		for l := range b.of(inModule{}) {
			if v := l.method.visa; v != nil {
				if err := pinverify.PutTSP(&l.compare.in, l.pan, int(v.KeyIndex), pinblock.PINIn(&l.pin)); err != nil {
					b.fail(l, err)
				}
			}
		}
	})
	b.together(encrypt, blocks)
}

// matches compares the PIN with the verification value. It is called within erase.Do.
func (l *lane) matches() (bool, error) {
	if v := l.method.visa; v != nil {
		pinverify.PutPVV(&l.compare.pvv, &l.compare.out)
		return pinverify.VerifyPVVOf(&l.compare.pvv, l.isDecimal(), v.PVV)
	}
	pin := pinblock.PINIn(&l.pin)
	natural := pinverify.NaturalIn(&l.compare.natural)
	if err := l.rule.NaturalPIN(natural, &l.compare.out); err != nil {
		return false, err
	}
	return natural.Verify(pin, l.method.ibm.Offset)
}

// isDecimal reports whether all digits of the PIN are. It is called within erase.Do.
func (l *lane) isDecimal() bool {
	if l.way == (inModule{}) {
		return pinblock.PINIn(&l.pin).Decimal()
	}
	return l.decimal
}

// makeDatum makes the value by which the PIN is verified: of a new PIN only if the current
// one, whose lane comes first, is right. That a new PIN has a digit above 9, and so becomes
// no value (ISO 9564-1, PCI HSM), shows only then, when a try has been counted. An offset
// checks all digits of a PIN that was made here; that of a new PIN checks as many as the
// current one's, or all where it has fewer. It is called within erase.Do.
func (l *lane) makeDatum() (string, error) {
	pin := pinblock.PINIn(&l.pin)
	switch {
	case l.task == makesNew && !l.partner.verified:
		return "", nil
	case !l.isDecimal():
		return "", errBlock
	case l.method.visa != nil:
		pinverify.PutPVV(&l.compare.pvv, &l.compare.out)
		return string(l.compare.pvv[:]), nil
	}
	natural := pinverify.NaturalIn(&l.compare.natural)
	if err := l.rule.NaturalPIN(natural, &l.compare.out); err != nil {
		return "", err
	}
	check := pin.Len()
	if l.task == makesNew {
		check = min(check, len(l.method.ibm.Offset))
	}
	offset := l.compare.offset[:check]
	if err := natural.PutOffset(offset, pin); err != nil {
		return "", err
	}
	return string(offset), nil
}
