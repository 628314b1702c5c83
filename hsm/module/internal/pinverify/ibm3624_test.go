package pinverify

import (
	"strings"
	"testing"

	"keyd/pinblock"

	"pgregory.net/rapid"
)

// naturalOf returns a Natural with these 16 digits.
func naturalOf(digits string) *Natural { return &Natural{d: [NaturalSize]byte([]byte(digits))} }

// TestCheckLengthShorterThanPIN: IBM's definition, "the rightmost m digits" of the n that
// the PIN has: those on the left are not compared, and the natural PIN is taken at the
// place of the digits that are.
func TestCheckLengthShorterThanPIN(t *testing.T) {
	natural := naturalOf("8037124404501000")
	for _, c := range []struct {
		pin, offset string
		want        bool
	}{
		{"8037", "0000", true},
		{"803712", "0000", true},  // 3712 against 3712
		{"993712", "0000", true},  // the two on the left are free
		{"998037", "0000", false}, // the leftmost natural digits are not the ones there
		{"803799", "0000", false}, // nor are the leftmost PIN digits compared
		{"994823", "1111", true},
		{"994823", "1112", false},
		{"99482", "01111", false}, // a longer offset compares more
		{"803712440450", "0000", true},
		{"999999990450", "0000", true},
		{"999999990451", "0000", false},
		{"803712440450", "000000000000", true},
		{"903712440450", "000000000000", false},
		{"803712440450", "00000000000", true},
		{"903712440450", "00000000000", true},
		{"813712440450", "00000000000", false},
		{"000000", "207398", true}, // modulo 10, without carry: 8+2, 0+0, 3+7, 7+3, 1+9, 2+8
		{"999999", "196287", true},
	} {
		if ok, err := natural.Verify(hexPIN(t, c.pin), c.offset); err != nil || ok != c.want {
			t.Errorf("PIN %s, offset %s: %t, %v; want %t", c.pin, c.offset, ok, err, c.want)
		}
	}
}

// TestIBM3624PINThatCannotVerify: shorter than the check length, with a digit above 9 at
// any place (compared or not), or empty.
func TestIBM3624PINThatCannotVerify(t *testing.T) {
	const digits = "803712440450"
	natural := naturalOf("8037124404501000")
	for length := pinblock.MinPINLen; length <= pinblock.MaxPINLen; length++ {
		for check := pinblock.MinPINLen; check <= pinblock.MaxPINLen; check++ {
			offset := strings.Repeat("0", check)
			if ok, err := natural.Verify(hexPIN(t, digits[:length]), offset); err != nil || ok != (check <= length) {
				t.Errorf("%d digits, check length %d: %t, %v", length, check, ok, err)
			}
			if ok, err := natural.Verify(new(pinblock.PIN), offset); err != nil || ok {
				t.Errorf("empty PIN: %t, %v", ok, err)
			}
			for at := range length {
				for _, d := range "ABCDEF" {
					pin := []byte(digits[:length])
					pin[at] = byte(d)
					if ok, err := natural.Verify(hexPIN(t, string(pin)), offset); err != nil || ok {
						t.Errorf("PIN %s, check length %d: %t, %v", pin, check, ok, err)
					}
				}
			}
		}
	}
}

// TestOffset: 4 to 12 ASCII digits.
func TestOffset(t *testing.T) {
	natural := naturalOf("8037124404501000")
	for length := range 20 {
		offset := strings.Repeat("0", length)
		_, err := natural.Verify(hexPIN(t, "803712440450"), offset)
		if valid := length >= 4 && length <= 12; valid != (err == nil) || err != nil && err != ErrOffset {
			t.Errorf("%d digits: %v", length, err)
		}
	}
	for c := range 256 {
		if c >= '0' && c <= '9' {
			continue
		}
		for at := range 6 {
			offset := []byte("000000")
			offset[at] = byte(c)
			if ok, err := natural.Verify(hexPIN(t, "803712"), string(offset)); err != ErrOffset || ok {
				t.Fatalf("byte %#x at %d: %t, %v", c, at, ok, err)
			}
		}
	}
}

// TestVerifyIsTheDefinition: the same answer as the method written plainly, for right
// and for nearly right PINs.
func TestVerifyIsTheDefinition(tb *testing.T) {
	rapid.Check(tb, func(t *rapid.T) {
		natural := rapid.StringMatching(`[0-9]{16}`).Draw(t, "natural")
		offset := rapid.StringMatching(`[0-9]{4,12}`).Draw(t, "offset")
		pin := []byte(rapid.StringMatching(`[0-9]{4,12}`).Draw(t, "pin"))
		m, n := len(offset), len(pin)
		if rapid.Bool().Draw(t, "make it right") {
			for i := max(n-m, 0); i < n; i++ {
				pin[i] = '0' + (natural[i]-'0'+offset[max(i-(n-m), 0)]-'0')%10
			}
			if rapid.Bool().Draw(t, "change a digit") {
				at := rapid.IntRange(0, n-1).Draw(t, "at")
				pin[at] = rapid.ByteRange('0', '9').Draw(t, "to")
			}
		}
		want := m <= n
		for i := 0; want && i < m; i++ {
			want = (natural[n-m+i]-'0'+offset[i]-'0')%10 == pin[n-m+i]-'0'
		}
		got, err := naturalOf(natural).Verify(hexPIN(tb, string(pin)), offset)
		if err != nil || got != want {
			t.Fatalf("%t, %v; want %t", got, err, want)
		}
	})
}

// TestNaturalPINIsTheTable: each digit through the table, for every table and value.
func TestNaturalPINIsTheTable(tb *testing.T) {
	rapid.Check(tb, func(t *rapid.T) {
		table := rapid.StringMatching(`[0-9]{16}`).Draw(t, "table")
		m := IBM3624{length: 1}
		for i := range m.table {
			m.table[i] = table[i] - '0'
		}
		enciphered := rapid.StringMatching(`[0-9A-F]{16}`).Draw(t, "enciphered")
		want := []byte(enciphered)
		for i, c := range want {
			want[i] = table[strings.IndexByte(hexDigits, c)]
		}
		got := naturalOf("9999999999999999")
		if err := m.NaturalPIN(got, (*[ValidationSize]byte)(unhex(tb, enciphered))); err != nil || string(got.d[:]) != string(want) {
			t.Fatalf("%s, %v; want %s", got.d[:], err, want)
		}
	})
}

// TestNoRule: the zero IBM3624 refuses and leaves nothing, and a Natural that holds
// nothing verifies nothing.
func TestNoRule(t *testing.T) {
	var m IBM3624
	data := [ValidationSize]byte{1, 2, 3}
	if err := m.PutValidationData(&data, mustPAN(t, "5432101234567890")); err != ErrNoRule || data != ([ValidationSize]byte{}) {
		t.Errorf("PutValidationData: %v, %X", err, data)
	}
	natural := naturalOf("8037124404501000")
	if err := m.NaturalPIN(natural, &data); err != ErrNoRule || natural.d != ([NaturalSize]byte{}) {
		t.Errorf("NaturalPIN: %v", err)
	}
	// Its zero bytes are 208 modulo 256 as digits: no PIN may be found for that.
	for _, pin := range []string{"0000", "8888", "2222"} {
		for _, offset := range []string{"0000", "8888", "2222"} {
			if ok, err := natural.Verify(hexPIN(t, pin), offset); err != nil || ok {
				t.Errorf("destroyed: %t, %v", ok, err)
			}
		}
	}
}
