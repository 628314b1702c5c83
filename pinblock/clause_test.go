package pinblock

import (
	"errors"
	"fmt"
	"testing"
)

const (
	refused  = "" // instead of the digits of a PIN
	testPAN  = "5432101234567890"
	panXOR   = "0000210123456789" // its account field
	anything = "0123456789ABCDEF"
)

// TestISO9564_9_3_1_ControlField: each format is known by its control digit alone.
func TestISO9564_9_3_1_ControlField(t *testing.T) {
	for _, f := range []Format{ISO0, ISO1, ISO3, ISO4} {
		for control := range 16 {
			want := refused
			if control == int(f) {
				want = "1234"
			}
			checkField(t, f, fmt.Sprintf("%X41234%s", control, fillOf(f, 10)), want)
		}
	}
}

// TestISO9564_9_1_Length: 4 to 12 digits, and no other value of the length digit.
func TestISO9564_9_1_Length(t *testing.T) {
	const digits = "12345678901234" // as many as there is room for
	for _, f := range []Format{ISO0, ISO1, ISO3, ISO4} {
		for length := range 16 {
			n := min(length, len(digits))
			want := refused
			if length >= MinPINLen && length <= MaxPINLen {
				want = digits[:n]
			}
			checkField(t, f, fmt.Sprintf("%X%X%s%s", uint8(f), length, digits[:n], fillOf(f, 14-n)), want)
		}
	}
}

// TestISO9564_9_3_2_2_Fill and its kind: every value of every fill digit, at every PIN
// length. Format 0 has F, format 3 A to F (§9.3.5.2), format 4 A (§9.4.2.2.2), format 1
// anything (§9.3.3).
func TestISO9564_9_3_2_2_Fill(t *testing.T) {
	allowed := map[Format]string{ISO0: "F", ISO1: anything, ISO3: "ABCDEF", ISO4: "A"}
	for f, set := range allowed {
		for length := MinPINLen; length <= MaxPINLen; length++ {
			for at := length; at < digitsInField; at++ {
				for _, v := range anything {
					digits := []byte("123456789012"[:length] + fillOf(f, 14-length))
					digits[at] = byte(v)
					want := refused
					for _, a := range set {
						if v == a {
							want = "123456789012"[:length]
						}
					}
					checkField(t, f, fmt.Sprintf("%X%X%s", uint8(f), length, digits), want)
				}
			}
		}
	}
}

// TestISO9564_PINDigitsAreNotChecked: every value at every position of a PIN decodes,
// encodes to the same block again, and is seen by Decimal.
func TestISO9564_PINDigitsAreNotChecked(t *testing.T) {
	for _, f := range []Format{ISO0, ISO1, ISO3, ISO4} {
		for length := MinPINLen; length <= MaxPINLen; length++ {
			for at := range length {
				for v, c := range anything {
					digits := []byte("123456789012"[:length])
					digits[at] = byte(c)
					field := fmt.Sprintf("%X%X%s%s", uint8(f), length, digits, fillOf(f, 14-length))
					pin := checkField(t, f, field, string(digits))
					if pin.Decimal() != (v < 10) {
						t.Fatalf("%s: Decimal of %s is %t", f, digits, pin.Decimal())
					}
					block, pan := blockOf(t, f, field)
					random, again := randomOf(f, block, pan, length), make([]byte, f.Size())
					if err := Encode(again, f, pin, pan, &random); err != nil || string(again) != string(block) {
						t.Fatalf("%s: %s encodes to %X, %v; want %X", f, digits, again, err, block)
					}
				}
			}
		}
	}
}

// TestISO9564_9_3_2_3_AccountField: with another PAN the fill digits that lie under a
// changed digit are wrong, and format 0 refuses; digits that the account field leaves
// out, the check digit among them, do not matter.
func TestISO9564_9_3_2_3_AccountField(t *testing.T) {
	var pin, got PIN
	setPIN(t, &pin, "1234")
	block := make([]byte, BlockSize)
	if err := EncodeISO0(block, &pin, mustPAN(t, testPAN)); err != nil {
		t.Fatal(err)
	}
	for at := range len(testPAN) {
		for d := byte('0'); d <= '9'; d++ {
			digits := []byte(testPAN)
			digits[at] = d
			inField := at >= 3 && at < 15  // the 12 before the check digit
			underPIN := at == 3 || at == 4 // under the third and fourth PIN digit
			wantErr := d != testPAN[at] && inField && !underPIN
			err := DecodeISO0(&got, block, mustPAN(t, string(digits)))
			if wantErr != (err == ErrBlock) || wantErr == (err == nil) {
				t.Errorf("PAN digit %d as %c: %v", at, d, err)
			}
			if samePIN := got.Equal(&pin); err == nil && samePIN != (d == testPAN[at] || !inField) {
				t.Errorf("PAN digit %d as %c: same PIN is %t", at, d, samePIN)
			}
		}
	}
}

// TestISO9564_9_4_2_2_3_PANField: format 4 binds every digit of the PAN and its length.
func TestISO9564_9_4_2_2_3_PANField(t *testing.T) {
	fields := map[[Block4Size]byte]string{}
	for length := 1; length <= MaxPANLen; length++ {
		pans := []string{"9999999999999999999"[:length]}
		for at := range length {
			digits := []byte(pans[0])
			digits[at] = '8'
			pans = append(pans, string(digits))
		}
		for _, s := range pans {
			field := mustPAN(t, s).Field4()
			if other, ok := fields[field]; ok {
				t.Errorf("PANs %s and %s have the same field", s, other)
			}
			fields[field] = s
			if got, want := int(field[0]>>4), max(length-12, 0); got != want {
				t.Errorf("length digit %d for %d digits, want %d", got, length, want)
			}
		}
	}
}

// TestISO9564_9_4_2_3_WrongPAN: after two decipherments with the wrong PAN nothing of
// the PIN is left. (256 keys; that one of them leaves a well-formed field has a
// probability of 2^-36 at most, so these keys are fixed.)
func TestISO9564_9_4_2_3_WrongPAN(t *testing.T) {
	for k := range 256 {
		key := make([]byte, 16)
		key[0] = byte(k)
		var pin, got PIN
		setPIN(t, &pin, "1234")
		field := make([]byte, Block4Size)
		if err := EncodeISO4(field, &pin, &[RandomSize]byte{1, 2, 3, 4, 5, 6, 7, 8}); err != nil {
			t.Fatal(err)
		}
		block := encipher(t, ISO4, key, field, mustPAN(t, "4111111111111111"))
		if err := DecodeISO4(&got, decipher(t, ISO4, key, block, mustPAN(t, "4111111111111112"))); err != ErrBlock {
			t.Errorf("key %02X: %v, want ErrBlock", k, err)
		}
		if err := DecodeISO4(&got, decipher(t, ISO4, key, block, mustPAN(t, "4111111111111111"))); err != nil || !got.Equal(&pin) {
			t.Errorf("key %02X: %v with the right PAN", k, err)
		}
	}
}

// TestSize: a decoder takes its own size only, and so does an encoder.
func TestSize(t *testing.T) {
	for _, f := range []Format{ISO0, ISO1, ISO3, ISO4} {
		for size := range 34 {
			var random [RandomSize]byte
			block, pin := make([]byte, size), filledPIN(t)
			err := Encode(block, f, pin, mustPAN(t, testPAN), &random)
			if (err == nil) != (size == f.Size()) || err != nil && err != ErrBlock {
				t.Errorf("%s: Encode of %d bytes: %v", f, size, err)
			}
			if err != nil {
				for i := range block {
					block[i] = byte(f)<<4 | 4
				}
				if err := Decode(pin, f, block, mustPAN(t, testPAN)); err != ErrBlock {
					t.Errorf("%s: Decode of %d bytes: %v", f, size, err)
				}
				if *pin != (PIN{}) {
					t.Errorf("%s: PIN not empty after %d bytes", f, size)
				}
			}
			if err := mustPAN(t, testPAN).XORField4(make([]byte, size)); (err == nil) != (size == Block4Size) {
				t.Errorf("XORField4 of %d bytes: %v", size, err)
			}
		}
	}
}

// TestFormat: what is not 0, 1, 3 or 4 is refused by rule, and leaves nothing.
func TestFormat(t *testing.T) {
	for n := range 256 {
		f := Format(n)
		valid := n == 0 || n == 1 || n == 3 || n == 4
		if f.Valid() != valid || (f.Size() != 0) != valid {
			t.Errorf("%s: Valid %t, Size %d", f, f.Valid(), f.Size())
		}
		if want := fmt.Sprintf("ISO-%d", n); f.String() != want {
			t.Errorf("%q, want %q", f.String(), want)
		}
		if valid {
			continue
		}
		var random [RandomSize]byte
		pin, block := filledPIN(t), []byte{0x24, 0x12, 0x34, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
		if err := Encode(block, f, pin, PAN{}, &random); !errors.Is(err, ErrFormat) || string(block) != string(make([]byte, 8)) {
			t.Errorf("%s: Encode: %v, %X", f, err, block)
		}
		if err := Decode(pin, f, block, PAN{}); !errors.Is(err, ErrFormat) || *pin != (PIN{}) {
			t.Errorf("%s: Decode: %v", f, err)
		}
	}
}

// TestEncodeEmptyPIN: an empty PIN, and memory that no PIN can be in, is refused, and
// nothing stays in the block.
func TestEncodeEmptyPIN(t *testing.T) {
	for _, f := range []Format{ISO0, ISO1, ISO3, ISO4} {
		for length := range 256 {
			if length >= MinPINLen && length <= MaxPINLen {
				continue
			}
			slot := [PINSize]byte{byte(length), 1, 2, 3, 4}
			block, random := make([]byte, f.Size()), [RandomSize]byte{1, 2, 3, 4, 5, 6, 7, 8}
			for i := range block {
				block[i] = 0x55
			}
			if err := Encode(block, f, PINIn(&slot), mustPAN(t, testPAN), &random); err != ErrPIN {
				t.Errorf("%s, length %d: %v, want ErrPIN", f, length, err)
			}
			for _, b := range block {
				if b != 0 {
					t.Fatalf("%s, length %d: block is %X", f, length, block)
				}
			}
		}
	}
}

// checkField decodes a PIN field (16 hex digits) in the format and compares the digits,
// or wants ErrBlock and an empty PIN.
func checkField(t *testing.T, f Format, field, want string) *PIN {
	t.Helper()
	block, pan := blockOf(t, f, field)
	before := string(block)
	pin := filledPIN(t)
	err := Decode(pin, f, block, pan)
	if string(block) != before {
		t.Errorf("%s: %s: the block was changed", f, field)
	}
	if want == refused {
		if err != ErrBlock {
			t.Errorf("%s: %s: %v, want ErrBlock", f, field, err)
		}
		if *pin != (PIN{}) {
			t.Errorf("%s: %s: PIN not empty after a refusal", f, field)
		}
		return pin
	}
	if err != nil || ascii(pin) != want {
		t.Errorf("%s: %s: %s, %v; want %s", f, field, ascii(pin), err, want)
	}
	return pin
}

// blockOf makes a clear block of a PIN field of 16 hex digits, without the encoder.
func blockOf(t *testing.T, f Format, field string) ([]byte, PAN) {
	t.Helper()
	block := unhex(t, field)
	switch f {
	case ISO0, ISO3:
		for i, b := range unhex(t, panXOR) {
			block[i] ^= b
		}
		return block, mustPAN(t, testPAN)
	case ISO4:
		return append(block, 0, 1, 2, 3, 0xFC, 0xFD, 0xFE, 0xFF), PAN{}
	default:
		return block, PAN{}
	}
}

// fillOf returns n hex digits that the format accepts as fill.
func fillOf(f Format, n int) string {
	return map[Format]string{
		ISO0: "FFFFFFFFFFFFFF", ISO1: "0F1E2D3C4B5A69", ISO3: "ABCDEFABCDEFAB", ISO4: "AAAAAAAAAAAAAA",
	}[f][:n]
}

func setPIN(t testing.TB, p *PIN, digits string) {
	t.Helper()
	if err := p.SetDigits([]byte(digits)); err != nil {
		t.Fatal(err)
	}
}
