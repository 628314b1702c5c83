package voidtoken

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Sizes.
const (
	VoidSize = 16 // bytes of a void's identifier
	MaxName  = 64 // characters of merchant, terminal, reference and subject
)

// digestTag stands before the fields of a void where their digest is made.
const digestTag = "keyd void 1\x00"

// ErrFields is returned for fields that no void has. It is wrapped in an error that names the
// field and how it is written.
var ErrFields = errors.New("no void has these fields")

// Fields are what a void is bound to.
type Fields struct {
	Void      string   `json:"void"`      // its identifier: 32 lower-case hex digits
	Merchant  string   `json:"merchant"`  // see [ValidName]
	Terminal  string   `json:"terminal"`  // likewise
	Reference string   `json:"reference"` // of the payment that is voided, likewise
	Amount    int64    `json:"amount"`    // minor units, more than 0
	Currency  Currency `json:"currency"`
}

// Validate checks the fields. The error wraps [ErrFields].
func (f *Fields) Validate() error {
	if problem := f.problem(); problem != "" {
		return fmt.Errorf("%w: %s", ErrFields, problem)
	}
	return nil
}

// problem says what is wrong with the first field that is.
func (f *Fields) problem() string {
	const name = "has 1 to 64 letters, digits and ._-, the first a letter or a digit"
	switch {
	case !lowerHex(f.Void, VoidSize):
		return "void has 32 lower-case hex digits"
	case !ValidName(f.Merchant):
		return "merchant " + name
	case !ValidName(f.Terminal):
		return "terminal " + name
	case !ValidName(f.Reference):
		return "reference " + name
	case f.Amount <= 0:
		return "amount is in minor units, more than 0"
	case !f.Currency.Valid():
		return "currency is the number of a currency in use (ISO 4217)"
	}
	return ""
}

// Digest returns what a terminal makes its MAC over: see the package comment. The error is that
// of [Fields.Validate].
func (f *Fields) Digest() ([sha256.Size]byte, error) {
	b, err := f.binary()
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return sha256.Sum256(b), nil
}

// binary returns what the digest is over.
func (f *Fields) binary() ([]byte, error) {
	if err := f.Validate(); err != nil {
		return nil, err
	}
	void, err := hex.DecodeString(f.Void)
	if err != nil {
		return nil, ErrFields
	}
	b := append([]byte(digestTag), void...)
	for _, s := range []string{f.Merchant, f.Terminal, f.Reference} {
		b = append(b, byte(len(s)))
		b = append(b, s...)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(f.Amount))
	return binary.BigEndian.AppendUint16(b, uint16(f.Currency)), nil
}

// ValidName reports whether a text is 1 to 64 letters, digits and ._-, the first of which is a
// letter or a digit. Fields of fixed width lose their padding first.
func ValidName(s string) bool {
	if len(s) == 0 || len(s) > MaxName || strings.ContainsRune("._-", rune(s[0])) {
		return false
	}
	for i := range len(s) {
		if !letter(s[i]) && !digit(s[i]) && !separator(s[i]) {
			return false
		}
	}
	return true
}

// ValidSubject reports whether a text can stand for a person: a name ([ValidName]) that begins
// with a letter and nowhere has 12 digits in a row, separators not counted. So it is no PIN and
// no PAN. It is asked where a subject comes to be: a random reference in hex may have 12 digits
// in a row, one in base32 has them once in many millions.
func ValidSubject(s string) bool {
	if !ValidName(s) || !letter(s[0]) {
		return false
	}
	run := 0
	for i := range len(s) {
		switch {
		case digit(s[i]):
			run++
		case !separator(s[i]):
			run = 0
		}
		if run >= 12 { // the shortest PAN of a card (ISO/IEC 7812-1)
			return false
		}
	}
	return true
}

func letter(c byte) bool    { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
func digit(c byte) bool     { return '0' <= c && c <= '9' }
func separator(c byte) bool { return c == '.' || c == '_' || c == '-' }

func lowerHex(s string, size int) bool {
	return len(s) == 2*size && strings.Trim(s, "0123456789abcdef") == ""
}
