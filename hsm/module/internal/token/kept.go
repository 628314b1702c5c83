package token

import (
	"container/list"
	"sync"
)

// Kept is a bounded cache of what operations have made of the keeper's objects, the
// newest used of it. It is safe for concurrent use. What belongs to a generation that
// is gone ([Token.Renew]) is forgotten, since its objects are gone with the keeper.
type Kept[K comparable, V any] struct {
	token *Token
	bound int

	mu      sync.Mutex
	entries map[K]*list.Element // of *Held[K, V]
	recent  *list.List          // newest first
	current uint64              // the token's generation that the entries are of
}

// Objects are the objects of one entry.
type Objects [3]Object

// Held is an entry in use: its objects exist until [Held.Release].
type Held[K comparable, V any] struct {
	Value   V
	Objects Objects // zero where there is none

	kept       *Kept[K, V]
	key        K
	generation uint64

	users   int  // guarded by kept.mu
	evicted bool // guarded by kept.mu
}

// NewKept returns an empty cache for at most bound entries.
func NewKept[K comparable, V any](t *Token, bound int) *Kept[K, V] {
	return &Kept[K, V]{token: t, bound: bound, entries: make(map[K]*list.Element), recent: list.New(), current: t.Generation()}
}

// Len returns the number of entries.
func (c *Kept[K, V]) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries)
}

// Get returns the entry of a key, which the caller releases, or nil.
func (c *Kept[K, V]) Get(key K) *Held[K, V] {
	generation := c.token.Generation()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != generation {
		// The keeper was replaced between operations (Renew waits for those under way,
		// so no entry is in use): every object is gone.
		clear(c.entries)
		c.recent.Init()
		c.current = generation
		return nil
	}
	element, ok := c.entries[key]
	if !ok {
		return nil
	}
	c.recent.MoveToFront(element)
	h := element.Value.(*Held[K, V])
	h.users++
	return h
}

// Add keeps objects of the keeper's under a key, and returns the entry, which the
// caller releases. Where somebody else has added the key meanwhile, these objects are
// destroyed and the other's entry is returned.
func (c *Kept[K, V]) Add(key K, value V, objects Objects) *Held[K, V] {
	fresh := &Held[K, V]{Value: value, Objects: objects, kept: c, key: key, generation: c.token.Generation(), users: 1}
	var gone []*Held[K, V]
	c.mu.Lock()
	if element, ok := c.entries[key]; ok {
		h := element.Value.(*Held[K, V])
		h.users++
		c.mu.Unlock()
		fresh.discard()
		return h
	}
	c.entries[key] = c.recent.PushFront(fresh)
	for len(c.entries) > c.bound {
		oldest := c.recent.Remove(c.recent.Back()).(*Held[K, V])
		delete(c.entries, oldest.key)
		oldest.evicted = true
		if oldest.users == 0 {
			gone = append(gone, oldest)
		}
	}
	c.mu.Unlock()
	for _, h := range gone {
		h.discard()
	}
	return fresh
}

// Release ends a use of the entry.
func (h *Held[K, V]) Release() {
	c := h.kept
	c.mu.Lock()
	h.users--
	gone := h.evicted && h.users == 0
	c.mu.Unlock()
	if gone {
		h.discard()
	}
}

// discard destroys the objects. That they are gone already is no failure.
func (h *Held[K, V]) discard() {
	if h.generation != h.kept.token.Generation() {
		return
	}
	for _, object := range h.Objects {
		if object != 0 {
			_ = h.kept.token.Discard(object) // the session's end destroys it too
		}
	}
}
