package pinblock

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"unsafe"
)

// Numbers of digits in a PIN (ISO 9564-1:2017 §8.1).
const (
	MinPINLen = 4
	MaxPINLen = 12
)

// PINSize is the size of a [PIN] in memory, in bytes.
const PINSize = 16

// ErrPIN reports a PIN that does not have 4 to 12 digits or, where a person enters
// it, one that has a character other than a decimal digit.
var ErrPIN = errors.New("PIN must have 4 to 12 decimal digits")

const redacted = "[REDACTED]"

// PIN is a clear PIN: 4 to 12 digits from 0 to 15, or none. It holds no pointer, has
// [PINSize] bytes and alignment 1, so that it can lie anywhere in memory that the
// caller owns: see [PINIn]. Its zero value is empty.
//
// It prints as a fixed text, whatever the way, but fmt calls no method of an unexported
// field: a type that holds a PIN in one must not be printed. It is used in place,
// through a pointer: a copy is one more thing to destroy. Terminal and module.
type PIN struct {
	// b[0] is the length, b[1:13] one digit each, zero from the length on; the rest
	// is zero.
	b [PINSize]byte
}

// PINIn returns the PIN that lies in slot, for memory that is locked and outside the
// Go heap. The slot holds zeros or what this package wrote to it, and outlives the
// PIN.
func PINIn(slot *[PINSize]byte) *PIN { return (*PIN)(unsafe.Pointer(slot)) }

// SetDigits sets the PIN to 4 to 12 ASCII digits. The error is [ErrPIN], and the PIN
// is then empty. The caller wipes digits. Terminal side.
func (p *PIN) SetDigits(digits []byte) error {
	p.Destroy()
	if len(digits) < MinPINLen || len(digits) > MaxPINLen {
		return ErrPIN
	}
	bad := 0
	for _, c := range digits {
		bad |= 1 - decimal(c-'0')
	}
	keep := byte(bad - 1) // all ones, or zero
	for i, c := range digits {
		p.b[1+i] = (c - '0') & keep
	}
	p.b[0] = byte(len(digits)) & keep
	if bad != 0 {
		return ErrPIN
	}
	return nil
}

// Len returns the number of digits, 4 to 12, or 0 for an empty PIN.
func (p *PIN) Len() int { return int(p.b[0]) }

// Digit returns the digit at i, 0 to 15, where 0 is the leftmost, and 0 from the
// length of the PIN on. The index is not secret.
func (p *PIN) Digit(i int) byte {
	if i < 0 || i >= MaxPINLen {
		return 0
	}
	return p.b[1+i]
}

// Decimal reports whether the PIN has digits and all of them are from 0 to 9. A PIN
// for which it is false verifies as wrong and never becomes a reference value. The
// time does not depend on the digits.
func (p *PIN) Decimal() bool {
	ok := 1 - subtle.ConstantTimeByteEq(p.b[0], 0)
	for i := range MaxPINLen {
		ok &= decimal(p.b[1+i]) // zero beyond the length
	}
	return ok == 1
}

// Equal reports whether both PINs have the same digits, in constant time. Empty PINs
// equal nothing.
func (p *PIN) Equal(q *PIN) bool {
	eq := subtle.ConstantTimeCompare(p.b[:], q.b[:])
	return eq&^subtle.ConstantTimeByteEq(p.b[0], 0) == 1
}

// Destroy overwrites the PIN with zeros. It is then empty.
func (p *PIN) Destroy() { clear(p.b[:]) }

// String returns a fixed text. So does every other way to print a PIN; the receivers
// are values so that a dereferenced PIN is covered too.
func (PIN) String() string { return redacted }

// GoString returns a fixed text.
func (PIN) GoString() string { return redacted }

// Format prints a fixed text for every verb and flag.
func (PIN) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, redacted) }

// LogValue returns a fixed text.
func (PIN) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON returns a fixed text.
func (PIN) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText returns a fixed text.
func (PIN) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// decimal returns 1 if v is from 0 to 9, 0 otherwise.
func decimal(v byte) int { return subtle.ConstantTimeLessOrEq(int(v), 9) }
