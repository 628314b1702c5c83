package abuse

import (
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"math/big"

	"github.com/miekg/pkcs11"
)

// The attacks of Clulow (2003): a key leaves in a form that can be opened, or is in the token
// twice with rights that contradict each other.

// unwrapBlocks opens a key that was wrapped by RFC 3394 with nothing but the block cipher
// backwards: whoever may decipher with the wrapping key needs no right to unwrap.
func unwrapBlocks(wrapped []byte, decipher func([]byte) ([]byte, error)) ([]byte, error) {
	n := len(wrapped)/8 - 1
	a, r := append([]byte{}, wrapped[:8]...), append([]byte{}, wrapped[8:]...)
	for round := 5; round >= 0; round-- {
		for i := n; i >= 1; i-- {
			var counter [8]byte
			binary.BigEndian.PutUint64(counter[:], uint64(n*round+i))
			subtle.XORBytes(a, a, counter[:])
			block, err := decipher(append(append([]byte{}, a...), r[8*(i-1):8*i]...))
			if err != nil {
				return nil, err
			}
			copy(a, block[:8])
			copy(r[8*(i-1):], block[8:])
		}
	}
	return r, nil
}

// openWith opens a wrapped key with a wrapping key that is known.
func openWith(wrappingKey, wrapped []byte) ([]byte, error) {
	block, err := aes.NewCipher(wrappingKey)
	if err != nil {
		return nil, err
	}
	return unwrapBlocks(wrapped, func(in []byte) ([]byte, error) {
		out := make([]byte, len(in))
		block.Decrypt(out, in)
		return out, nil
	})
}

// wrapThenDecipher is for a wrapping key that may decipher as well.
func wrapThenDecipher(h *Hostile, wrapping key) error {
	kek, _, err := h.victim(wrapping, 32)
	if err != nil {
		return err
	}
	return h.decipherWrapped(kek)
}

func (h *Hostile) decipherWrapped(kek object) error {
	target, value, err := h.victim(aesKey(pkcs11.CKA_EXTRACTABLE), 16)
	if err != nil {
		return err
	}
	wrapped, err := h.wrap(mechanism(pkcs11.CKM_AES_KEY_WRAP), kek, target)
	if err != nil {
		return err
	}
	got, err := unwrapBlocks(wrapped, func(in []byte) ([]byte, error) {
		return h.decrypt(mechanism(pkcs11.CKM_AES_ECB), kek, in)
	})
	if err != nil {
		return err
	}
	return same(got, value)
}

// encipherThenUnwrap brings a value of one's own in under a key that is not known: the token
// holds it as if it had come from its owner.
func encipherThenUnwrap(h *Hostile, wrapping key) error {
	kek, _, err := h.victim(wrapping, 32)
	if err != nil {
		return err
	}
	own := random(16)
	// RFC 3394 forwards, by enciphering.
	a, r := []byte{0xA6, 0xA6, 0xA6, 0xA6, 0xA6, 0xA6, 0xA6, 0xA6}, append([]byte{}, own...)
	for round := range 6 {
		for i := 1; i <= 2; i++ {
			block, err := h.encrypt(mechanism(pkcs11.CKM_AES_ECB), kek, append(append([]byte{}, a...), r[8*(i-1):8*i]...))
			if err != nil {
				return err
			}
			var counter [8]byte
			binary.BigEndian.PutUint64(counter[:], uint64(2*round+i))
			subtle.XORBytes(a, block[:8], counter[:])
			copy(r[8*(i-1):], block[8:])
		}
	}
	o, err := h.unwrap(mechanism(pkcs11.CKM_AES_KEY_WRAP), kek, append(a, r...), aesKey(pkcs11.CKA_ENCRYPT))
	if err != nil {
		return err
	}
	return h.enciphersLike(o, own)
}

// enciphersLike uses an AES key of the token and compares with the value it should have.
func (h *Hostile) enciphersLike(o object, value []byte) error {
	got, err := h.encrypt(mechanism(pkcs11.CKM_AES_ECB), o, make([]byte, 16))
	if err != nil {
		return err
	}
	block, err := aes.NewCipher(value)
	if err != nil {
		return err
	}
	want := make([]byte, 16)
	block.Encrypt(want, want)
	return same(got, want)
}

// wrapUnderOwn wraps under a key that the hostile module brought in itself.
func wrapUnderOwn(h *Hostile, own, target key) error {
	value := random(32)
	kek, err := h.create(own, value)
	if err != nil {
		return err
	}
	victim, want, err := h.victim(target, 16)
	if err != nil {
		return err
	}
	return h.opened(kek, value, victim, want)
}

// opened wraps an object under a key whose value is known, and opens it.
func (h *Hostile) opened(kek object, kekValue []byte, o object, want []byte) error {
	wrapped, err := h.wrap(mechanism(pkcs11.CKM_AES_KEY_WRAP), kek, o)
	if err != nil {
		return err
	}
	got, err := openWith(kekValue, wrapped)
	if err != nil {
		return err
	}
	return same(got, want)
}

// wrapUnderOwnRSA does it with a public key, which nobody guards.
func wrapUnderOwnRSA(h *Hostile) error {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	kek, err := h.ctx.CreateObject(h.session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
		pkcs11.NewAttribute(pkcs11.CKA_MODULUS, private.N.Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, big.NewInt(int64(private.E)).Bytes()),
		yes(pkcs11.CKA_WRAP),
	})
	if err != nil {
		return refused("C_CreateObject", err)
	}
	victim, want, err := h.victim(aesKey(pkcs11.CKA_EXTRACTABLE), 16)
	if err != nil {
		return err
	}
	wrapped, err := h.wrap(pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_OAEP,
		pkcs11.NewOAEPParams(pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1, pkcs11.CKZ_DATA_SPECIFIED, nil)), kek, victim)
	if err != nil {
		return err
	}
	got, err := rsa.DecryptOAEP(sha1.New(), nil, private, wrapped, nil)
	if err != nil {
		return err
	}
	return same(got, want)
}

// unwrapAgain takes a wrapped key that is one's to unwrap, and unwraps it as something else.
func unwrapAgain(h *Hostile, wrapping, as key, abuse func(o object, value []byte) error) error {
	kek, err := h.create(wrapping, random(32))
	if err != nil {
		return needed(err)
	}
	value := random(16)
	target, err := h.create(aesKey(pkcs11.CKA_EXTRACTABLE), value)
	if err != nil {
		return needed(err)
	}
	wrapped, err := h.wrap(mechanism(pkcs11.CKM_AES_KEY_WRAP), kek, target)
	if err != nil {
		return needed(err)
	}
	o, err := h.unwrap(mechanism(pkcs11.CKM_AES_KEY_WRAP), kek, wrapped, as)
	if err != nil {
		return err
	}
	return abuse(o, value)
}

// reads has the token hand a value out, or say why not.
func (h *Hostile) reads(o object, want []byte) error {
	sensitive, err := h.flag(o, pkcs11.CKA_SENSITIVE)
	if err != nil {
		return err
	}
	if sensitive {
		return instead("made sensitive all the same")
	}
	got, err := h.read(o)
	if err != nil {
		return err
	}
	return same(got, want)
}

// conjured unwraps random bytes as a key: Bond (2001) makes many unknown keys so, one of which
// a search finds.
func conjured(how uint, size int) func(*Hostile) error {
	return func(h *Hostile) error {
		kek, _, err := h.victim(aesKey(pkcs11.CKA_UNWRAP), 32)
		if err != nil {
			return err
		}
		o, err := h.unwrap(mechanism(how), kek, random(size), aesKey(pkcs11.CKA_ENCRYPT))
		if err != nil {
			return err
		}
		_, err = h.encrypt(mechanism(pkcs11.CKM_AES_ECB), o, make([]byte, 16))
		return err
	}
}
