package eavesdrop

import "strings"

// bits is what is known of a value, from its left: 0, 1 or unknown.
type bits []int8

const unknown int8 = -1

func nothing(n int) bits {
	b := make(bits, n)
	for i := range b {
		b[i] = unknown
	}
	return b
}

func bitsOf(value []byte) bits {
	b := make(bits, 8*len(value))
	for i := range b {
		b[i] = int8(value[i/8] >> (7 - i%8) & 1)
	}
	return b
}

// value returns it where all of it is known.
func (b bits) value() ([]byte, bool) {
	if len(b) == 0 || len(b)%8 != 0 {
		return nil, false
	}
	out := make([]byte, len(b)/8)
	for i, bit := range b {
		if bit == unknown {
			return nil, false
		}
		out[i/8] |= byte(bit) << (7 - i%8)
	}
	return out, true
}

// unknown is how many are not known.
func (b bits) unknown() (n int) {
	for _, bit := range b {
		if bit == unknown {
			n++
		}
	}
	return n
}

// missing are the places of what is not known.
func (b bits) missing() (places []int) {
	for i, bit := range b {
		if bit == unknown {
			places = append(places, i)
		}
	}
	return places
}

// hex writes digits, with a point for each that is not known as a whole.
func (b bits) hex() string {
	var out strings.Builder
	for i := 0; i+4 <= len(b); i += 4 {
		digit := 0
		for _, bit := range b[i : i+4] {
			if bit == unknown {
				digit = -1
				break
			}
			digit = digit<<1 | int(bit)
		}
		if digit < 0 {
			out.WriteByte('.')
		} else {
			out.WriteByte("0123456789abcdef"[digit])
		}
	}
	return out.String()
}

// pattern reads hex digits, of which points are not known.
func pattern(text string) bits {
	b := nothing(4 * len(text))
	for i, c := range []byte(strings.ToLower(text)) {
		if digit := strings.IndexByte("0123456789abcdef", c); digit >= 0 {
			for j := range 4 {
				b[4*i+j] = int8(digit >> (3 - j) & 1)
			}
		}
	}
	return b
}
