package keys

import "sync"

// maxCached bounds the keys in the cache. With headers and sealed bytes of about a
// kilobyte each it stays below 80 MB; what is not in use is not kept.
const maxCached = 1 << 16

// cache keeps keys in two halves. A key that is found or added goes to the young half;
// when that is full it becomes the old one, and what nobody asked for meanwhile goes.
// That costs no bookkeeping per hit, and keeps what is in use.
//
// The zero value is an empty cache.
type cache struct {
	mu         sync.RWMutex
	young, old map[string]Key
	changes    uint64 // counts forget
}

func (c *cache) get(name string) (Key, bool) {
	c.mu.RLock()
	key, ok := c.young[name]
	if ok {
		c.mu.RUnlock()
		return key, true
	}
	_, ok = c.old[name]
	c.mu.RUnlock()
	if !ok {
		return Key{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key, ok = c.old[name] // it may have been forgotten meanwhile
	if !ok {
		key, ok = c.young[name]
		return key, ok
	}
	delete(c.old, name)
	c.add(key)
	return key, true
}

// epoch is taken before a key is read from the store and given to put.
func (c *cache) epoch() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.changes
}

// put adds a key unless anything changed since epoch: it could be one that was read
// just before it was replaced.
func (c *cache) put(key Key, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changes != epoch {
		return
	}
	delete(c.old, key.Name)
	c.add(key)
}

// forget drops a key after a change.
func (c *cache) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	delete(c.young, name)
	delete(c.old, name)
}

func (c *cache) size() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.young) + len(c.old)
}

func (c *cache) add(key Key) {
	if c.young == nil || len(c.young) >= maxCached/2 {
		c.old = c.young
		c.young = make(map[string]Key, 64)
	}
	c.young[key.Name] = key
}
