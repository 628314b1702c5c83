package pinverify

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"unsafe"

	"keyd/pinblock"
)

// Sizes in bytes.
const (
	ValidationSize = 8  // validation data, clear and enciphered
	NaturalSize    = 16 // a [Natural] in memory
)

// ErrOffset reports an offset that is not 4 to 12 decimal digits.
var ErrOffset = errors.New("offset must have 4 to 12 decimal digits")

const redacted = "[REDACTED]"

// Natural is the intermediate PIN of IBM 3624: 16 decimal digits, of which the leftmost
// n are the natural PIN of n digits. It is a secret. It holds no pointer and has
// [NaturalSize] bytes and alignment 1, so that it can lie in locked memory: see
// [NaturalIn]. Its zero value holds none and verifies nothing.
type Natural struct {
	d [NaturalSize]byte // ASCII digits, so that no digit is zero
}

// NaturalIn returns the Natural that lies in slot, for memory that is locked and outside
// the Go heap. The slot holds zeros or what this package wrote to it.
func NaturalIn(slot *[NaturalSize]byte) *Natural { return (*Natural)(unsafe.Pointer(slot)) }

// NaturalPIN sets dst to the digits that the decimalisation table gives for the
// enciphered validation data. The table is scanned for each digit, so that the memory
// that is read does not depend on it. The error is [ErrNoRule] for the zero IBM3624;
// dst is then destroyed.
func (m *IBM3624) NaturalPIN(dst *Natural, enciphered *[ValidationSize]byte) error {
	dst.Destroy()
	if m.length == 0 {
		return ErrNoRule
	}
	for i := range dst.d {
		from := digit(enciphered, i)
		for at, to := range m.table {
			dst.d[i] |= ('0' + to) & byte(-subtle.ConstantTimeByteEq(byte(at), from))
		}
	}
	return nil
}

// Verify reports whether the PIN belongs to the offset of 4 to 12 ASCII digits, whose
// length m is the check length: the rightmost m of the PIN's n digits equal the
// rightmost m of the leftmost n digits of the intermediate PIN, plus the offset digit by
// digit modulo 10. Digits to the left of these are not compared. It is false for a PIN
// of fewer than m digits and for one with a digit above 9, whether or not that digit is
// compared. The error is [ErrOffset].
//
// Which digits a longer PIN has compared, and the refusal of a shorter one, follow IBM's
// definition of the method (z/OS ICSF Application Programmer's Guide, "3624 PIN
// Verification Algorithm", and the extraction rules of Encrypted PIN Verify). CCA Basic
// Services 2.54, appendix E ("begins with the low order PIN digit"), and AWS Payment
// Cryptography agree.
func (n *Natural) Verify(pin *pinblock.PIN, offset string) (bool, error) {
	check := len(offset)
	if check < pinblock.MinPINLen || check > pinblock.MaxPINLen || !decimalDigits(offset) {
		return false, ErrOffset
	}
	// Every length that the PIN can have is tried, and the result of its own kept:
	// where a digit is compared must not follow from the length.
	ok := 0
	for length := check; length <= pinblock.MaxPINLen; length++ {
		equal := subtle.ConstantTimeEq(int32(length), int32(pin.Len()))
		for i := range check {
			at := length - check + i
			sum := n.d[at] - '0' + offset[i] - '0'
			sum -= 10 & byte(-subtle.ConstantTimeLessOrEq(10, int(sum)))
			equal &= subtle.ConstantTimeByteEq(sum, pin.Digit(at))
		}
		ok |= equal
	}
	ok &= bit(pin.Decimal())
	ok &= 1 - subtle.ConstantTimeByteEq(n.d[0], 0) // destroyed
	return ok == 1, nil
}

// PutOffset writes the offset of a PIN to dst as ASCII digits; the length of dst is the
// check length, 4 to 12 and at most the PIN's. The PIN has digits from 0 to 9 only. The
// error is [ErrOffset], and dst is then zero.
func (n *Natural) PutOffset(dst []byte, pin *pinblock.PIN) error {
	clear(dst)
	length := pin.Len()
	if len(dst) < pinblock.MinPINLen || len(dst) > length || !pin.Decimal() || n.d[0] == 0 {
		return ErrOffset
	}
	for i := range dst {
		at := length - len(dst) + i
		sum := 10 + pin.Digit(at) - (n.d[at] - '0')
		dst[i] = '0' + sum - 10&byte(-subtle.ConstantTimeLessOrEq(10, int(sum)))
	}
	return nil
}

// Destroy overwrites the digits with zeros.
func (n *Natural) Destroy() { clear(n.d[:]) }

// String returns a fixed text, as does every other way to print a Natural.
func (Natural) String() string { return redacted }

// GoString returns a fixed text.
func (Natural) GoString() string { return redacted }

// Format prints a fixed text for every verb and flag.
func (Natural) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// LogValue returns a fixed text.
func (Natural) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns a fixed text.
func (Natural) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText returns a fixed text.
func (Natural) MarshalText() ([]byte, error) { return []byte(redacted), nil }
