package keys

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"keyd/store"
)

const (
	// flushEvery is how often counted uses are kept.
	flushEvery = 10 * time.Second
	// flushWait bounds the writing of a flush.
	flushWait = 10 * time.Second
	// flushBatch is how many counts are one transaction: other writers wait for it.
	flushBatch = 100
	// maxNoted bounds the list of counters with something in them. A cache that is too
	// small for what is used makes a new counter for each reading.
	maxNoted = 4096
)

// uses counts the uses of a version of a key. It belongs to one reading of the key: there
// can be several of one version, whose sums are added.
type uses struct {
	version store.KeyVersion
	count   atomic.Uint64
	last    atomic.Int64 // Unix microseconds
	noted   atomic.Bool  // it is in the list, or is just being put there
}

// usage collects what was counted. Counters that were used since the last time are in a
// list, so that neither a use nor a flush looks at any other.
type usage struct {
	counting atomic.Bool

	mu    sync.Mutex
	noted []*uses
	sums  map[store.KeyVersion]tally // what is not kept yet

	turn chan struct{} // held by who moves sums to the store, or compares the two

	stop, done chan struct{} // nil where nothing was started
}

type tally struct {
	count uint64
	last  int64
}

// Used counts a use of a resolved key. It takes no lock but for the first use after a
// flush.
func (v *Inventory) Used(key Key) {
	u := key.uses
	if u == nil || !v.usage.counting.Load() {
		return
	}
	if now := v.clock().UnixMicro(); now > u.last.Load() {
		u.last.Store(now) // two at once: either will do
	}
	u.count.Add(1)
	// collect clears noted before it takes the count: a use that still finds it set is
	// in the count that is taken.
	if !u.noted.Load() && u.noted.CompareAndSwap(false, true) {
		v.usage.note(u)
	}
}

func (g *usage) note(u *uses) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.noted = append(g.noted, u); len(g.noted) >= maxNoted {
		g.collect()
	}
}

// collect moves the counts of the list into the sums. The lock is held.
func (g *usage) collect() {
	if g.sums == nil {
		g.sums = make(map[store.KeyVersion]tally)
	}
	for i, u := range g.noted {
		u.noted.Store(false)
		if n := u.count.Swap(0); n > 0 {
			g.add(u.version, tally{n, u.last.Load()})
		}
		g.noted[i] = nil
	}
	g.noted = g.noted[:0]
}

func (g *usage) add(version store.KeyVersion, more tally) {
	t := g.sums[version]
	g.sums[version] = tally{t.count + more.count, max(t.last, more.last)}
}

// Start begins to count and to keep what was counted, until [Inventory.Close]. It is called
// once at most. failed, unless it is nil, is told why something was not kept yet.
func (v *Inventory) Start(failed func(error)) {
	g := &v.usage
	g.stop, g.done = make(chan struct{}), make(chan struct{})
	g.counting.Store(true)
	go func() {
		defer close(g.done)
		tick := time.NewTicker(flushEvery)
		defer tick.Stop()
		for {
			select {
			case <-g.stop:
				return
			case <-tick.C:
				// What was not kept stays counted, and is tried again.
				if err := v.Flush(); err != nil && failed != nil {
					failed(err)
				}
			}
		}
	}()
}

// Close keeps what was counted and ends what Start began. The inventory still finds keys,
// and counts nothing. The error is that of [Inventory.Flush]; the counts are lost then.
func (v *Inventory) Close() error {
	g := &v.usage
	if !g.counting.Swap(false) {
		return nil
	}
	close(g.stop)
	<-g.done
	return v.Flush()
}

// Flush keeps what was counted now. The error is the store's: what it did not take stays
// counted. A database that ends a write without saying whether it happened can make a count
// too large.
func (v *Inventory) Flush() error {
	ctx, cancel := context.WithTimeout(context.Background(), flushWait)
	defer cancel()
	g := &v.usage
	if err := g.enter(ctx); err != nil {
		return fmt.Errorf("usage of keys: %w", err)
	}
	defer g.leave()
	g.mu.Lock()
	g.collect()
	taken := g.sums
	g.sums = nil
	g.mu.Unlock()
	rows := make([]store.Usage, 0, len(taken))
	for version, t := range taken {
		rows = append(rows, store.Usage{Name: version.Name, Version: version.Version, Count: t.count, LastUsed: time.UnixMicro(t.last)})
	}
	slices.SortFunc(rows, func(a, b store.Usage) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
	for len(rows) > 0 {
		n := min(len(rows), flushBatch)
		if err := v.store.AddUsage(ctx, rows[:n]); err != nil {
			g.giveBack(rows)
			return fmt.Errorf("usage of %d versions of keys: %w", len(rows), err)
		}
		rows = rows[n:]
	}
	return nil
}

// giveBack adds rows that were not kept to what was counted meanwhile.
func (g *usage) giveBack(rows []store.Usage) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.collect()
	for _, r := range rows {
		g.add(store.KeyVersion{Name: r.Name, Version: r.Version}, tally{r.Count, r.LastUsed.UnixMicro()})
	}
}

// Usage returns how often the versions of a key were used, by their number, what is not kept
// yet included. Errors are those of [Inventory.Resolve]; a name that no key has was not used.
func (v *Inventory) Usage(ctx context.Context, name string) ([]store.Usage, error) {
	g := &v.usage
	if err := g.enter(ctx); err != nil {
		return nil, err
	}
	defer g.leave()
	found, err := v.store.UsageOf(ctx, name)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.collect()
	for version, t := range g.sums {
		if version.Name != name {
			continue
		}
		i, ok := slices.BinarySearchFunc(found, version.Version, func(u store.Usage, n uint32) int { return cmp.Compare(u.Version, n) })
		if !ok {
			found = slices.Insert(found, i, store.Usage{Name: name, Version: version.Version})
		}
		found[i].Count += t.count
		if last := time.UnixMicro(t.last).UTC(); last.After(found[i].LastUsed) {
			found[i].LastUsed = last
		}
	}
	return found, nil
}

func (g *usage) enter(ctx context.Context) error {
	select {
	case g.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *usage) leave() { <-g.turn }
