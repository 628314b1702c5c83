package pinverify

import (
	"fmt"
	"strings"
	"testing"

	"keyd/pinblock"

	"pgregory.net/rapid"
)

func validRule() Rule {
	return Rule{DecimalizationTable: "0123456789012345", Start: 0, Length: 12, Pad: "F"}
}

func TestRuleValidate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Rule)
		want   error
	}{
		{"as it is", func(*Rule) {}, nil},
		{"table of 15", func(r *Rule) { r.DecimalizationTable = "012345678901234" }, ErrTable},
		{"table of 17", func(r *Rule) { r.DecimalizationTable = "01234567890123456" }, ErrTable},
		{"no table", func(r *Rule) { r.DecimalizationTable = "" }, ErrTable},
		{"table with a letter", func(r *Rule) { r.DecimalizationTable = "012345678901234A" }, ErrTable},
		{"table with a space", func(r *Rule) { r.DecimalizationTable = " 123456789012345" }, ErrTable},
		{"table with NUL", func(r *Rule) { r.DecimalizationTable = "012345678901234\x00" }, ErrTable},
		{"table with wide digits", func(r *Rule) { r.DecimalizationTable = "０１２３４5" }, ErrTable},
		{"8 different digits, 4 times at most", func(r *Rule) { r.DecimalizationTable = "0000111122334567" }, nil},
		{"7 different digits", func(r *Rule) { r.DecimalizationTable = "0000111122334566" }, ErrWeakTable},
		{"one digit 5 times", func(r *Rule) { r.DecimalizationTable = "0000012345678901" }, ErrWeakTable},
		{"all zeros", func(r *Rule) { r.DecimalizationTable = strings.Repeat("0", 16) }, ErrWeakTable},
		{"no digits", func(r *Rule) { r.Length = 0 }, ErrValidation},
		{"1 digit", func(r *Rule) { r.Length = 1 }, nil},
		{"16 digits", func(r *Rule) { r.Length = 16 }, nil},
		{"17 digits", func(r *Rule) { r.Length = 17 }, ErrValidation},
		{"the last digit", func(r *Rule) { r.Start, r.Length = 18, 1 }, nil},
		{"up to the last digit", func(r *Rule) { r.Start, r.Length = 3, 16 }, nil},
		{"beyond the last digit", func(r *Rule) { r.Start, r.Length = 4, 16 }, ErrValidation},
		{"start beyond", func(r *Rule) { r.Start, r.Length = 19, 1 }, ErrValidation},
		{"sum wraps", func(r *Rule) { r.Start, r.Length = 255, 1 }, ErrValidation},
		{"length 255", func(r *Rule) { r.Length = 255 }, ErrValidation},
		{"no pad", func(r *Rule) { r.Pad = "" }, ErrPad},
		{"two pads", func(r *Rule) { r.Pad = "AB" }, ErrPad},
		{"lower case", func(r *Rule) { r.Pad = "f" }, ErrPad},
		{"no digit", func(r *Rule) { r.Pad = "G" }, ErrPad},
		{"digit", func(r *Rule) { r.Pad = "0" }, nil},
	} {
		r := validRule()
		c.change(&r)
		if err := r.Validate(); err != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		m, err := NewIBM3624(r)
		if err != c.want || c.want != nil && m != (IBM3624{}) {
			t.Errorf("%s: NewIBM3624: %v, want %v", c.name, err, c.want)
		}
	}
}

// TestValidationData: the digits of the rule and then the pad, and a PAN must reach.
func TestValidationData(tb *testing.T) {
	rapid.Check(tb, func(t *rapid.T) {
		r := validRule()
		r.Length = rapid.Uint8Range(1, 16).Draw(t, "length")
		r.Start = rapid.Uint8Range(0, 19-r.Length).Draw(t, "start")
		r.Pad = rapid.StringMatching(`[0-9A-F]`).Draw(t, "pad")
		m, err := NewIBM3624(r)
		if err != nil {
			t.Fatal(err)
		}
		digits := rapid.StringMatching(`[0-9]{1,19}`).Draw(t, "pan")
		pan, err := pinblock.ParsePAN(digits)
		if err != nil {
			t.Fatal(err)
		}
		got := [ValidationSize]byte{1, 2, 3, 4, 5, 6, 7, 8}
		err = m.PutValidationData(&got, pan)
		end := int(r.Start) + int(r.Length)
		if len(digits) < end {
			if err != ErrPANTooShort || got != ([ValidationSize]byte{}) {
				t.Fatalf("%v, %X; want ErrPANTooShort", err, got)
			}
			return
		}
		want := digits[r.Start:end] + strings.Repeat(r.Pad, 16-int(r.Length))
		if s := fmt.Sprintf("%X", got[:]); err != nil || s != want {
			t.Fatalf("%s, %v; want %s", s, err, want)
		}
	})
}

// FuzzRule: whatever the rule says, it is refused with one of the four errors, or
// computes: every PAN gives validation data or the one error for it, and all 16 digits
// of a natural PIN are decimal.
func FuzzRule(f *testing.F) {
	f.Add("0123456789012345", uint8(0), uint8(12), "F", "5432101234567890", []byte("\x8A\x37\x12\xEE\x04\xF0\x10\xA0"))
	f.Add("1234567890123456", uint8(2), uint8(14), "1", "1122334455667788", []byte("\x00\x01\x02\x03\x04\x05\x06\x07"))
	f.Add("8351296477461538", uint8(3), uint8(16), "0", "1", []byte("\xE5\xC1\xBD\x67\xB6\x6A\xE7\xC6"))
	f.Add("", uint8(255), uint8(255), "", "", []byte{})
	f.Fuzz(func(t *testing.T, table string, start, length uint8, pad, panText string, enciphered []byte) {
		r := Rule{DecimalizationTable: table, Start: start, Length: length, Pad: pad}
		m, err := NewIBM3624(r)
		switch err {
		case nil:
		case ErrTable, ErrWeakTable, ErrValidation, ErrPad:
			if m != (IBM3624{}) {
				t.Fatal("something is returned with an error")
			}
			return
		default:
			t.Fatalf("unknown error %v", err)
		}
		if pan, err := pinblock.ParsePAN(panText); err == nil {
			var data [ValidationSize]byte
			err := m.PutValidationData(&data, pan)
			if (err == ErrPANTooShort) != (pan.Len() < int(start)+int(length)) || err != nil && err != ErrPANTooShort {
				t.Fatalf("PAN of %d digits: %v", pan.Len(), err)
			}
		}
		if len(enciphered) < ValidationSize {
			return
		}
		var natural Natural
		if err := m.NaturalPIN(&natural, (*[ValidationSize]byte)(enciphered)); err != nil {
			t.Fatal(err)
		}
		for i, d := range natural.d {
			if want := table[enciphered[i/2]>>(4*(1-i%2))&0xF]; d != want {
				t.Fatalf("digit %d is %c, want %c", i, d, want)
			}
		}
	})
}

// FuzzReferenceValue: a PVV or an offset is taken or refused with its error, and no
// refused one verifies.
func FuzzReferenceValue(f *testing.F) {
	for _, s := range []string{"6776", "3207", "000000000000", "", "12a4", "1234567890123"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		pvv, pin := [PVVSize]byte([]byte("6776")), hexPIN(t, "1234")
		ok, err := VerifyPVV(&pvv, pin, s)
		if want := s == "6776"; ok != want || err != nil && err != ErrPVV {
			t.Fatalf("VerifyPVV: %t, %v", ok, err)
		}
		if digits := strings.Trim(s, "0123456789") == ""; (err == nil) != (digits && len(s) == 4) {
			t.Fatalf("VerifyPVV: %v", err)
		}
		ok, err = naturalOf("8037124404501000").Verify(pin, s)
		if want := s == "3207"; ok != want || err != nil && err != ErrOffset {
			t.Fatalf("Verify: %t, %v", ok, err)
		}
		if digits := strings.Trim(s, "0123456789") == ""; (err == nil) != (digits && len(s) >= 4 && len(s) <= 12) {
			t.Fatalf("Verify: %v", err)
		}
	})
}
