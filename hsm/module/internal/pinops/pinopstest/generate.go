package pinopstest

import (
	"fmt"
	"math"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinops"
)

// generation makes a PIN of a length; what it is goes to pins.
func (b *bench) generation(length int, fills *fills, pins *[]string) trial {
	out, pan, k, index := b.side(b.format()), b.pan(), b.verifier(), uint8(b.random.IntN(10))
	op := &pinops.Operation{Generate: &hsm.GeneratePIN{Outgoing: out.PINKey, Generation: k.Key, PAN: pan, Length: uint8(length), VisaPVV: &hsm.VisaPVV{KeyIndex: index}}}
	name := fmt.Sprintf("generation of %d digits in %v (%s), PAN %s", length, out.Format, out.Key.Name, pan)
	return trial{name, op, func() {
		if !b.outcome(name, op, fault.Reason(0)) {
			return
		}
		if len(op.Generated.Block) != out.Format.BlockSize() {
			b.Errorf("%s: a block of %d bytes", name, len(op.Generated.Block))
			return
		}
		field := out.open(out.Format, op.Generated.Block, pan)
		pin, fill, ok := read(out.Format, field)
		if !ok || len(pin) != length || !isDecimal(pin) {
			b.Errorf("%s: the block that leaves has the field %X", name, field)
			return
		}
		fills.take(out.Format, fill, field)
		if want := pvv(k.value, pan, index, pin); op.Generated.Datum != want {
			b.Errorf("%s: PIN %s, datum %q, want %s", name, pin, op.Generated.Datum, want)
		}
		if pins != nil {
			*pins = append(*pins, pin)
		}
	}}
}

// generated makes two thousand PINs: each digit is as likely as any other at each place.
func (b *bench) generated() {
	const each = 1000
	fills := newFills()
	for _, length := range []int{4, 12} {
		var pins []string
		trials := make([]trial, each)
		for i := range trials {
			trials[i] = b.generation(length, fills, &pins)
		}
		if b.run(trials); len(pins) != each {
			b.Fatalf("%d PINs of %d", len(pins), each)
		}
		// Seven standard deviations: less than one run in ten billion fails by chance.
		expected, most := each/10.0, 7*math.Sqrt(each*0.1*0.9)
		different := map[string]bool{}
		for _, pin := range pins {
			different[pin] = true
		}
		for at := range length {
			var counts [10]int
			for _, pin := range pins {
				counts[pin[at]-'0']++
			}
			for digit, n := range counts {
				if n == 0 || math.Abs(float64(n)-expected) > most {
					b.Errorf("digit %d of %d: %d comes %d times in %d PINs", at+1, length, digit, n, each)
				}
			}
		}
		if len(different) < each*9/10 { // of ten thousand PINs, a thousand are 951 different ones on average
			b.Errorf("%d different PINs of %d digits among %d", len(different), length, each)
		}
	}
	fills.judge(b)
}
