package sealing

import (
	"unsafe"

	"github.com/miekg/pkcs11"

	"keyd/ceremony"
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
	masters *Set
	keys    *token.Kept[string, opened]
}

// NewCache returns an empty cache for at most bound keys.
func NewCache(t *token.Token, m *Set, bound int) *Cache {
	return &Cache{token: t, masters: m, keys: token.NewKept[string, opened](t, bound)}
}

// Key is an unsealed key. It is used between [Cache.Open] and [Key.Release].
type Key struct {
	Header *hsm.Header
	// Digest is that of the header ([ceremony.HeaderDigest]).
	Digest string
	// Object is the key in the token; the others are its twins (see twin.go), zero where
	// it has none. MACVariant is the second of a key block protection key.
	Object, Twin, MACVariant token.Object

	held *token.Held[string, opened]
}

// opened is what is kept of an unsealed key beside its objects.
type opened struct {
	header *hsm.Header
	digest string
	held   token.Object // that lies in the token itself, and stays there
}

func newKey(h *token.Held[string, opened]) Key {
	k := Key{Header: h.Value.header, Digest: h.Value.digest, Object: h.Objects[0], Twin: h.Objects[1], MACVariant: h.Objects[2], held: h}
	if h.Value.held != 0 {
		k.Object = h.Value.held
	}
	return k
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
		value, objects, err := c.unseal(session, sealed)
		if err != nil {
			return Key{}, err
		}
		held = c.keys.Add(string(sealed), value, objects)
	}
	k := newKey(held)
	if k.Header.Name != name {
		k.Release()
		return Key{}, fault.New(fault.KeySealInvalid, "")
	}
	return k, nil
}

func (c *Cache) unseal(session *token.Session, sealed []byte) (o opened, objects token.Objects, err error) {
	s, masters, err := c.masters.open(session, sealed)
	if err != nil {
		return o, objects, err
	}
	o.header = s.Header
	if o.digest, err = ceremony.HeaderDigest(s.Header); err != nil {
		return o, objects, err
	}
	switch {
	case len(s.Header.Public) > 0:
		return o, objects, fault.New(fault.KeyUsageMismatch, "it is a key pair")
	case s.Header.Object != "":
		o.held, err = held(session, s.Header, s.Header.Object)
		return o, objects, err
	}
	keyType, err := KeyType(s.Header.Algorithm, int(s.Header.Length))
	if err != nil {
		return o, objects, err
	}
	may := rights(s.Header) | composing(c.token.Steps(), s.Header)
	for i, wrapped := range s.Wrapped {
		objects[i], err = session.Unwrap(token.CKMAESKeyWrapPad, masters.wrapping(s.Header.Custody), wrapped, keyType, may)
		if err != nil {
			for _, object := range objects[:i] {
				_ = c.token.Discard(object) // the keeper's end destroys it too
			}
			return o, objects, err
		}
		may = twinRights(s.Header)
	}
	return o, objects, nil
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
	case h.Usage == "K0" && h.Device != "": // bare: it enciphers keys, and protects no block
		r = token.MayEncrypt
	case h.Usage == "M6", h.Usage == "M7", h.Usage == "V0" && h.Algorithm == "A", protectsBlocks(h.Usage):
		r = token.MaySign
	}
	return r
}

// composing are the rights that a key for PINs needs besides, where PINs stay in the token (package
// pinobjects): what enciphers blocks wraps them, what deciphers them unwraps, and a PIN verification key
// wraps what enters the comparison. They are given where the token was found to do that.
func composing(steps *token.Steps, h *hsm.Header) (r token.Rights) {
	wrap, unwrap := token.StepWrapTDES, token.StepUnwrapTDES
	if h.Algorithm == "A" {
		wrap, unwrap = token.StepWrapAES, token.StepUnwrapAES
	}
	may := rights(h)
	if h.CarriesRecords() {
		return 0
	}
	if (h.Usage == "P0" || h.Usage == "V2") && may&token.MayEncrypt != 0 && steps.Missing(wrap) == nil {
		r |= token.MayWrap
	}
	if h.Usage == "P0" && may&token.MayDecrypt != 0 && steps.Missing(unwrap) == nil {
		r |= token.MayUnwrap
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
