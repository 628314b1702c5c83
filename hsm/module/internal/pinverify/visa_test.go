package pinverify

import (
	"bytes"
	"strings"
	"testing"

	"keyd/pinblock"

	"pgregory.net/rapid"
)

// TestTSP: rightmost 11 PAN digits before the check digit, zeros before them, key index,
// leftmost 4 PIN digits.
func TestTSP(t *testing.T) {
	for _, c := range []struct {
		pan   string
		index int
		pin   string
		want  string
	}{
		{"1", 0, "1234", "0000000000001234"},
		{"12", 9, "1234", "0000000000191234"},
		{"12345678901", 1, "123456789012", "0123456789011234"},
		{"123456789012", 1, "98765", "1234567890119876"},
		{"1234567890123456789", 6, "0000", "8901234567860000"},
		{"1234567890123456789", 6, "ABCDEF", "890123456786ABCD"},
	} {
		var tsp [TSPSize]byte
		if err := PutTSP(&tsp, mustPAN(t, c.pan), c.index, hexPIN(t, c.pin)); err != nil {
			t.Error(err)
		}
		wantHex(t, "TSP", tsp, c.want)
	}
	for _, index := range []int{-1 << 62, -1, 10, 16, 256, 1 << 62} {
		tsp := [TSPSize]byte{1, 2, 3, 4, 5, 6, 7, 8}
		if err := PutTSP(&tsp, mustPAN(t, "12345"), index, hexPIN(t, "1234")); err != ErrKeyIndex || tsp != ([TSPSize]byte{}) {
			t.Errorf("index %d: %v, %X", index, err, tsp)
		}
	}
}

// TestTwoPassDecimalisation: all numbers of decimal digits that the first pass can meet.
func TestTwoPassDecimalisation(t *testing.T) {
	for _, c := range []struct{ enciphered, want string }{
		{"0123456789ABCDEF", "0123"}, // first pass only
		{"FEDCBA9876543210", "9876"},
		{"ABCDEF9ABCDEF8A7", "9870"}, // three, and the first letter
		{"ABCDEFFEDCBA9A8A", "9801"},
		{"FFFFFFFFFFFFFFF0", "0555"}, // one, the last
		{"FEDCBAABCDEFFEDC", "5432"}, // none
		{"AAAAAAAAAAAAAAAA", "0000"},
	} {
		got := [PVVSize]byte{0xFF, 0xFF, 0xFF, 0xFF}
		PutPVV(&got, (*[TSPSize]byte)(unhex(t, c.enciphered)))
		if string(got[:]) != c.want {
			t.Errorf("%s: %s, want %s", c.enciphered, got, c.want)
		}
	}
	// The plain way to write it gives the same.
	rapid.Check(t, func(rt *rapid.T) {
		digits := rapid.StringMatching(`[0-9A-F]{16}|[A-F]{8,16}[0-9A-F]{8}`).Draw(rt, "digits")[:16]
		var want []byte
		for i := range digits {
			if digits[i] <= '9' {
				want = append(want, digits[i])
			}
		}
		for i := range digits {
			if digits[i] > '9' {
				want = append(want, digits[i]-'A'+'0')
			}
		}
		var got [PVVSize]byte
		PutPVV(&got, (*[TSPSize]byte)(unhex(t, digits)))
		if !bytes.Equal(got[:], want[:4]) {
			rt.Fatalf("%s, want %s", got, want[:4])
		}
	})
}

// TestVisaPINThatCannotVerify: a digit above 9 anywhere in the PIN, also beyond the four
// that take part, and an empty PIN.
func TestVisaPINThatCannotVerify(t *testing.T) {
	pvv := [PVVSize]byte([]byte("1234"))
	for length := pinblock.MinPINLen; length <= pinblock.MaxPINLen; length++ {
		for at := range length {
			for _, d := range "ABCDEF" {
				digits := []byte("123456789012"[:length])
				if ok, err := VerifyPVV(&pvv, hexPIN(t, string(digits)), "1234"); err != nil || !ok {
					t.Fatalf("%s: %t, %v", digits, ok, err)
				}
				digits[at] = byte(d)
				if ok, err := VerifyPVV(&pvv, hexPIN(t, string(digits)), "1234"); err != nil || ok {
					t.Errorf("%s: %t, %v", digits, ok, err)
				}
			}
		}
	}
	if ok, err := VerifyPVV(&pvv, new(pinblock.PIN), "1234"); err != nil || ok {
		t.Errorf("empty PIN: %t, %v", ok, err)
	}
}

func TestExpectedPVV(t *testing.T) {
	var zero [PVVSize]byte
	for _, expected := range []string{"", "1", "123", "12345", "12A4", "12 4", "１234", "\x00\x00\x00\x00", strings.Repeat("1", 1000)} {
		if ok, err := VerifyPVV(&zero, hexPIN(t, "1234"), expected); err != ErrPVV || ok {
			t.Errorf("%q: %t, %v", expected, ok, err)
		}
	}
	if ok, err := VerifyPVV(&zero, hexPIN(t, "1234"), "0000"); err != nil || ok {
		t.Errorf("a PVV that was never written: %t, %v", ok, err)
	}
}
