package sealing

import (
	"container/list"
	"crypto/subtle"
	"errors"
	"sync"

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
	bound   int

	mu      sync.Mutex
	keys    map[string]*list.Element // of *Key
	recent  *list.List               // newest first
	current uint64                   // the token's generation that the objects are of
}

// NewCache returns an empty cache for at most bound keys.
func NewCache(t *token.Token, m *Masters, bound int) *Cache {
	return &Cache{token: t, masters: m, bound: bound, keys: make(map[string]*list.Element), recent: list.New(), current: t.Generation()}
}

// Key is an unsealed key. It is used between [Cache.Open] and [Key.Release].
type Key struct {
	Header *hsm.Header
	// Object is the key in the token; Masked is a TDES BDK XORed with the
	// initial-key mask, and zero for other keys.
	Object, Masked token.Object

	cache      *Cache
	index      string
	generation uint64

	users   int  // guarded by cache.mu
	evicted bool // guarded by cache.mu
}

// Len returns the number of keys held.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.keys)
}

// Open returns the key in sealed. Its header must bear name. A sealed key that has
// been altered, renamed or swapped fails with [fault.KeySealInvalid].
func (c *Cache) Open(session *token.Session, name string, sealed []byte) (*Key, error) {
	k := c.lookup(sealed)
	if k == nil {
		fresh, err := c.unseal(session, sealed)
		if err != nil {
			return nil, err
		}
		k = c.insert(fresh)
	}
	if k.Header.Name != name {
		k.Release()
		return nil, fault.New(fault.KeySealInvalid, "")
	}
	return k, nil
}

// Release ends a use of the key.
func (k *Key) Release() {
	c := k.cache
	c.mu.Lock()
	k.users--
	gone := k.evicted && k.users == 0
	c.mu.Unlock()
	if gone {
		c.discard(k)
	}
}

func (c *Cache) lookup(sealed []byte) *Key {
	generation := c.token.Generation()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != generation {
		// The keeper was replaced between operations (token.Renew waits for those under
		// way, so no key is in use): every object is gone.
		clear(c.keys)
		c.recent.Init()
		c.current = generation
		return nil
	}
	element, ok := c.keys[string(sealed)]
	if !ok {
		return nil
	}
	c.recent.MoveToFront(element)
	k := element.Value.(*Key)
	k.users++
	return k
}

// insert adds a key, or returns the one that another request added meanwhile.
func (c *Cache) insert(fresh *Key) *Key {
	var discard []*Key
	c.mu.Lock()
	if element, ok := c.keys[fresh.index]; ok {
		k := element.Value.(*Key)
		k.users++
		c.mu.Unlock()
		c.discard(fresh)
		return k
	}
	c.keys[fresh.index] = c.recent.PushFront(fresh)
	for len(c.keys) > c.bound {
		oldest := c.recent.Remove(c.recent.Back()).(*Key)
		delete(c.keys, oldest.index)
		oldest.evicted = true
		if oldest.users == 0 {
			discard = append(discard, oldest)
		}
	}
	c.mu.Unlock()
	for _, k := range discard {
		c.discard(k)
	}
	return fresh
}

// discard destroys a key's objects. That they are gone already is no failure.
func (c *Cache) discard(k *Key) {
	if k.generation != c.token.Generation() {
		return
	}
	for _, object := range []token.Object{k.Object, k.Masked} {
		if object != 0 {
			_ = c.token.Discard(object) // the session's end destroys it too
		}
	}
}

func (c *Cache) unseal(session *token.Session, sealed []byte) (*Key, error) {
	s, err := hsm.ParseSealed(sealed)
	if err != nil || s.Header.Generation != c.masters.Generation {
		return nil, fault.New(fault.KeySealInvalid, "")
	}
	var mac [hsm.MACSize]byte
	if err := c.masters.authenticate(session, mac[:], s.Body); err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(mac[:], s.MAC) != 1 {
		return nil, fault.New(fault.KeySealInvalid, "")
	}
	// From here on everything was sealed by a module: what does not fit is a bug.
	keyType, err := KeyType(s.Header.Algorithm, int(s.Header.Length))
	if err != nil {
		return nil, err
	}
	if s.Header.Custody != hsm.CustodyToken || (len(s.Wrapped) == 2) != isTDESBDK(s.Header) {
		return nil, errors.New("sealed key with an impossible header")
	}
	k := &Key{Header: s.Header, cache: c, index: string(sealed), generation: c.token.Generation(), users: 1}
	objects := []*token.Object{&k.Object, &k.Masked}
	for i, wrapped := range s.Wrapped {
		*objects[i], err = session.Unwrap(token.CKMAESKeyWrapPad, c.masters.wrapToken, wrapped, keyType, rights(s.Header))
		if err != nil {
			c.discard(k)
			return nil, err
		}
	}
	return k, nil
}

// rights gives a session object what the header's usage and mode of use need, and
// nothing else.
func rights(h *hsm.Header) token.Rights {
	var r token.Rights
	switch {
	case h.Usage == "P0":
		if h.Mode == "E" || h.Mode == "B" || h.Mode == "N" {
			r |= token.MayEncrypt
		}
		if h.Mode == "D" || h.Mode == "B" || h.Mode == "N" {
			r |= token.MayDecrypt
		}
	case h.Usage == "B0" && h.Algorithm == "A":
		r = token.MayDerive
	case h.Usage == "B0", h.Usage == "V1", h.Usage == "V2":
		r = token.MayEncrypt
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
