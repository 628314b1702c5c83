package ksn

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"keyd/store"
)

// Each ledger below has a store of its own on one database: to the database they are
// processes.

// Every counter is accepted once, by whichever ledger, and no request fails because of the
// others, who fold all the time.
func TestSeveralLedgersOnOneDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.db")
	severalLedgers(t, func() store.Counters { return openStore(t, path) })
}

func severalLedgers(t *testing.T, open func() store.Counters) {
	t.Helper()
	const processes, callers, sequences, rounds, each = 3, 4, 3, 20, 3
	ledgers := make([]*Ledger, processes)
	for i := range ledgers {
		ledgers[i] = openLedger(t, open(), Options{limits: killLimits})
	}
	var mu sync.Mutex
	winners := map[[2]int][]string{} // by sequence and counter
	won := map[int]int{}             // by ledger
	for round := range rounds {      // all begin one together, so that no ledger is done before another has begun
		var wait sync.WaitGroup
		for i, l := range ledgers {
			for c := range callers {
				wait.Go(func() {
					for n := round*each + 1; n <= (round+1)*each; n++ {
						for q := range sequences {
							q = (q + i) % sequences // each ledger comes to another one first
							request := fmt.Sprintf("ledger %d caller %d", i, c)
							got, _, err := l.Accept(t.Context(), []Use{benchUse(q, uint32(n))}, []byte(request), []byte(request))
							switch {
							case err == nil && string(got) == request:
								mu.Lock()
								winners[[2]int{q, n}] = append(winners[[2]int{q, n}], request)
								won[i]++
								mu.Unlock()
							case !errors.Is(err, isReplay):
								t.Errorf("%s: %q, %v (%v)", request, got, err, errors.Unwrap(err))
								return
							}
						}
						// Sequences of its own, so that there is something to fold.
						accept(t, l, "own", "a", benchUse(1000+100*i+10*c+n%10, uint32(1+n/10)))
					}
				})
			}
		}
		wait.Wait()
		for q := range sequences { // a counter is only skipped when a later one came first
			if n := (round + 1) * each; len(winners[[2]int{q, n}]) != 1 {
				t.Errorf("sequence %d: counter %d, the last of its round, was accepted for %q", q, n, winners[[2]int{q, n}])
			}
		}
	}
	for at, who := range winners {
		if len(who) != 1 {
			t.Errorf("sequence %d counter %d was accepted for %q", at[0], at[1], who)
		}
	}
	if len(won) < 2 {
		t.Errorf("the ledgers did not meet: %v", won)
	}
	folds := uint64(0)
	for _, l := range ledgers {
		folds += l.Stats().Folds
	}
	if folds == 0 {
		t.Error("nothing was folded")
	}
}

// A retry that comes to another ledger gets the answer, before and after the journal was
// folded, and another request is refused there.
func TestRetryAtAnotherLedger(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.db")
	retryAtAnother(t, func() store.Counters { return openStore(t, path) })
}

func retryAtAnother(t *testing.T, open func() store.Counters) {
	t.Helper()
	first := openLedger(t, open(), Options{})
	second := openLedger(t, open(), Options{})
	for n := uint32(1); n <= 20; n++ {
		at, other := first, second
		if n%2 == 0 {
			at, other = other, at
		}
		accept(t, at, fmt.Sprint("r", n), fmt.Sprint("a", n), benchUse(1, n))
		if n%3 == 0 {
			if err := at.foldJournal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		got, _, err := other.Accept(t.Context(), []Use{benchUse(1, n)}, fmt.Append(nil, "r", n), []byte("must not be stored"))
		if err != nil || string(got) != fmt.Sprint("a", n) {
			t.Fatalf("the retry at the other: %q, %v", got, err)
		}
		refuse(t, other, "another", benchUse(1, n))
		refuse(t, other, fmt.Sprint("r", n-1), benchUse(1, max(1, n-1)))
	}
}

// Identical requests that come to all ledgers at once get one answer.
func TestIdenticalRequestsAtSeveralLedgers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.db")
	identicalRequests(t, func() store.Counters { return openStore(t, path) })
}

func identicalRequests(t *testing.T, open func() store.Counters) {
	t.Helper()
	const processes, callers, rounds = 3, 8, 30
	ledgers := make([]*Ledger, processes)
	for i := range ledgers {
		ledgers[i] = openLedger(t, open(), Options{limits: killLimits})
	}
	for round := uint32(1); round <= rounds; round++ {
		answers := make([][]byte, processes*callers)
		var wait sync.WaitGroup
		begin := make(chan struct{})
		for i := range answers {
			wait.Go(func() {
				<-begin
				var err error
				answers[i], _, err = ledgers[i%processes].Accept(t.Context(), []Use{benchUse(1, round)}, []byte("request"), fmt.Appendf(nil, "answer %d", i))
				if err != nil {
					t.Errorf("round %d: caller %d: %v (%v)", round, i, err, errors.Unwrap(err))
				}
			})
		}
		close(begin)
		wait.Wait()
		for i, a := range answers {
			if !bytes.Equal(a, answers[0]) {
				t.Errorf("round %d: caller %d got %q, another %q", round, i, a, answers[0])
			}
		}
	}
}

// A ledger that slept while others worked and folded begins again with what they left.
func TestLedgerFallsBehind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.db")
	sleeper := openLedger(t, openStore(t, path), Options{})
	accept(t, sleeper, "r", "a", benchUse(1, 1))
	accept(t, sleeper, "r", "a", benchUse(2, 1))
	other := openLedger(t, openStore(t, path), Options{})
	for n := uint32(2); n <= 10; n++ {
		accept(t, other, "other", "o", benchUse(1, n))
		if err := other.foldJournal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for n := uint32(1); n < 10; n++ {
		refuse(t, sleeper, "r", benchUse(1, n))
	}
	accept(t, sleeper, "other", "o", benchUse(1, 10)) // the retry
	accept(t, sleeper, "r", "a", benchUse(2, 1))      // folded meanwhile, and still the last
	accept(t, sleeper, "r", "a", benchUse(1, 11))
	refuse(t, other, "r2", benchUse(1, 11))

	// What is too far ahead of what it knows is not too far ahead of what the other accepted.
	c := uint32(11)
	for range 3 {
		c += DefaultMaxJump
		accept(t, other, "far", "a", benchUse(1, c))
	}
	if stored, err := sleeper.Look(t.Context(), []Use{benchUse(1, c+1)}, nil); stored != nil || err != nil {
		t.Errorf("Look: %q, %v, want fresh", stored, err)
	}
	accept(t, sleeper, "r", "a", benchUse(1, c+1))
}

// Several fold the same journal: no counter goes back, and who comes later writes nothing.
func TestSeveralFold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.db")
	first, second := openLedger(t, openStore(t, path), Options{}), openLedger(t, openStore(t, path), Options{})
	for n := range 50 {
		accept(t, first, "r", "a", benchUse(n, 1))
		accept(t, second, "r", "a", benchUse(n, 2))
	}
	accept(t, first, "r", "a", benchUse(100, 1)) // takes in what the second wrote
	var wait sync.WaitGroup
	for _, l := range []*Ledger{first, second} {
		wait.Go(func() {
			if err := l.foldJournal(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	for n := range 50 {
		for _, l := range []*Ledger{first, second} {
			refuse(t, l, "r", benchUse(n, 1))
			accept(t, l, "r", "a", benchUse(n, 2))
		}
	}
}

// A database that was set back is not believed by who has seen more.
func TestDatabaseSetBack(t *testing.T) {
	f := newFlaky(t)
	l := openLedger(t, f, Options{})
	accept(t, l, "r", "a", benchUse(1, 1))
	accept(t, l, "r", "a", benchUse(1, 2))
	earlier := openStore(t, filepath.Join(t.TempDir(), "keyd.db"))
	older := openLedger(t, earlier, Options{})
	accept(t, older, "r", "a", benchUse(1, 1))
	newer := f.Counters
	f.Counters = earlier
	for range 2 {
		if _, _, err := l.Accept(t.Context(), []Use{benchUse(1, 3)}, []byte("r"), nil); !errors.Is(err, isUnavailable) || !errors.Is(err, store.ErrRolledBack) {
			t.Errorf("Accept: %v (%v), want ErrRolledBack", err, errors.Unwrap(err))
		}
	}
	refuse(t, l, "other", benchUse(1, 1)) // it is still known
	l.forget()
	if _, _, err := l.Accept(t.Context(), []Use{benchUse(1, 2)}, []byte("other"), nil); !errors.Is(err, store.ErrRolledBack) {
		t.Errorf("Accept after all was forgotten: %v (%v), want ErrRolledBack", err, errors.Unwrap(err))
	}
	// Not when it comes back either: somebody has to look.
	f.Counters = newer
	if _, _, err := l.Accept(t.Context(), []Use{benchUse(1, 3)}, []byte("r"), nil); !errors.Is(err, store.ErrRolledBack) {
		t.Errorf("Accept when the newer one is back: %v (%v), want ErrRolledBack", err, errors.Unwrap(err))
	}
	l = openLedger(t, f, Options{})
	refuse(t, l, "other", benchUse(1, 2))
	accept(t, l, "r", "a", benchUse(1, 3))
}

// A database that was set back and has grown since, past what a process knew, is not believed
// either: the row behind its last one follows another.
func TestDatabaseSetBackAndGrown(t *testing.T) {
	for grown := range 4 { // to one row less than was known, to as many, past it
		f := newFlaky(t)
		l := openLedger(t, f, Options{})
		for counter := range uint32(3) {
			accept(t, l, "r", "a", benchUse(1, counter+1))
		}
		earlier := openStore(t, filepath.Join(t.TempDir(), "keyd.db"))
		other := openLedger(t, earlier, Options{})
		for n := range 2 + grown {
			accept(t, other, "r", "a", benchUse(10+n, 1))
		}
		f.Counters = earlier
		_, _, err := l.Accept(t.Context(), []Use{benchUse(1, 4)}, []byte("r"), nil)
		if !errors.Is(err, store.ErrRolledBack) {
			t.Errorf("grown to %d rows of 3: %v (%v), want ErrRolledBack", 2+grown, err, errors.Unwrap(err))
		}
		l.forget()
		if _, _, err := l.Accept(t.Context(), []Use{benchUse(1, 5)}, []byte("r"), nil); !errors.Is(err, store.ErrRolledBack) {
			t.Errorf("grown to %d rows of 3, after all was forgotten: %v (%v), want ErrRolledBack", 2+grown, err, errors.Unwrap(err))
		}
	}
}

// The clocks of two processes differ by less than a quarter of the window: neither deletes
// a key that the other has just made, nor drops its receipts.
func TestClocksDiffer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.db")
	const window = time.Minute
	slow, fast := newClock(), newClock()
	fast.add(window/4 - time.Second)
	s := openStore(t, path)
	behind := openLedger(t, openStore(t, path), Options{RetryWindow: window, clock: slow.read})
	ahead := openLedger(t, s, Options{RetryWindow: window, clock: fast.read})
	accept(t, ahead, "r", "a", benchUse(1, 1))
	if err := behind.receipts.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	accept(t, behind, "r", "a", benchUse(1, 1))
	if err := behind.foldJournal(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, l := range []*Ledger{ahead, behind} {
		accept(t, l, "r", "a", benchUse(1, 1))
	}
	// Whoever comes first deletes it when its time has come.
	slow.add(2*window + window/4)
	if err := behind.receipts.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if keys, err := s.ReceiptKeys(t.Context()); err != nil || len(keys) != 0 {
		t.Errorf("%d keys are left, %v", len(keys), err)
	}
	refuse(t, behind, "r", benchUse(1, 1))
}

// TestSeveralAgainstModel compares several ledgers on one database with one map: random uses
// and retries at any of them, folds, and ledgers that forget or are opened again.
func TestSeveralAgainstModel(t *testing.T) {
	dir, run := t.TempDir(), 0
	var met atomic.Int32
	rapid.Check(t, func(rt *rapid.T) {
		run++
		path := filepath.Join(dir, fmt.Sprintf("%d.db", run))
		o := Options{MaxJump: 4, limits: limits{
			foldSequences: 3, foldRows: 4, foldBytes: 1 << 20, maxSequences: 1000, maxRows: 1000, maxBytes: 1 << 20, foldChunk: 1, trimChunk: 1,
		}}
		const processes = 3
		stores, ledgers := make([]*store.SQLite, processes), make([]*Ledger, processes)
		for i := range processes {
			var err error
			if stores[i], err = store.OpenSQLite(t.Context(), path); err == nil {
				ledgers[i], err = Open(t.Context(), stores[i], o)
			}
			if err != nil {
				rt.Fatal(err)
			}
		}
		defer func() {
			for i := range processes {
				if err := errors.Join(ledgers[i].Close(), stores[i].Close()); err != nil {
					rt.Fatal(err)
				}
			}
		}()
		type accepted struct {
			id, answer string
			at         int
			counters   map[int]uint32
		}
		last := map[int]*accepted{} // by sequence
		serial := 0
		uses := func(counters map[int]uint32) (uses []Use) {
			for _, n := range slices.Sorted(maps.Keys(counters)) {
				uses = append(uses, benchUse(n, counters[n]))
			}
			return uses
		}
		rt.Repeat(map[string]func(*rapid.T){
			"accept": func(rt *rapid.T) {
				at := rapid.IntRange(0, processes-1).Draw(rt, "ledger")
				counters, fresh := map[int]uint32{}, true
				for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(0, 3), 1, 3, rapid.ID).Draw(rt, "sequences") {
					before := uint32(0)
					if a := last[n]; a != nil {
						before = a.counters[n]
					}
					c := max(1, int(before)+rapid.IntRange(-1, 6).Draw(rt, "step"))
					counters[n] = uint32(c)
					fresh = fresh && (before == 0 || uint32(c) > before && uint32(c)-before <= 4)
				}
				serial++
				a := &accepted{fmt.Sprint("request ", serial), fmt.Sprint("answer ", serial), at, counters}
				got, _, err := ledgers[at].Accept(t.Context(), uses(counters), []byte(a.id), []byte(a.answer))
				switch {
				case fresh && (err != nil || string(got) != a.answer):
					rt.Fatalf("%v is fresh: %q, %v (%v)", counters, got, err, errors.Unwrap(err))
				case fresh:
					for n := range counters {
						last[n] = a
					}
				case !errors.Is(err, isReplay):
					rt.Fatalf("%v is a replay: %q, %v", counters, got, err)
				}
			},
			"again": func(rt *rapid.T) {
				a := last[rapid.IntRange(0, 3).Draw(rt, "sequence")]
				if a == nil {
					return
				}
				at := rapid.IntRange(0, processes-1).Draw(rt, "ledger")
				whole := true
				for n := range a.counters {
					whole = whole && last[n] == a
				}
				got, _, err := ledgers[at].Accept(t.Context(), uses(a.counters), []byte(a.id), []byte("must not be stored"))
				switch {
				case whole && (err != nil || string(got) != a.answer):
					rt.Fatalf("the retry of %s: %q, %v, want %q", a.id, got, err, a.answer)
				case !whole && !errors.Is(err, isReplay):
					rt.Fatalf("%s again, after another: %q, %v", a.id, got, err)
				case whole && at != a.at:
					met.Add(1)
				}
			},
			"fold": func(rt *rapid.T) {
				if err := ledgers[rapid.IntRange(0, processes-1).Draw(rt, "ledger")].foldJournal(t.Context()); err != nil {
					rt.Fatal(err)
				}
			},
			"forget": func(rt *rapid.T) { ledgers[rapid.IntRange(0, processes-1).Draw(rt, "ledger")].forget() },
			"open again": func(rt *rapid.T) {
				i := rapid.IntRange(0, processes-1).Draw(rt, "ledger")
				err := ledgers[i].Close()
				if err == nil {
					ledgers[i], err = Open(t.Context(), stores[i], o)
				}
				if err != nil {
					rt.Fatal(err)
				}
			},
		})
	})
	if met.Load() == 0 {
		t.Error("no retry came to another ledger")
	}
}
