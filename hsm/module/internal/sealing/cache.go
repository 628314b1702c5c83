package sealing

import (
	"crypto/subtle"
	"errors"
	"unsafe"

	"github.com/miekg/pkcs11"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/token"
)

// Cache unseals keys and keeps the newest used of them as session objects of the
// token, so that a key that is in use costs one map look-up. The whole sealed key is
// the index: a key that differs in one bit is another key. It is safe for concurrent
// use.
type Cache struct {
	token   *token.Token
	masters *Masters
	keys    *token.Kept[string, *hsm.Header]
}

// NewCache returns an empty cache for at most bound keys.
func NewCache(t *token.Token, m *Masters, bound int) *Cache {
	return &Cache{token: t, masters: m, keys: token.NewKept[string, *hsm.Header](t, bound)}
}

// Key is an unsealed key. It is used between [Cache.Open] and [Key.Release].
type Key struct {
	Header *hsm.Header
	// Object is the key in the token; Twin is its twin (see twin.go), zero for a key that
	// has none.
	Object, Twin token.Object

	held *token.Held[string, *hsm.Header]
}

func newKey(h *token.Held[string, *hsm.Header]) Key {
	return Key{Header: h.Value, Object: h.Objects[0], Twin: h.Objects[1], held: h}
}

// Release ends a use of the key. The zero Key needs none, and allows it.
func (k *Key) Release() {
	if k.held != nil {
		k.held.Release()
		*k = Key{}
	}
}

// Len returns the number of keys held.
func (c *Cache) Len() int { return c.keys.Len() }

// Open returns the key in sealed. Its header must bear name. A sealed key that has
// been altered, renamed or swapped fails with [fault.KeySealInvalid].
func (c *Cache) Open(session *token.Session, name string, sealed []byte) (Key, error) {
	held := c.keys.Get(unsafe.String(unsafe.SliceData(sealed), len(sealed))) // looked up, not kept
	if held == nil {
		header, objects, err := c.unseal(session, sealed)
		if err != nil {
			return Key{}, err
		}
		held = c.keys.Add(string(sealed), header, objects)
	}
	k := newKey(held)
	if k.Header.Name != name {
		k.Release()
		return Key{}, fault.New(fault.KeySealInvalid, "")
	}
	return k, nil
}

func (c *Cache) unseal(session *token.Session, sealed []byte) (_ *hsm.Header, objects [2]token.Object, err error) {
	s, err := hsm.ParseSealed(sealed)
	if err != nil || s.Header.Generation != c.masters.Generation {
		return nil, objects, fault.New(fault.KeySealInvalid, "")
	}
	var mac [hsm.MACSize]byte
	if err := c.masters.authenticate(session, mac[:], s.Body); err != nil {
		return nil, objects, err
	}
	if subtle.ConstantTimeCompare(mac[:], s.MAC) != 1 {
		return nil, objects, fault.New(fault.KeySealInvalid, "")
	}
	// From here on everything was sealed by a module: what does not fit is a bug.
	keyType, err := KeyType(s.Header.Algorithm, int(s.Header.Length))
	if err != nil {
		return nil, objects, err
	}
	if s.Header.Custody != hsm.CustodyToken || (len(s.Wrapped) == 2) != hasTwin(s.Header) {
		return nil, objects, errors.New("sealed key with an impossible header")
	}
	for i, wrapped := range s.Wrapped {
		objects[i], err = session.Unwrap(token.CKMAESKeyWrapPad, c.masters.wrapToken, wrapped, keyType, rights(s.Header))
		if err != nil {
			if i > 0 {
				_ = c.token.Discard(objects[0]) // the keeper's end destroys it too
			}
			return nil, objects, err
		}
	}
	return s.Header, objects, nil
}

// rights gives a session object what the header's usage and mode of use need, and
// nothing else.
func rights(h *hsm.Header) token.Rights {
	var r token.Rights
	switch {
	case h.Usage == "P0", h.Usage == "D0":
		if h.Mode == "E" || h.Mode == "B" || h.Mode == "N" {
			r |= token.MayEncrypt
		}
		if h.Mode == "D" || h.Mode == "B" || h.Mode == "N" {
			r |= token.MayDecrypt
		}
	case h.Usage == "B0" && h.Algorithm == "A":
		r = token.MayDerive
	case h.Usage == "B0", h.Usage == "V1", h.Usage == "V2", h.Usage == "C0", h.Usage == "M1", h.Usage == "M3":
		r = token.MayEncrypt
	case h.Usage == "M6", h.Usage == "M7":
		r = token.MaySign
	}
	return r
}

// Mechanism returns the ECB mechanism of the key's algorithm.
func (k *Key) Mechanism() uint { return ECB(k.Header.Algorithm) }

// ECB returns the ECB mechanism of an algorithm of X9.143.
func ECB(algorithm string) uint {
	if algorithm == "A" {
		return pkcs11.CKM_AES_ECB
	}
	return pkcs11.CKM_DES3_ECB
}
