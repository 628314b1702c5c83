package officer

import (
	"crypto/subtle"
	"errors"
)

// Fingerprint is a SHA-256 that people compare.
type Fingerprint [32]byte

// String returns 64 upper-case hex digits in groups of four: "1F2A 77B0 …".
func (f Fingerprint) String() string {
	text := make([]byte, 0, 79)
	for i, b := range f {
		if i > 0 && i%2 == 0 {
			text = append(text, ' ')
		}
		text = append(text, digit(b>>4), digit(b&15))
	}
	return string(text)
}

// Equal compares in constant time.
func (f Fingerprint) Equal(other Fingerprint) bool {
	return subtle.ConstantTimeCompare(f[:], other[:]) == 1
}

// ParseFingerprint reads 64 hex digits of either case, with white space and colons
// anywhere in between.
func ParseFingerprint(text string) (Fingerprint, error) {
	var f Fingerprint
	digits := 0
	for i := range len(text) {
		switch c := text[i]; c {
		case ' ', '\t', '\r', '\n', ':':
		default:
			v, ok := nibble(c)
			if !ok || digits == 2*len(f) {
				return Fingerprint{}, errFingerprint
			}
			f[digits/2] = f[digits/2]<<4 | v
			digits++
		}
	}
	if digits != 2*len(f) {
		return Fingerprint{}, errFingerprint
	}
	return f, nil
}

var errFingerprint = errors.New("a fingerprint has 64 hex digits, in groups or with colons if you like")

// MarshalText returns what String does.
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads what [ParseFingerprint] does.
func (f *Fingerprint) UnmarshalText(text []byte) (err error) {
	*f, err = ParseFingerprint(string(text))
	return err
}
