package pinrecords

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"keyd/pinblock"
	"keyd/pinrecord"
)

func isWeak(t testing.TB, digits string, s *pinrecord.Subject) bool {
	t.Helper()
	var pin pinblock.PIN
	if err := pin.SetDigits([]byte(digits)); err != nil {
		t.Fatalf("%s: %v", digits, err)
	}
	return weak(&pin, s)
}

func TestWeakPINs(t *testing.T) {
	s := &pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "shop-2718", Terminal: "t-90417", Name: "dora17"}
	number := s.Number()
	for _, pin := range []string{
		"000000", "123456", "888888", "666666", "111111111111", "654321", "012345", "987654", "890123", "210987", "135791", "246802", "1234567890", "121212", "123123", "12341234", "7171", "481481",
		"112233", "445566", "771144", "111222", "123321", "147258", "520131", "5201314", "520520", "159357", "88888866", "2580", "1004", "1234", "0000", "4321",
		number[:6], number[3:10], number[10:], number[:12], number[4:8], "271890", "090417", "002718", "271817", "000017", "2718",
	} {
		if !isWeak(t, pin, s) {
			t.Errorf("%s is taken", pin)
		}
	}
	for _, pin := range []string{"739104", "551872", "402913", "0394", "7391048625", "739104862517", "286041937508", "112358132134"} {
		if isWeak(t, pin, s) {
			t.Errorf("%s is refused", pin)
		}
	}
}

// Of all PINs few are refused: nobody looks long for one, and who knows which are refused has learned
// next to nothing.
func TestFewPINsAreWeak(t *testing.T) {
	s := &pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "merchant-8", Name: "dora"}
	for _, c := range []struct{ digits, step, most int }{{4, 1, 350}, {6, 17, 300}} { // 6 digits: one in 17
		found, all, looked := 0, 1, 0
		for range c.digits {
			all *= 10
		}
		for n := 0; n < all; n += c.step {
			looked++
			if isWeak(t, fmt.Sprintf("%0*d", c.digits, n), s) {
				found++
			}
		}
		if found < 100 || found > c.most {
			t.Errorf("%d of %d PINs with %d digits are refused", found, looked, c.digits)
		}
	}
}

func TestListOfWellKnownPINs(t *testing.T) {
	for i, pin := range wellKnown {
		if len(pin) < pinblock.MinPINLen || len(pin) > pinblock.MaxPINLen || strings.Trim(pin, "0123456789") != "" {
			t.Errorf("%q is no PIN", pin)
		}
		if slices.Contains(wellKnown[:i], pin) {
			t.Errorf("%s stands there twice", pin)
		}
	}
}
