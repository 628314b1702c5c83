package abuse

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"

	"keyd/pinblock"
)

// account is the PAN of all PIN blocks here, which whoever asks for a translation knows.
const account = "4111111111111111"

// pinBlock is the block of format 0 of a PIN of four digits.
func pinBlock(pin int) ([]byte, error) {
	pan, err := pinblock.ParsePAN(account)
	if err != nil {
		return nil, err
	}
	p := pinblock.PINIn(new([pinblock.PINSize]byte))
	if err := p.SetDigits(fmt.Appendf(nil, "%04d", pin)); err != nil {
		return nil, err
	}
	block := make([]byte, pinblock.BlockSize)
	return block, pinblock.EncodeISO0(block, p, pan)
}

// underZoneKey is a PIN block as it arrives: enciphered under a key that the module may use
// with these rights, and does not know.
type underZoneKey struct {
	key    object
	cipher []byte
	block  []byte // clear, to compare with
}

// arrives makes one. The key is TDES; the block is enciphered by a second object of it.
func (h *Hostile) arrives(rights ...uint) (p underZoneKey, err error) {
	value := random(16)
	odd(value)
	if p.key, err = h.create(tdesKey(rights...), value); err != nil {
		return p, needed(err)
	}
	sender, err := h.create(tdesKey(pkcs11.CKA_ENCRYPT), value)
	if err != nil {
		return p, needed(err)
	}
	pin, err := rand.Int(rand.Reader, big.NewInt(10000))
	if err != nil {
		return p, err
	}
	if p.block, err = pinBlock(int(pin.Int64())); err != nil {
		return p, err
	}
	p.cipher, err = h.encrypt(mechanism(pkcs11.CKM_DES3_ECB), sender, p.block)
	return p, needed(err)
}

// composed is what keyd asks for when a PIN block becomes an object.
func composed() key { return secret(pkcs11.CKA_EXTRACTABLE, pkcs11.CKA_DERIVE) }

// pinObject has one arrive and unwraps it to an object.
func (h *Hostile) pinObject(k key, rights ...uint) (underZoneKey, object, error) {
	p, err := h.arrives(append(rights, pkcs11.CKA_UNWRAP)...)
	if err != nil {
		return p, 0, err
	}
	o, err := h.unwrap(mechanism(pkcs11.CKM_DES3_ECB), p.key, p.cipher, k)
	return p, o, err
}

func pinDeciphered(h *Hostile, rights ...uint) error {
	p, err := h.arrives(rights...)
	if err != nil {
		return err
	}
	got, err := h.decrypt(mechanism(pkcs11.CKM_DES3_ECB), p.key, p.cipher)
	if err != nil {
		return err
	}
	return same(got, p.block)
}

// pinRead unwraps to an object that can be read.
func pinRead(h *Hostile) error {
	p, o, err := h.pinObject(readable())
	if err != nil {
		return err
	}
	return h.reads(o, p.block)
}

// pinUnderOwn unwraps as keyd does, and wraps under a key of the module's own.
func pinUnderOwn(h *Hostile, k key) error {
	p, o, err := h.pinObject(k)
	if err != nil {
		return err
	}
	value := random(16)
	odd(value)
	own, err := h.create(tdesKey(pkcs11.CKA_WRAP), value)
	if err != nil {
		return needed(err)
	}
	wrapped, err := h.wrap(mechanism(pkcs11.CKM_DES3_ECB), own, o)
	if err != nil {
		return err
	}
	opener, err := h.create(tdesKey(pkcs11.CKA_DECRYPT), value)
	if err != nil {
		return needed(err)
	}
	got, err := h.decrypt(mechanism(pkcs11.CKM_DES3_ECB), opener, wrapped)
	if err != nil {
		return needed(err)
	}
	return same(got, p.block)
}

// pinWrapThenDecipher wraps a PIN object under the key of another zone, as a translation does, and
// has that key decipher it.
func pinWrapThenDecipher(h *Hostile, rights ...uint) error {
	p, o, err := h.pinObject(composed())
	if err != nil {
		return err
	}
	other, _, err := h.victim(tdesKey(rights...), 16)
	if err != nil {
		return err
	}
	wrapped, err := h.wrap(mechanism(pkcs11.CKM_DES3_ECB), other, o)
	if err != nil {
		return err
	}
	got, err := h.decrypt(mechanism(pkcs11.CKM_DES3_ECB), other, wrapped)
	if err != nil {
		return err
	}
	return same(got, p.block)
}

// pinByteByByte searches it out ([Hostile.search]).
func pinByteByByte(h *Hostile, k key) error {
	p, o, err := h.pinObject(k)
	if err != nil {
		return err
	}
	got, err := h.search(o, len(p.block))
	if err != nil {
		return err
	}
	return same(got, p.block)
}

// everyPIN tries all PINs of four digits with an answer that only the right one gives.
func everyPIN(want []byte, right func(block []byte) (bool, error)) error {
	for pin := range 10000 {
		block, err := pinBlock(pin)
		if err != nil {
			return err
		}
		if found, err := right(block); err != nil {
			return err
		} else if found {
			return same(block, want)
		}
	}
	return errors.New("none of 10,000 PINs is the PIN")
}

// pinDigested hashes the object, for which it needs no right at all, and tries all PINs.
func pinDigested(h *Hostile, k key) error {
	p, o, err := h.pinObject(k)
	if err != nil {
		return err
	}
	digest, err := h.digest(o)
	if err != nil {
		return err
	}
	return everyPIN(p.block, func(block []byte) (bool, error) {
		candidate := sha256.Sum256(block)
		return bytes.Equal(candidate[:], digest), nil
	})
}

// digest hashes an object's value.
func (h *Hostile) digest(o object) ([]byte, error) {
	if err := h.ctx.DigestInit(h.session, []*pkcs11.Mechanism{mechanism(pkcs11.CKM_SHA256)}); err != nil {
		return nil, refused("C_DigestInit", err)
	}
	if err := h.ctx.DigestKey(h.session, o); err != nil {
		return nil, refused("C_DigestKey", err)
	}
	digest, err := h.ctx.DigestFinal(h.session)
	return digest, refused("C_DigestFinal", err)
}

// keyDigested hashes a key: a check value of all of it, with which a short secret is found.
func keyDigested(h *Hostile, k key) error {
	o, value, err := h.victim(k, 16)
	if err != nil {
		return err
	}
	digest, err := h.digest(o)
	if err != nil {
		return err
	}
	want := sha256.Sum256(value)
	return same(digest, want[:])
}

// pinCodebook wraps all PINs under the key that the block came under.
func pinCodebook(h *Hostile) error {
	p, err := h.arrives(pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP)
	if err != nil {
		return err
	}
	return everyPIN(p.block, func(block []byte) (bool, error) {
		guess, err := h.create(secret(pkcs11.CKA_EXTRACTABLE), block)
		if err != nil {
			return false, needed(err)
		}
		wrapped, err := h.wrap(mechanism(pkcs11.CKM_DES3_ECB), p.key, guess)
		return bytes.Equal(wrapped, p.cipher), errors.Join(err, h.ctx.DestroyObject(h.session, guess))
	})
}

// pinEnciphered enciphers all PINs under it.
func pinEnciphered(h *Hostile, rights ...uint) error {
	p, err := h.arrives(rights...)
	if err != nil {
		return err
	}
	return everyPIN(p.block, func(block []byte) (bool, error) {
		enciphered, err := h.encrypt(mechanism(pkcs11.CKM_DES3_ECB), p.key, block)
		return bytes.Equal(enciphered, p.cipher), err
	})
}

// pinsCompared asks only whether two blocks hold one PIN: each is wrapped under one key.
func pinsCompared(h *Hostile) error {
	p, first, err := h.pinObject(composed(), pkcs11.CKA_WRAP)
	if err != nil {
		return err
	}
	second, err := h.unwrap(mechanism(pkcs11.CKM_DES3_ECB), p.key, p.cipher, composed())
	if err != nil {
		return needed(err)
	}
	other, err := h.create(tdesKey(pkcs11.CKA_WRAP), random(16))
	if err != nil {
		return needed(err)
	}
	one, err := h.wrap(mechanism(pkcs11.CKM_DES3_ECB), other, first)
	if err != nil {
		return err
	}
	two, err := h.wrap(mechanism(pkcs11.CKM_DES3_ECB), other, second)
	if err != nil {
		return needed(err)
	}
	return same(one, two)
}
