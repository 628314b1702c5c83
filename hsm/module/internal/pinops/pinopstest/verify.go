package pinopstest

import (
	"fmt"
	"strings"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinops"
)

// verifier is a key that makes PVVs.
func (b *bench) verifier() known { return b.one("V2", "T", 16, 24) }

// verification verifies anything, as often as not a PIN that is right.
func (b *bench) verification() trial {
	in, pan := b.side(b.format()), b.pan()
	value := ""
	if b.random.IntN(2) == 0 {
		value = b.digits(4)
	}
	return b.verify(in, pan, in.seal(in.Format, b.anyField(in.Format), pan), value)
}

// verify is the verification of the PIN in a block by a PVV, or by its own.
func (b *bench) verify(in side, pan string, block []byte, value string) trial {
	k, index := b.verifier(), uint8(b.random.IntN(10))
	field := in.open(in.Format, block, pan)
	pin, _, ok := read(in.Format, field)
	if value == "" {
		if value = "0000"; ok {
			value = pvv(k.value, pan, index, pin)
		}
	}
	op := &pinops.Operation{Verify: &hsm.VerifyPIN{Incoming: in.PINKey, Verification: k.Key, PAN: pan, Block: block, VisaPVV: &hsm.VisaPVV{KeyIndex: index, PVV: value}}}
	name := fmt.Sprintf("verification in %v (%s), PAN %s, field %X, PVV %s", in.Format, in.Key.Name, pan, field, value)
	return trial{name, op, func() {
		want := fault.PINBlockInvalid
		if ok {
			want = 0
		}
		if !b.outcome(name, op, want) {
			if op.Verified != (hsm.VerifiedPIN{}) {
				b.Errorf("%s: a refusal with an answer: %+v", name, op.Verified)
			}
			return
		}
		if right := isDecimal(pin) && value == pvv(k.value, pan, index, pin); op.Verified.Verified != right {
			b.Errorf("%s: verified is %t, want %t", name, op.Verified.Verified, right)
		}
	}}
}

// crafted verifies PINs with a digit above 9 at each place, by exactly the PVV that their transformed
// security parameter has, which is no PIN's (ISO 9564-1, PCI HSM): none is right, and none is a
// current PIN or becomes a new one.
func (b *bench) crafted() {
	var trials []trial
	tried := map[string]int{}
	for _, f := range []hsm.Format{hsm.Format0, hsm.Format3, hsm.Format4} {
		for length := 4; length <= 12; length++ {
			for at := range length {
				for range 3 {
					in, pan, pin := b.side(f), b.pan(), b.digits(length)
					odd := b.odd(pin, at)
					one := b.verify(in, pan, in.seal(f, b.right(f, odd), pan), "")
					if strings.HasSuffix(one.name, "PVV 0000") {
						tried["PVV 0000"]++ // one in ten thousand is, by chance
					}
					trials = append(trials, one, b.exchange(in, b.side(f), pan, [2][]byte{b.right(f, odd), b.right(f, pin)}, ""),
						b.exchange(in, b.side(f), pan, [2][]byte{b.right(f, pin), b.right(f, odd)}, ""),
						b.verify(in, pan, in.seal(f, b.right(f, pin), pan), ""))
				}
			}
		}
	}
	b.run(trials)
	verified := 0
	for i, t := range trials {
		switch {
		case i%4 == 0 && (t.op.Err != nil || t.op.Verified.Verified), i%4 == 1 && (t.op.Err != nil || t.op.Changed.Verified || t.op.Changed.Datum != ""),
			i%4 == 2 && fault.Of(t.op.Err).Reason != fault.PINBlockInvalid, i%4 == 3 && !t.op.Verified.Verified:
			b.Errorf("%s: %+v, %+v, %v", t.name, t.op.Verified, t.op.Changed, t.op.Err)
		case i%4 == 3:
			verified++
		}
	}
	if want := len(trials) / 4; verified != want || want < 600 || tried["PVV 0000"] > 5 {
		b.Errorf("%d of %d PINs beside them are right, %d PVVs are 0000", verified, want, tried["PVV 0000"])
	}
}

// change changes anything, as often as not of a current PIN that is right.
func (b *bench) change() trial {
	f := b.format()
	value := ""
	if b.random.IntN(3) == 0 {
		value = b.digits(4)
	}
	return b.exchange(b.side(f), b.side(f), b.pan(), [2][]byte{b.anyField(f), b.anyField(f)}, value)
}

// exchange is the change of the PIN in one field to that in another, by a PVV or by the current PIN's
// own.
func (b *bench) exchange(in, renewed side, pan string, fields [2][]byte, value string) trial {
	k, index := b.verifier(), uint8(b.random.IntN(10))
	current, _, ok := read(in.Format, fields[0])
	next, _, nextOK := read(renewed.Format, fields[1])
	if value == "" {
		if value = "0000"; ok {
			value = pvv(k.value, pan, index, current)
		}
	}
	op := &pinops.Operation{Change: &hsm.ChangePIN{Incoming: in.PINKey, NewIncoming: renewed.PINKey, Verification: k.Key, PAN: pan,
		Current: in.seal(in.Format, fields[0], pan), New: renewed.seal(renewed.Format, fields[1], pan), VisaPVV: &hsm.VisaPVV{KeyIndex: index, PVV: value}}}
	name := fmt.Sprintf("change in %v (%s, %s), PAN %s, fields %X and %X, PVV %s", in.Format, in.Key.Name, renewed.Key.Name, pan, fields[0], fields[1], value)
	verified := ok && isDecimal(current) && value == pvv(k.value, pan, index, current)
	return trial{name, op, func() {
		var want fault.Reason
		if !ok || !nextOK || verified && !isDecimal(next) {
			want = fault.PINBlockInvalid
		}
		if !b.outcome(name, op, want) {
			if op.Changed != (hsm.ChangedPIN{}) {
				b.Errorf("%s: a refusal with an answer: %+v", name, op.Changed)
			}
			return
		}
		datum := ""
		if verified {
			datum = pvv(k.value, pan, index, next)
		}
		if op.Changed.Verified != verified || op.Changed.Datum != datum {
			b.Errorf("%s: %+v, want %t, %q", name, op.Changed, verified, datum)
		}
	}}
}
