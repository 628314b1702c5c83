package pinrecords

import (
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"

	"github.com/miekg/pkcs11"

	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/token"
	"keyd/pinblock"
	"keyd/pinrecord"
)

// What data are made of; see package pinrecord. That of a code has the digest of the approval, too.
const (
	pinDomain  = "keyd pin 1\x00"
	codeDomain = "keyd pin code 1\x00"

	outAt = 256 // in the room, behind the message
)

// datum makes the datum of a PIN, or a code, at the end of room, which is locked memory. What goes
// before the digits is public.
func datum(s *token.Session, key token.Object, room []byte, pin *pinblock.PIN, before ...[]byte) ([]byte, error) {
	message := room[:0]
	for _, b := range before {
		message = append(message, b...)
	}
	erase.Do(func() {
		message = append(message, byte(pin.Len()))
		for i := range pinrecord.MaxPIN {
			message = append(message, pin.Digit(i))
		}
	})
	out := room[outAt : outAt+pinrecord.DatumSize]
	n, err := s.Sign(pkcs11.CKM_AES_CMAC, key, out, message)
	clear(message)
	if err == nil && n != len(out) {
		err = errors.New("the token made a datum of an unexpected length")
	}
	return out, err
}

// pinDatum makes the datum of a subject's PIN.
func pinDatum(s *token.Session, key token.Object, room []byte, pin *pinblock.PIN, subject *pinrecord.Subject, version uint32) ([]byte, error) {
	digest := subject.Digest()
	return datum(s, key, room, pin, []byte(pinDomain), digest[:], binary.BigEndian.AppendUint32(nil, version))
}

// codeDatum makes the datum of a code for a subject.
func codeDatum(s *token.Session, key token.Object, room []byte, code *pinblock.PIN, subject *pinrecord.Subject, version uint32, approval []byte) ([]byte, error) {
	digest := subject.Digest()
	return datum(s, key, room, code, []byte(codeDomain), approval, digest[:], binary.BigEndian.AppendUint32(nil, version))
}

// right compares a datum that was made with the one that is kept. A PIN with a digit above 9 is
// wrong. The time does not depend on either.
func right(made []byte, kept string, pin *pinblock.PIN) bool {
	var want [pinrecord.DatumSize]byte
	if n, err := hex.Decode(want[:], []byte(kept)); err != nil || n != len(want) {
		return false
	}
	equal := subtle.ConstantTimeCompare(made, want[:])
	return equal&bit(pin.Decimal()) == 1
}

// bit returns 1 for true. The compiler makes it a move, not a branch.
func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
