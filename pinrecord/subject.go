package pinrecord

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"

	"keyd/voidtoken"
)

// Kind is what a subject's PIN, or passkey, is for.
type Kind string

// The kinds.
const (
	Supervisor Kind = "SUPERVISOR" // who authorises at a merchant's terminals
	Cardholder Kind = "CARDHOLDER" // where the issuer keeps no other datum
	Passkey    Kind = "PASSKEY"    // a supervisor's passkey, which is no PIN: see [PasskeyRecord]
)

// kinds has the byte of each in digests.
var kinds = map[Kind]byte{Supervisor: 1, Cardholder: 2, Passkey: 3}

// Lengths of PINs, in digits.
const (
	MinSupervisorPIN = 6
	MinCardholderPIN = 4
	MaxPIN           = 12
)

// MaxVersion is the last version that a subject's record can have.
const MaxVersion = 1000

// NumberSize is the number of digits of a subject's number.
const NumberSize = 16

// ErrSubject is wrapped by errors about a subject, which say how it is written.
var ErrSubject = errors.New("no subject of a PIN record")

// Subject is whose PIN a record is about.
type Subject struct {
	Kind     Kind   `json:"kind"`
	Merchant string `json:"merchant,omitempty"` // needed but for a cardholder; see [voidtoken.ValidName]
	Terminal string `json:"terminal,omitempty"` // empty is every terminal of the merchant; a cardholder has none
	Name     string `json:"name"`               // see [voidtoken.ValidSubject]
}

// Validate checks a subject. The error wraps [ErrSubject].
func (s *Subject) Validate() error {
	const name = "has 1 to 64 letters, digits and ._-, the first a letter or a digit"
	switch {
	case kinds[s.Kind] == 0:
		return fmt.Errorf("%w: kind is SUPERVISOR, CARDHOLDER or PASSKEY", ErrSubject)
	case s.Kind != Cardholder && s.Merchant == "":
		return fmt.Errorf("%w: a supervisor is one of a merchant, and so is who has a passkey", ErrSubject)
	case s.Merchant != "" && !voidtoken.ValidName(s.Merchant):
		return fmt.Errorf("%w: merchant %s", ErrSubject, name)
	case s.Kind == Cardholder && s.Terminal != "":
		return fmt.Errorf("%w: a cardholder belongs to no terminal", ErrSubject)
	case s.Terminal != "" && !voidtoken.ValidName(s.Terminal):
		return fmt.Errorf("%w: terminal %s", ErrSubject, name)
	case !voidtoken.ValidSubject(s.Name):
		return fmt.Errorf("%w: name has 1 to 64 letters, digits and ._-, begins with a letter, and is no PAN", ErrSubject)
	}
	return nil
}

// Digest returns the digest of a valid subject, see the package comment.
func (s *Subject) Digest() [sha256.Size]byte {
	b := append([]byte("keyd pin subject 1\x00"), kinds[s.Kind])
	for _, text := range []string{s.Merchant, s.Terminal, s.Name} {
		b = append(append(b, byte(len(text))), text...)
	}
	return sha256.Sum256(b)
}

// Number returns what stands in PIN blocks where others have a PAN.
func (s *Subject) Number() string {
	digest := s.Digest()
	n := new(big.Int).SetBytes(digest[:])
	text := fmt.Sprintf("0%014d", n.Mod(n, big.NewInt(1e14)))
	return text + string(luhn(text))
}

// luhn returns the check digit of the digits before it (ISO/IEC 7812-1 annex B).
func luhn(digits string) byte {
	sum := 0
	for i := range len(digits) {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 0 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return '0' + byte((10-sum%10)%10)
}

// MinPIN is how many digits the subject's PIN has at least.
func (s *Subject) MinPIN() int {
	if s.Kind == Cardholder {
		return MinCardholderPIN
	}
	return MinSupervisorPIN
}

// Serves reports whether the subject may authorise a void with these fields: a supervisor one of
// the merchant, and of the terminal if it is one of a terminal; a cardholder of a merchant's likewise.
func (s *Subject) Serves(f *voidtoken.Fields) bool {
	return (s.Merchant == "" || s.Merchant == f.Merchant) && (s.Terminal == "" || s.Terminal == f.Terminal)
}
