package pinblock

import (
	"bytes"
	"testing"
)

// fuzzDecode asserts for any bytes: no panic, one error, nothing returned with it, and
// for what is accepted that encoding gives the same bytes again.
func fuzzDecode(f *testing.F, format Format) {
	for _, seed := range []string{
		"041274EDCBA9876F", "0A1261032D82CBA9", "1512345EDCBA9876", "1C123456789012FF", "241234FFFFFFFFFF",
		"341215FEDCBA9876", "3C1261032D8226A9", "351261AAAAEDCBA9",
		"4812345678AAAAAA424D0369B23E2B4C", "441234ABCDEFABCD548ED7FD65495950", "041261AAAAEDCB", "",
	} {
		f.Add(unhex(f, seed), testPAN)
	}
	f.Fuzz(func(t *testing.T, block []byte, panText string) {
		pan, err := ParsePAN(panText)
		if err != nil && (err != ErrPAN || pan != (PAN{})) {
			t.Fatalf("ParsePAN: %v", err)
		}
		before := bytes.Clone(block)
		pin := filledPIN(t)
		err = Decode(pin, format, block, pan)
		if !bytes.Equal(block, before) {
			t.Fatal("the block was changed")
		}
		if err != nil {
			if err != ErrBlock || *pin != (PIN{}) {
				t.Fatalf("%v, PIN empty: %t", err, *pin == (PIN{}))
			}
			return
		}
		if n := pin.Len(); n < MinPINLen || n > MaxPINLen {
			t.Fatalf("PIN of %d digits", n)
		}
		random, again := randomOf(format, block, pan, pin.Len()), make([]byte, format.Size())
		if err := Encode(again, format, pin, pan, &random); err != nil || !bytes.Equal(again, block) {
			t.Fatalf("encoded %X, %v; want %X", again, err, block)
		}
	})
}

func FuzzDecodeISO0(f *testing.F) { fuzzDecode(f, ISO0) }
func FuzzDecodeISO1(f *testing.F) { fuzzDecode(f, ISO1) }
func FuzzDecodeISO3(f *testing.F) { fuzzDecode(f, ISO3) }
func FuzzDecodeISO4(f *testing.F) { fuzzDecode(f, ISO4) }

// FuzzParsePAN: what is accepted prints as it was, what is refused leaves nothing.
func FuzzParsePAN(f *testing.F) {
	for _, seed := range []string{testPAN, "1", "", "1234567890123456789", "12345678901234567890", "4111 1111"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePAN(s)
		switch {
		case err != nil && (err != ErrPAN || p != (PAN{})):
			t.Fatalf("%v", err)
		case err == nil && (p.Digits() != s || p.Len() != len(s)):
			t.Fatalf("%q became %q", s, p.Digits())
		}
	})
}
