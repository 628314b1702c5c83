package keys

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"keyd/store"
)

func used(t *testing.T, v *Inventory, reference string, times int) {
	t.Helper()
	for range times {
		key, err := v.Resolve(context.Background(), reference)
		if err != nil {
			t.Fatal(err)
		}
		v.Used(key)
	}
}

// counts checks the sums by version; the store's are those that were kept.
func counts(t *testing.T, v *Inventory, name string, all, kept map[uint32]uint64) {
	t.Helper()
	for what, c := range map[string]struct {
		read func(context.Context, string) ([]store.Usage, error)
		want map[uint32]uint64
	}{"inventory": {v.Usage, all}, "store": {v.store.UsageOf, kept}} {
		found, err := c.read(context.Background(), name)
		if err != nil || len(found) != len(c.want) {
			t.Errorf("%s: %v, %v, want %v", what, found, err, c.want)
			continue
		}
		last := uint32(0)
		for _, u := range found {
			if u.Name != name || u.Version <= last || u.Count != c.want[u.Version] || time.Since(u.LastUsed) > time.Minute {
				t.Errorf("%s: %v, want %v", what, found, c.want)
			}
			last = u.Version
		}
	}
}

type tallies = map[uint32]uint64

func TestUsage(t *testing.T) {
	s := openStore(t)
	put(t, s, record(t, "zpk", 1), record(t, "zpk", 2), record(t, "other", 1))
	v := New(s)
	used(t, v, "zpk", 3) // not started: nothing is counted
	counts(t, v, "zpk", nil, nil)
	v.Start(nil)
	used(t, v, "zpk", 3)
	used(t, v, "zpk?version=1", 2)
	used(t, v, "zpk?version=2", 1) // another reading of the same version
	used(t, v, "other", 1)
	listed, err := v.List(t.Context(), "", 10)
	if err != nil {
		t.Fatal(err)
	}
	v.Used(listed[0]) // not resolved: not counted
	v.Used(Key{})
	counts(t, v, "zpk", tallies{1: 2, 2: 4}, nil)
	if err := v.Flush(); err != nil {
		t.Fatal(err)
	}
	counts(t, v, "zpk", tallies{1: 2, 2: 4}, tallies{1: 2, 2: 4})
	used(t, v, "zpk", 1)
	v.Forget("zpk") // what was counted stays
	used(t, v, "zpk", 1)
	counts(t, v, "zpk", tallies{1: 2, 2: 6}, tallies{1: 2, 2: 4})
	for range 2 {
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	used(t, v, "zpk", 1)
	counts(t, v, "zpk", tallies{1: 2, 2: 6}, tallies{1: 2, 2: 6})
	counts(t, v, "other", tallies{1: 1}, tallies{1: 1})
}

// failing is a store that does not take usage for a while.
type failing struct {
	Store
	fails atomic.Bool
	calls atomic.Int32
}

var errBroken = errors.New("broken")

func (f *failing) AddUsage(ctx context.Context, usage []store.Usage) error {
	f.calls.Add(1)
	if f.fails.Load() {
		return errBroken
	}
	return f.Store.AddUsage(ctx, usage)
}

func TestFailedFlushIsTriedAgain(t *testing.T) {
	s := openStore(t)
	many(t, s, 3*flushBatch)
	f := &failing{Store: s}
	v := New(f)
	v.Start(nil)
	for i := range 3 * flushBatch {
		used(t, v, numbered(i), 1)
	}
	f.fails.Store(true)
	for range 2 {
		used(t, v, numbered(0), 1)
		if err := v.Flush(); !errors.Is(err, errBroken) {
			t.Errorf("Flush: %v", err)
		}
	}
	counts(t, v, numbered(0), tallies{1: 3}, nil)
	counts(t, v, numbered(250), tallies{1: 1}, nil)
	f.fails.Store(false)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	counts(t, v, numbered(0), tallies{1: 3}, tallies{1: 3})
	for i := 1; i < 3*flushBatch; i += 97 {
		counts(t, v, numbered(i), tallies{1: 1}, tallies{1: 1})
	}
}

// memory is a store of one key, without a database: its waits are of the test's clock.
type memory struct {
	Store
	record store.KeyRecord
	mu     sync.Mutex
	kept   []store.Usage
	fails  bool
}

func (m *memory) Get(context.Context, string) (store.KeyRecord, error) { return m.record, nil }

func (m *memory) AddUsage(_ context.Context, usage []store.Usage) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails {
		return errBroken
	}
	m.kept = append(m.kept, usage...)
	return nil
}

func (m *memory) last() (n int, u store.Usage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.kept) > 0 {
		u = m.kept[len(m.kept)-1]
	}
	return len(m.kept), u
}

func TestUsageIsKeptEveryTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{record: record(t, "zpk", 1)}
		v := New(m)
		var told []error
		v.Start(func(err error) { told = append(told, err) })
		begin := time.Now()
		used(t, v, "zpk", 2)
		time.Sleep(flushEvery - time.Second)
		if n, _ := m.last(); n != 0 {
			t.Error("it was kept early")
		}
		time.Sleep(2 * time.Second)
		if n, u := m.last(); n != 1 || u.Count != 2 || !u.LastUsed.Equal(begin.Truncate(time.Microsecond)) {
			t.Errorf("kept is %v", u)
		}
		time.Sleep(2 * flushEvery) // unused: nothing is written
		m.mu.Lock()
		m.fails = true
		m.mu.Unlock()
		used(t, v, "zpk", 1)
		time.Sleep(2 * flushEvery)
		if n, _ := m.last(); n != 1 {
			t.Errorf("%d rows were kept", n)
		}
		m.mu.Lock()
		m.fails = false
		m.mu.Unlock()
		used(t, v, "zpk", 4)
		at := time.Now().Truncate(time.Microsecond)
		time.Sleep(time.Second)
		if err := v.Close(); err != nil {
			t.Error(err)
		}
		if n, u := m.last(); n != 2 || u.Count != 5 || !u.LastUsed.Equal(at) {
			t.Errorf("kept is %v after %d rows", u, n)
		}
		if len(told) != 2 || !errors.Is(told[0], errBroken) {
			t.Errorf("told was %v", told)
		}
	})
}

// No use is lost or counted twice, whatever happens at the same time.
func TestUsageUnderLoad(t *testing.T) {
	s := openStore(t)
	put(t, s, record(t, "a", 1), record(t, "b", 1))
	f := &failing{Store: s}
	v := New(f)
	v.Start(nil)
	const workers, each = 4, 3000
	var wait, others sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for i := range each {
				key, err := v.Resolve(context.Background(), []string{"a", "b"}[(i+w)%2])
				if err != nil {
					t.Error(err)
					return
				}
				v.Used(key)
			}
		})
	}
	ctx, stop := context.WithCancel(context.Background())
	others.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			f.fails.Store(i%3 == 0)
			_ = v.Flush() // half of the time it fails
			if i%5 == 0 {
				v.Forget("a")
			}
		}
	})
	others.Go(func() {
		for before := uint64(0); ctx.Err() == nil; {
			found, err := v.Usage(context.Background(), "a")
			if err != nil || len(found) > 1 || len(found) == 1 && found[0].Count < before {
				t.Errorf("Usage = %v, %v after %d", found, err, before)
				return
			}
			if len(found) == 1 {
				before = found[0].Count
			}
		}
	})
	wait.Wait()
	stop()
	others.Wait()
	f.fails.Store(false)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		counts(t, v, name, tallies{1: workers * each / 2}, tallies{1: workers * each / 2})
	}
}

// A cache that is too small makes a counter for each reading: they are summed up before
// there are too many.
func TestCountersAreBounded(t *testing.T) {
	s := openStore(t)
	put(t, s, record(t, "zpk", 1))
	v := New(s)
	v.usage.counting.Store(true)
	for range 3*maxNoted + 7 {
		v.Used(Key{uses: &uses{version: store.KeyVersion{Name: "zpk", Version: 1}}})
		if len(v.usage.noted) >= maxNoted {
			t.Fatalf("%d counters", len(v.usage.noted))
		}
	}
	if err := v.Flush(); err != nil {
		t.Fatal(err)
	}
	counts(t, v, "zpk", tallies{1: 3*maxNoted + 7}, tallies{1: 3*maxNoted + 7})
}

func BenchmarkUsed(b *testing.B) {
	v := New(openStore(b))
	put(b, v.store, record(b, "zpk", 1))
	key, err := v.Resolve(context.Background(), "zpk")
	if err != nil {
		b.Fatal(err)
	}
	v.Start(nil)
	defer func() {
		if err := v.Close(); err != nil {
			b.Error(err)
		}
	}()
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			v.Used(key)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				v.Used(key)
			}
		})
	})
}

// BenchmarkFlush is what a flush of a thousand versions costs, which other writers wait for
// a batch at a time.
func BenchmarkFlush(b *testing.B) {
	s := openStore(b)
	many(b, s, 1000)
	rows := make([]store.Usage, 1000)
	for i := range rows {
		rows[i] = store.Usage{Name: numbered(i), Version: 1, Count: 1, LastUsed: time.Now()}
	}
	for b.Loop() {
		for i := 0; i < len(rows); i += flushBatch {
			if err := s.AddUsage(context.Background(), rows[i:i+flushBatch]); err != nil {
				b.Fatal(err)
			}
		}
	}
}
