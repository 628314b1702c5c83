package pinblock

import (
	"bytes"
	"encoding/gob"
	"strings"
	"testing"
	"unsafe"
)

func TestSetDigits(t *testing.T) {
	for length := range 20 {
		digits := "12345678901234567890"[:length]
		pin := filledPIN(t)
		err := pin.SetDigits([]byte(digits))
		if valid := length >= 4 && length <= 12; valid {
			if err != nil || ascii(pin) != digits || !pin.Decimal() {
				t.Errorf("%d digits: %v", length, err)
			}
		} else if err != ErrPIN || *pin != (PIN{}) {
			t.Errorf("%d digits: %v, want ErrPIN and an empty PIN", length, err)
		}
	}
	for c := range 256 {
		if c >= '0' && c <= '9' {
			continue
		}
		for at := range 6 {
			digits := []byte("123456")
			digits[at] = byte(c)
			pin := filledPIN(t)
			if err := pin.SetDigits(digits); err != ErrPIN || *pin != (PIN{}) {
				t.Fatalf("byte %#x at %d: %v, want ErrPIN and an empty PIN", c, at, err)
			}
		}
	}
}

func TestEqual(t *testing.T) {
	pins := []string{"1234", "1235", "0234", "12340", "123400000000"}
	for _, a := range pins {
		for _, b := range pins {
			var p, q PIN
			setPIN(t, &p, a)
			setPIN(t, &q, b)
			if p.Equal(&q) != (a == b) {
				t.Errorf("%s equals %s: %t", a, b, p.Equal(&q))
			}
		}
	}
	var empty PIN
	if empty.Equal(&PIN{}) || empty.Equal(filledPIN(t)) || filledPIN(t).Equal(&empty) {
		t.Error("an empty PIN equals something")
	}
	if empty.Decimal() || empty.Len() != 0 {
		t.Error("an empty PIN has digits")
	}
}

func TestDestroy(t *testing.T) {
	var slot [PINSize]byte
	pin := PINIn(&slot)
	setPIN(t, pin, "123456")
	if slot == ([PINSize]byte{}) {
		t.Fatal("the PIN does not lie in the slot")
	}
	for _, i := range []int{-1, 6, 11, 12, 15, 1 << 20} {
		if pin.Digit(i) != 0 {
			t.Errorf("digit %d is %d", i, pin.Digit(i))
		}
	}
	pin.Destroy()
	if slot != ([PINSize]byte{}) || pin.Len() != 0 {
		t.Error("something is left")
	}
}

// TestLayout: what PINIn relies on.
func TestLayout(t *testing.T) {
	if s, a := unsafe.Sizeof(PIN{}), unsafe.Alignof(PIN{}); s != PINSize || a != 1 {
		t.Errorf("size %d, alignment %d", s, a)
	}
}

// TestPINIsRedacted: no way to print a PIN shows a digit of it.
func TestPINIsRedacted(t *testing.T) {
	var pin PIN
	setPIN(t, &pin, "987654321098")
	for _, v := range []any{pin, &pin, []PIN{pin}, map[string]PIN{"k": pin}, struct{ P PIN }{pin}} {
		for _, out := range printed(t, v) {
			if !strings.Contains(out, "[REDACTED]") {
				t.Errorf("%T printed as %s", v, out)
			}
		}
	}
	var out bytes.Buffer
	if err := gob.NewEncoder(&out).Encode(pin); err == nil {
		t.Error("gob encodes a PIN")
	}
}
