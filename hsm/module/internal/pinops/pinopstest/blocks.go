package pinopstest

import (
	"fmt"
	"slices"
	"strings"

	"keyd/hsm"
)

const hexDigits = "0123456789ABCDEF"

// field writes a clear field, of digits that need not fit each other: control, length, digits, and
// fill up to 14 digits, which is cut.
func (b *bench) field(f hsm.Format, control, length int, digits, fill string) []byte {
	text := fmt.Sprintf("%X%X%s%s", control, length, digits, fill)[:16]
	if f == hsm.Format4 {
		return append(unhex(text), b.bytes(8)...)
	}
	return unhex(text)
}

// fill is one that the format has, of 14 digits.
func (b *bench) fill(f hsm.Format) string {
	switch f {
	case hsm.Format3:
		out := make([]byte, 14)
		for i := range out {
			out[i] = "ABCDEF"[b.random.IntN(6)]
		}
		return string(out)
	case hsm.Format4:
		return strings.Repeat("A", 14)
	}
	return strings.Repeat("F", 14)
}

// right is the field of a PIN.
func (b *bench) right(f hsm.Format, pin string) []byte {
	return b.field(f, int(f), len(pin), pin, b.fill(f))
}

// anyField is that of a PIN, mostly; else one that is malformed in a way, or random.
func (b *bench) anyField(f hsm.Format) []byte {
	pin := b.pin()
	switch b.random.IntN(8) {
	case 0:
		kinds := b.malformed(f, len(pin))
		return kinds[b.random.IntN(len(kinds))].field
	case 1:
		return b.bytes(f.BlockSize())
	case 2:
		return b.right(f, b.odd(pin, b.random.IntN(len(pin))))
	}
	return b.right(f, pin)
}

// pin is one of 4 to 12 decimal digits.
func (b *bench) pin() string { return b.digits(4 + b.random.IntN(9)) }

// odd is the PIN with a digit above 9 at a place.
func (b *bench) odd(pin string, at int) string {
	return pin[:at] + hexDigits[10+b.random.IntN(6):][:1] + pin[at+1:]
}

// pan is one of 1 to 19 digits.
func (b *bench) pan() string { return b.digits(1 + b.random.IntN(19)) }

// malformed is a field that is none, and why.
type malformed struct {
	why   string
	field []byte
}

// malformed returns every kind of field that is none, made of PINs of a length: each other control
// digit, each length that no PIN has, each wrong digit at each place of the fill.
func (b *bench) malformed(f hsm.Format, length int) (all []malformed) {
	add := func(why string, field []byte) {
		if _, _, ok := read(f, field); ok {
			b.Fatalf("%s, %v: the reference takes %X for a PIN", why, f, field)
		}
		all = append(all, malformed{why, field})
	}
	for control := range 16 {
		if control != int(f) {
			add(fmt.Sprintf("control digit %X", control), b.field(f, control, length, b.digits(length), b.fill(f)))
		}
	}
	for _, wrong := range []int{0, 1, 2, 3, 13, 14, 15} {
		add(fmt.Sprintf("length %d", wrong), b.field(f, int(f), wrong, b.digits(min(wrong, 14)), b.fill(f)))
	}
	for at := length; at < 14; at++ {
		for _, digit := range hexDigits {
			fill := []rune(b.fill(f)[:14-length])
			if fill[at-length] = digit; slices.Contains([]rune(map[hsm.Format]string{0: "F", 3: "ABCDEF", 4: "A"}[f]), digit) {
				continue
			}
			add(fmt.Sprintf("fill digit %d is %c", at, digit), b.field(f, int(f), length, b.digits(length), string(fill)))
		}
	}
	return all
}
