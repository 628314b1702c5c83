package pinrecord

import (
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// PhoneKeySize is the size of the key of an entry on a phone, in bytes.
const PhoneKeySize = 16

// PointSize is the size of a point on P-256, uncompressed, in bytes.
const PointSize = 65

// ErrPoint is returned for bytes that are no point on P-256, uncompressed.
var ErrPoint = errors.New("no point on P-256")

// Context is what an entry on a phone is for.
type Context [sha256.Size]byte

// OfVoid is the context of a subject's PIN for the void with a digest (voidtoken.Fields.Digest).
func OfVoid(digest [sha256.Size]byte, s *Subject) Context {
	return contextOf("keyd phone void 1", digest[:], subjectOf(s))
}

// OfCode is the context of the code with which a subject sets the PIN that an approval has begun.
// approval is the SHA-256 of the approval.
func OfCode(approval [sha256.Size]byte, s *Subject) Context {
	return contextOf("keyd phone code 1", approval[:], subjectOf(s))
}

// OfNewPIN is the context of the PIN that is set with it.
func OfNewPIN(approval [sha256.Size]byte, s *Subject) Context {
	return contextOf("keyd phone new pin 1", approval[:], subjectOf(s))
}

// OfPasskey is the context of the code with which a subject sets a passkey. It is good for this passkey
// alone, by the authenticator data of its registration (WebAuthn 6.1).
func OfPasskey(approval [sha256.Size]byte, s *Subject, authenticatorData []byte) Context {
	data := sha256.Sum256(authenticatorData)
	return contextOf("keyd phone passkey 1", approval[:], subjectOf(s), data[:])
}

// VoidChallenge is the challenge by which a passkey approves the void with a digest.
func VoidChallenge(digest [sha256.Size]byte) [sha256.Size]byte {
	return contextOf("keyd passkey void 1", digest[:])
}

// PasskeyChallenge is the challenge by which a passkey is made for a subject, which an approval allows.
func PasskeyChallenge(approval [sha256.Size]byte, s *Subject) [sha256.Size]byte {
	return contextOf("keyd passkey set 1", approval[:], subjectOf(s))
}

func subjectOf(s *Subject) []byte {
	digest := s.Digest()
	return digest[:]
}

// contextOf hashes parts of 32 bytes behind a name that no other use has.
func contextOf(name string, parts ...[]byte) [sha256.Size]byte {
	b := append([]byte(name), 0)
	for _, p := range parts {
		b = append(b, p...)
	}
	return sha256.Sum256(b)
}

// PhonePoint reads a point, as both sides send theirs. The error is [ErrPoint].
func PhonePoint(b []byte) (*ecdh.PublicKey, error) {
	if len(b) != PointSize {
		return nil, ErrPoint
	}
	p, err := ecdh.P256().NewPublicKey(b)
	if err != nil {
		return nil, ErrPoint
	}
	return p, nil
}

// PhoneKey writes the key of an entry to out, [PhoneKeySize] bytes, with z, the 32 bytes of the secret
// that was agreed on. What it leaves behind is cleared as far as it can be reached from here: callers
// with secrets of their own run it inside runtime/secret.Do.
func PhoneKey(out, z []byte, modules, phone *ecdh.PublicKey, context Context) {
	var block [4 + 32 + 17 + 2*PointSize + sha256.Size]byte
	b := binary.BigEndian.AppendUint32(block[:0], 1)
	b = append(append(b, z...), "keyd phone pin 1\x00"...)
	b = append(append(b, modules.Bytes()...), phone.Bytes()...)
	b = append(b, context[:]...)
	key := sha256.Sum256(b)
	copy(out[:PhoneKeySize], key[:])
	clear(key[:])
	clear(block[:])
}
