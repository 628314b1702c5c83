package keys

import "sync"

// maxCached bounds what is in a cache. With headers and sealed bytes of about a kilobyte
// each, keys stay below 80 MB; what is not in use is not kept.
const maxCached = 1 << 16

// cache keeps what was read under a name in two halves. What is found or added goes to the
// young half; when that is full it becomes the old one, and what nobody asked for meanwhile
// goes. That costs no bookkeeping per hit, and keeps what is in use.
//
// The zero value is an empty cache.
type cache[V any] struct {
	mu         sync.RWMutex
	young, old map[string]V
	changes    uint64 // counts forget
}

func (c *cache[V]) get(name string) (V, bool) {
	c.mu.RLock()
	v, ok := c.young[name]
	if ok {
		c.mu.RUnlock()
		return v, true
	}
	_, ok = c.old[name]
	c.mu.RUnlock()
	if !ok {
		return v, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok = c.old[name] // it may have been forgotten meanwhile
	if !ok {
		v, ok = c.young[name]
		return v, ok
	}
	delete(c.old, name)
	c.add(name, v)
	return v, true
}

// epoch is taken before something is read from the store and given to put.
func (c *cache[V]) epoch() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.changes
}

// put adds what was read unless anything changed since epoch: it could have been read just
// before it was replaced.
func (c *cache[V]) put(name string, v V, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changes != epoch {
		return
	}
	delete(c.old, name)
	c.add(name, v)
}

// forget drops what was read under a name after a change.
func (c *cache[V]) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	delete(c.young, name)
	delete(c.old, name)
}

// forgetAll drops everything.
func (c *cache[V]) forgetAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	c.young, c.old = nil, nil
}

func (c *cache[V]) add(name string, v V) {
	if c.young == nil || len(c.young) >= maxCached/2 {
		c.old = c.young
		c.young = make(map[string]V, 64)
	}
	c.young[name] = v
}
