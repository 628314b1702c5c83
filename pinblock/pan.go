package pinblock

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// MaxPANLen is the largest number of digits in a PAN (ISO/IEC 7812-1).
const MaxPANLen = 19

// ErrPAN reports a PAN that is not 1 to 19 decimal digits.
var ErrPAN = errors.New("PAN must have 1 to 19 decimal digits")

// PAN is a primary account number with its check digit. It is no secret inside the
// boundary, but cardholder data: every way to print it shows its last four digits at
// most, and [PAN.Digits] is the only way to its text. Values are comparable with ==.
// The zero PAN has no digits. Terminal and host.
type PAN struct {
	n uint8
	d [MaxPANLen]byte // 0 to 9, leftmost first; zero from n on
}

// ParsePAN takes 1 to 19 ASCII digits, the last of which is the check digit. The check
// digit is not verified. The error is [ErrPAN].
func ParsePAN(s string) (PAN, error) {
	var p PAN
	if len(s) < 1 || len(s) > MaxPANLen {
		return PAN{}, ErrPAN
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return PAN{}, ErrPAN
		}
		p.d[i] = s[i] - '0'
	}
	p.n = uint8(len(s))
	return p, nil
}

// Len returns the number of digits, check digit included.
func (p PAN) Len() int { return int(p.n) }

// Digit returns the digit at i, 0 to 9, where 0 is the leftmost, and 0 beyond the last.
func (p PAN) Digit(i int) byte {
	if i < 0 || i >= int(p.n) {
		return 0
	}
	return p.d[i]
}

// Digits returns the whole PAN as ASCII digits. It must not reach a log, an error or a
// label.
func (p PAN) Digits() string {
	b := make([]byte, p.n)
	for i := range b {
		b[i] = '0' + p.d[i]
	}
	return string(b)
}

// Account fills dst with the rightmost len(dst) digits before the check digit, one
// byte from 0 to 9 each, padded with zeros on the left. With 12 bytes it gives the
// digits of the account field of ISO 9564-1, with 11 the account part of Visa's
// transformed security parameter.
func (p PAN) Account(dst []byte) {
	for i := range dst {
		// The last byte of dst is the digit before the check digit.
		dst[i] = p.Digit(int(p.n) - 1 - len(dst) + i)
	}
}

// Field returns the account field of formats 0 and 3 (ISO 9564-1:2017 §9.3.2.3):
// four zero nibbles, then the rightmost 12 digits before the check digit.
func (p PAN) Field() [BlockSize]byte {
	var a [12]byte
	p.Account(a[:])
	var f [BlockSize]byte
	for i := range 6 {
		f[2+i] = a[2*i]<<4 | a[2*i+1]
	}
	return f
}

// Field4 returns the PAN field of format 4 (ISO 9564-1:2017 §9.4.2.2.3): a nibble that
// tells by how many digits the PAN is longer than 12, the PAN with its check digit,
// padded to 12 digits with zeros on the left, and zeros to 16 bytes.
func (p PAN) Field4() [Block4Size]byte {
	digits := max(int(p.n), 12)
	var f [Block4Size]byte
	f[0] = byte(digits-12) << 4
	for i := range digits {
		nibble := i + 1
		f[nibble/2] |= p.Digit(i-digits+int(p.n)) << (4 * (1 - nibble%2))
	}
	return f
}

// XORField4 XORs the PAN field of format 4 into the 16 bytes between the two AES
// layers, in place. The error is [ErrBlock] for any other size.
func (p PAN) XORField4(block []byte) error {
	if len(block) != Block4Size {
		return ErrBlock
	}
	f := p.Field4()
	subtle.XORBytes(block, block, f[:])
	return nil
}

// String masks all but the last four digits, and every digit of a PAN that has no more
// than four.
func (p PAN) String() string {
	if p.n <= 4 {
		return strings.Repeat("*", int(p.n))
	}
	return strings.Repeat("*", int(p.n)-4) + p.Digits()[p.n-4:]
}

// GoString is [PAN.String].
func (p PAN) GoString() string { return p.String() }

// Format prints [PAN.String] for every verb and flag.
func (p PAN) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, p.String()) }

// LogValue is [PAN.String].
func (p PAN) LogValue() slog.Value { return slog.StringValue(p.String()) }

// MarshalText is [PAN.String]; it also serves encoding/json.
func (p PAN) MarshalText() ([]byte, error) { return []byte(p.String()), nil }
