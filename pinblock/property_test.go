package pinblock

import (
	"bytes"
	"crypto/rand"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// drawn is a PIN with any digits, a PAN of any length, a format and its random bytes.
type drawn struct {
	format Format
	pin    PIN
	pan    PAN
	random [RandomSize]byte
}

func draw(t *rapid.T) drawn {
	d := drawn{format: rapid.SampledFrom([]Format{ISO0, ISO1, ISO3, ISO4}).Draw(t, "format")}
	digits := rapid.SliceOfN(rapid.ByteMax(15), MinPINLen, MaxPINLen).Draw(t, "digits")
	d.pin.b[0] = byte(len(digits))
	copy(d.pin.b[1:], digits)
	var err error
	if d.pan, err = ParsePAN(rapid.StringMatching(`[0-9]{1,19}`).Draw(t, "pan")); err != nil {
		t.Fatal(err)
	}
	copy(d.random[:], rapid.SliceOfN(rapid.Byte(), RandomSize, RandomSize).Draw(t, "random"))
	return d
}

func (d *drawn) encode(t *rapid.T) []byte {
	block := make([]byte, d.format.Size())
	if err := Encode(block, d.format, &d.pin, d.pan, &d.random); err != nil {
		t.Fatalf("Encode: %v", err)
	}
	return block
}

// TestDecodeOfEncodeIsIdentity for every format, PIN length, digit and PAN length.
func TestDecodeOfEncodeIsIdentity(tb *testing.T) {
	rapid.Check(tb, func(t *rapid.T) {
		d := draw(t)
		block := d.encode(t)
		var got PIN
		if err := Decode(&got, d.format, block, d.pan); err != nil || !got.Equal(&d.pin) {
			t.Fatalf("%s: %s became %s, %v", d.format, ascii(&d.pin), ascii(&got), err)
		}
		if control := block[0] >> 4; control != byte(d.format) {
			t.Fatalf("%s: control digit %d", d.format, control)
		}
	})
}

// TestEncipheredIsIdentity: the same through both AES layers or TDES.
func TestEncipheredIsIdentity(tb *testing.T) {
	rapid.Check(tb, func(t *rapid.T) {
		d := draw(t)
		key := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "key")
		clearBlock := d.encode(t)
		enciphered := encipher(tb, d.format, key, clearBlock, d.pan)
		if got := decipher(tb, d.format, key, enciphered, d.pan); !bytes.Equal(got, clearBlock) {
			t.Fatalf("%s: %X became %X", d.format, clearBlock, got)
		}
	})
}

// TestOneCorruptDigit: another control digit is refused in every format, as is a length
// that is out of range or makes a fill digit of a PIN digit that cannot be one, and a
// fill digit out of its range. Whatever is accepted differs only where the format
// leaves it open.
func TestOneCorruptDigit(tb *testing.T) {
	rapid.Check(tb, func(t *rapid.T) {
		d := draw(t)
		block := d.encode(t)
		at := rapid.IntRange(0, 15).Draw(t, "at")
		flip := byte(rapid.IntRange(1, 15).Draw(t, "flip"))
		block[at/2] ^= flip << (4 * (1 - at%2))
		got := *filledPIN(tb)
		err := Decode(&got, d.format, block, d.pan)

		length := d.pin.Len()
		var want error
		switch {
		case at == 0:
			want = ErrBlock
		case at == 1:
			want = corruptLength(d, length^int(flip))
		case at-2 >= length:
			value := fillValue(&d, at-2) ^ flip
			if !fillAllowed(d.format, value) {
				want = ErrBlock
			}
		}
		if err != want {
			t.Fatalf("%s: digit %d: %v, want %v", d.format, at, err, want)
		}
		switch {
		case err != nil && got != (PIN{}):
			t.Fatal("PIN not empty after a refusal")
		case err == nil && at-2 >= length && !got.Equal(&d.pin):
			t.Fatal("a fill digit changed the PIN")
		case err == nil && at < 2+length && got.Equal(&d.pin):
			t.Fatal("a change of the PIN was not seen")
		}
	})
}

// corruptLength says what Decode does with a field whose length digit alone is wrong.
func corruptLength(d drawn, length int) error {
	if length < MinPINLen || length > MaxPINLen {
		return ErrBlock
	}
	for i := length; i < d.pin.Len(); i++ {
		if !fillAllowed(d.format, d.pin.Digit(i)) {
			return ErrBlock
		}
	}
	return nil
}

func fillAllowed(f Format, v byte) bool {
	switch f {
	case ISO0:
		return v == 0xF
	case ISO1:
		return true
	case ISO3:
		return v >= 0xA
	default:
		return v == 0xA
	}
}

func fillValue(d *drawn, at int) byte {
	switch d.format {
	case ISO0:
		return 0xF
	case ISO1:
		return nibbleFill(&d.random)[at]
	case ISO3:
		return letterFill(&d.random)[at]
	default:
		return 0xA
	}
}

// TestISO9564_9_3_5_2_FillIsUniform: the 6^10 fractions that begin each sequence of fill
// digits are equally many but for rounding, so that counting a grid of them is exact:
// every digit at every position comes equally often. Real random bytes agree (chi-square
// with 5 degrees of freedom below 50: exceeded once in 10^9).
func TestISO9564_9_3_5_2_FillIsUniform(t *testing.T) {
	const sixes = 6 * 6 * 6 * 6 * 6
	for start := MinPINLen; start+5 <= digitsInField; start += 5 {
		seen := map[[5]byte]bool{}
		for k := range uint64(sixes) {
			fraction := k*(math.MaxUint64/sixes) + math.MaxUint64/sixes/2
			if start > MinPINLen { // the second five digits, after AAAAA
				fraction /= sixes
			}
			var random [RandomSize]byte
			for i := range random {
				random[i] = byte(fraction >> (56 - 8*i))
			}
			fill := letterFill(&random)
			for i := MinPINLen; i < digitsInField; i++ {
				if fill[i] < 0xA || fill[i] > 0xF {
					t.Fatalf("fill digit %X", fill[i])
				}
			}
			seen[[5]byte(fill[start:start+5])] = true
		}
		if len(seen) != sixes {
			t.Errorf("positions from %d: %d sequences, want %d", start, len(seen), sixes)
		}
	}

	const draws = 60_000
	var counts [digitsInField][16]float64
	for range draws {
		var random [RandomSize]byte
		if _, err := rand.Read(random[:]); err != nil {
			t.Fatal(err)
		}
		for i, d := range letterFill(&random) {
			counts[i][d]++
		}
	}
	for i := MinPINLen; i < digitsInField; i++ {
		chi := 0.0
		for d := 0xA; d <= 0xF; d++ {
			chi += (counts[i][d] - draws/6) * (counts[i][d] - draws/6) / (draws / 6)
		}
		if chi > 50 {
			t.Errorf("position %d: chi-square %.1f", i, chi)
		}
	}
}
