package keys

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
)

func TestCacheIsBounded(t *testing.T) {
	var c cache[Key]
	for i := range 5 * maxCached {
		c.put(numbered(i), Key{Version: 1}, c.epoch())
		if n := len(c.young) + len(c.old); n > maxCached {
			t.Fatalf("%d keys in the cache after %d", n, i+1)
		}
	}
	if _, ok := c.get(numbered(0)); ok {
		t.Error("the first key is still there")
	}
	if key, ok := c.get(numbered(5*maxCached - 1)); !ok || key.Version != 1 {
		t.Error("the last key is not there")
	}
}

// A key that is asked for now and then stays, whatever else passes through.
func TestCacheKeepsWhatIsUsed(t *testing.T) {
	var c cache[Key]
	c.put("used", Key{}, c.epoch())
	for i := range 5 * maxCached {
		c.put(numbered(i), Key{}, c.epoch())
		if i%(maxCached/4) == 0 {
			if _, ok := c.get("used"); !ok {
				t.Fatalf("gone after %d others", i)
			}
		}
	}
}

func TestCacheForgets(t *testing.T) {
	var c cache[Key]
	before := c.epoch()
	c.put("a", Key{Version: 1}, before)
	c.forget("a")
	if _, ok := c.get("a"); ok {
		t.Error("a forgotten key is still there")
	}
	// A key that was read before the change must not come back.
	c.put("a", Key{Version: 1}, before)
	if _, ok := c.get("a"); ok {
		t.Error("a key that was read before a change came back")
	}
	c.put("a", Key{Version: 2}, c.epoch())
	if key, _ := c.get("a"); key.Version != 2 {
		t.Errorf("version %d", key.Version)
	}
	for i := range maxCached { // "a" is in the old half now, or gone
		c.put(numbered(i), Key{}, c.epoch())
	}
	c.forget("a")
	if _, ok := c.get("a"); ok {
		t.Error("a key of the old half was not forgotten")
	}
}

func BenchmarkResolve(b *testing.B) {
	ctx := context.Background()
	for _, n := range []int{10, 100_000} {
		v := New(openStore(b))
		many(b, v.store, n)
		for name, spread := range map[string]int{"hot": 10, "uniform": n} {
			b.Run(fmt.Sprintf("keys=%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := v.Resolve(ctx, numbered(rand.IntN(spread))); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
