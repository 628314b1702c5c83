package sealing

import (
	"crypto/hkdf"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/locked"
	"keyd/hsm/module/internal/token"
)

// Keys are sealed anew under master keys of another generation without leaving the token:
// one master key unwraps, the other wraps. But what the first master key of a generation
// unwraps can never be wrapped again, so the token needs it once more, without that template,
// while keys are sealed anew. Officers bring its secret with their shares of the old
// generation; it is destroyed when the old generation is retired.

// resealing is the label of that key of a generation.
func resealing(generation uint32) string { return fmt.Sprintf("keyd master %d resealing", generation) }

// derive derives one master key of a secret, in locked memory, and passes it to use.
func derive(secret []byte, label string, use func(value []byte) error) error {
	region, err := locked.New(SecretSize)
	if err != nil {
		return err
	}
	defer region.Free()
	value := region.Bytes()[:SecretSize]
	erase.Do(func() {
		var derived []byte
		derived, err = hkdf.Key(sha512.New, secret, nil, label, len(value))
		copy(value, derived)
		clear(derived)
	})
	if err != nil {
		return err
	}
	return use(value)
}

// ErrOtherSecret is returned for a secret that is not the one of a generation.
var ErrOtherSecret = errors.New("these are not the shares of the master keys that are here")

// ImportResealing gives the token what it needs to seal keys of a generation anew, of that
// generation's secret. The error is [ErrOtherSecret] for another one.
func (m *Masters) ImportResealing(session *token.Session, secret []byte) error {
	if err := m.ProveSecret(session, secret); err != nil {
		return err
	}
	label := resealing(m.Generation)
	if err := session.DestroyMaster(label); err != nil && !errors.Is(err, token.ErrNoObject) {
		return err
	}
	return derive(secret, masterSpecs[0].label(m.Generation), func(value []byte) error {
		_, err := session.ImportMaster(label, token.MayUnwrap, token.CKMAESKeyWrapPad, nil, value)
		return err
	})
}

// ProveSecret reports whether a secret is the one that these master keys were made of: else
// [ErrOtherSecret]. It compares codes by the token's key and by the one that follows from it.
func (m *Masters) ProveSecret(session *token.Session, secret []byte) error {
	const message = "keyd resealing"
	var mine, theirs [hsm.MACSize]byte
	if err := code(session, m.mac, mine[:], []byte(message)); err != nil {
		return err
	}
	err := derive(secret, masterSpecs[2].label(m.Generation), func(value []byte) error {
		object, err := session.Import(pkcs11.CKK_AES, token.MaySign, value)
		if err != nil {
			return err
		}
		return errors.Join(code(session, object, theirs[:], []byte(message)), session.Destroy(object))
	})
	if err == nil && subtle.ConstantTimeCompare(mine[:], theirs[:]) != 1 {
		err = ErrOtherSecret
	}
	return err
}

// DestroyResealing takes back what [Masters.ImportResealing] gave, if it is there.
func DestroyResealing(session *token.Session, generation uint32) error {
	err := session.DestroyMaster(resealing(generation))
	if errors.Is(err, token.ErrNoObject) {
		return nil
	}
	return err
}

// Reseal seals a key anew under the master keys of another generation. Nothing in its header
// changes but the generation. The refusal is [fault.KeySealInvalid], also where the token has
// not got what it needs.
func (s *Set) Reseal(session *token.Session, sealed []byte, generation uint32) ([]byte, error) {
	parsed, from, err := s.open(session, sealed)
	if err != nil {
		return nil, err
	}
	if from.Generation == generation {
		return slices.Clone(sealed), nil
	}
	to, err := s.Of(session, generation)
	if err != nil {
		return nil, err
	}
	if len(parsed.Wrapped) == 0 {
		return to.SealHeld(session, *parsed.Header)
	}
	keyType, err := KeyType(parsed.Header.Algorithm, int(parsed.Header.Length))
	if err != nil {
		return nil, err
	}
	unwrapping := from.wrapModule
	if parsed.Header.Custody != hsm.CustodyModule {
		if unwrapping, err = findLabel(session, resealing(from.Generation)); err != nil {
			if errors.Is(err, token.ErrNoObject) {
				err = fault.New(fault.KeySealInvalid, "the token does not seal keys of this generation anew")
			}
			return nil, err
		}
	}
	h := *parsed.Header
	h.Generation = generation
	var wrapped [][]byte
	for _, part := range parsed.Wrapped {
		w, err := rewrap(session, unwrapping, to.wrapping(h.Custody), part, keyType)
		if err != nil {
			return nil, err
		}
		wrapped = append(wrapped, w)
	}
	return to.finish(session, &h, wrapped)
}

// rewrap unwraps a value with one key and wraps it with another. It never leaves the token.
func rewrap(session *token.Session, from, to token.Object, part []byte, keyType uint) ([]byte, error) {
	object, err := session.UnwrapExtractable(token.CKMAESKeyWrapPad, from, part, keyType)
	if err != nil {
		return nil, err
	}
	w, err := session.Wrap(token.CKMAESKeyWrapPad, to, object)
	if gone := session.Destroy(object); err == nil {
		err = gone
	}
	return w, err
}

// Forget has master keys of a generation found anew.
func (s *Set) Forget(generation uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, generation)
}
