package abuse

import (
	"crypto/cipher"
	"crypto/des"
	"errors"

	"github.com/miekg/pkcs11"
)

// wrapUnderWeaker wraps an AES key under a TDES key whose halves are equal: 2^56 trials.
func wrapUnderWeaker(h *Hostile) error {
	half := random(8)
	odd(half)
	weak, err := h.create(tdesKey(pkcs11.CKA_WRAP), append(append([]byte{}, half...), half...))
	if err != nil {
		return err
	}
	victim, want, err := h.victim(aesKey(pkcs11.CKA_EXTRACTABLE), 16)
	if err != nil {
		return err
	}
	wrapped, iv, err := h.wrapBlocks(weak, victim)
	if err != nil {
		return err
	}
	block, err := des.NewCipher(half)
	if err != nil {
		return err
	}
	got := make([]byte, len(wrapped))
	if iv != nil {
		cipher.NewCBCDecrypter(block, iv).CryptBlocks(got, wrapped)
	} else {
		for i := 0; i < len(wrapped); i += 8 {
			block.Decrypt(got[i:], wrapped[i:])
		}
	}
	return same(got[:len(want)], want)
}

// wrapBlocks wraps with TDES in ECB, or in CBC where the token has no ECB for it, and
// returns the initialization vector of the latter.
func (h *Hostile) wrapBlocks(kek, o object) (wrapped, iv []byte, err error) {
	if wrapped, err = h.wrap(mechanism(pkcs11.CKM_DES3_ECB), kek, o); !missing(err) {
		return wrapped, nil, err
	}
	iv = make([]byte, 8)
	wrapped, err = h.wrap(pkcs11.NewMechanism(pkcs11.CKM_DES3_CBC, iv), kek, o)
	return wrapped, iv, err
}

// halvesApart takes a wrapped TDES key apart: each half becomes a key of its own, which is
// single DES and found by search.
func halvesApart(h *Hostile) error {
	kek, _, err := h.victim(tdesKey(pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP), 16)
	if err != nil {
		return err
	}
	victim, value, err := h.victim(tdesKey(pkcs11.CKA_EXTRACTABLE), 16)
	if err != nil {
		return err
	}
	wrapped, iv, err := h.wrapBlocks(kek, victim)
	if err != nil {
		return err
	}
	if len(wrapped) != 16 {
		return errors.New("a two-key TDES key was not wrapped to two blocks")
	}
	how := [2]*pkcs11.Mechanism{mechanism(pkcs11.CKM_DES3_ECB), mechanism(pkcs11.CKM_DES3_ECB)}
	if iv != nil {
		how = [2]*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_DES3_CBC, iv), pkcs11.NewMechanism(pkcs11.CKM_DES3_CBC, wrapped[:8])}
	}
	for half, m := range how {
		at := 8 * half
		o, err := h.unwrap(m, kek, wrapped[at:at+8], key{kind: pkcs11.CKK_DES, on: []uint{pkcs11.CKA_SENSITIVE, pkcs11.CKA_ENCRYPT}})
		if err != nil {
			return err
		}
		got, err := h.encrypt(mechanism(pkcs11.CKM_DES_ECB), o, make([]byte, 8))
		if err != nil {
			return err
		}
		block, err := des.NewCipher(value[at : at+8])
		if err != nil {
			return err
		}
		want := make([]byte, 8)
		block.Encrypt(want, want)
		if err := same(got, want); err != nil {
			return err
		}
	}
	return nil
}
