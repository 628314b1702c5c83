package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyd/store"
	"keyd/store/postgrestest"
	"keyd/store/storetest"
)

// throughProxy opens a database a second time, over TCP and a proxy.
func throughProxy(t *testing.T, server *postgrestest.Server, o store.PostgresOptions) (*postgrestest.Proxy, *store.Postgres) {
	t.Helper()
	p, err := postgrestest.NewProxy(server.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	o.Hosts, o.PasswordFile = []string{p.Address}, server.PasswordFile
	return p, openPostgres(t, o)
}

// step is a write whose effect can be seen.
type step struct {
	name string
	do   func(ctx context.Context, s store.Store, n int) error
	// done tells whether step n took effect; it fails the test for a part of it.
	done func(t *testing.T, s store.Store, n int) bool
}

func has(t *testing.T, err error) bool {
	t.Helper()
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func hasKeys(names ...string) func(*testing.T, store.Store, int) bool {
	return func(t *testing.T, s store.Store, n int) bool {
		t.Helper()
		there := 0
		for _, name := range names {
			_, err := s.Get(t.Context(), fmt.Sprintf("%s-%d", name, n))
			if has(t, err) {
				there++
			}
		}
		if there != 0 && there != len(names) {
			t.Fatalf("step %d: %d of %d keys are there", n, there, len(names))
		}
		return there > 0
	}
}

func newest(t *testing.T, s store.Store) (number uint64, last string) {
	t.Helper()
	if err := s.ReadJournal(t.Context(), func(n uint64, b []byte) error { number, last = n, string(b); return nil }); err != nil {
		t.Fatal(err)
	}
	return number, last
}

// steps are the writes of every part of the store. known is what the one that extends the
// journal has seen.
func steps() []step {
	var known uint64
	ceremony := func(n int) store.CeremonyRecord {
		r := storetest.Ceremony(1)
		r.ID = fmt.Sprintf("%032x", n)
		return r
	}
	return []step{
		{"Put", func(ctx context.Context, s store.Store, n int) error {
			return s.Put(ctx, storetest.Record(fmt.Sprintf("a-%d", n), 1), storetest.Record(fmt.Sprintf("b-%d", n), 1))
		}, hasKeys("a", "b")},
		{"SetAlias", func(ctx context.Context, s store.Store, n int) error {
			return s.SetAlias(ctx, fmt.Sprintf("alias-%d", n), fmt.Sprintf("target-%d", n/50), "")
		}, func(t *testing.T, s store.Store, n int) bool {
			_, err := s.Alias(t.Context(), fmt.Sprintf("alias-%d", n))
			return has(t, err)
		}},
		{"AddCeremony", func(ctx context.Context, s store.Store, n int) error { return s.AddCeremony(ctx, ceremony(n)) },
			func(t *testing.T, s store.Store, n int) bool {
				_, err := s.Ceremony(t.Context(), ceremony(n).ID)
				return has(t, err)
			}},
		{"AdvanceEpoch", func(ctx context.Context, s store.Store, n int) error {
			return s.AdvanceEpoch(ctx, uint64(n), nil, []byte("link"))
		}, func(t *testing.T, s store.Store, n int) bool {
			current, err := s.CurrentEpoch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			links, err := s.EpochLinks(t.Context(), uint64(n)-1, 1)
			if err != nil {
				t.Fatal(err)
			}
			done := current.Version == uint64(n)
			if keys := hasKeys("epoch", "epoch2")(t, s, n); keys != done || (len(links) == 1) != done {
				t.Fatalf("epoch %d: current %v, keys %v, %d links", n, done, keys, len(links))
			}
			return done
		}},
		{"ExtendJournal", func(ctx context.Context, s store.Store, n int) error {
			return s.ExtendJournal(ctx, known, nil, func(n uint64, _ []byte) error { known = n; return nil },
				func(uint64) ([]byte, error) { return fmt.Appendf(nil, "batch %d", n), nil })
		}, func(t *testing.T, s store.Store, n int) bool {
			number, last := newest(t, s)
			if number > known+1 {
				t.Fatalf("row %d follows row %d", number, known)
			}
			if n%3 != 0 { // otherwise another has written it, as far as the next step can tell
				known = number
			}
			return last == fmt.Sprintf("batch %d", n)
		}},
		{"Fold", func(ctx context.Context, s store.Store, n int) error {
			return s.Fold(ctx, storetest.Counter(fmt.Sprintf("q%d", n), 1), storetest.Counter(fmt.Sprintf("r%d", n), 2))
		}, func(t *testing.T, s store.Store, n int) bool {
			_, q := s.Counter(t.Context(), fmt.Appendf(nil, "q%d", n))
			_, r := s.Counter(t.Context(), fmt.Appendf(nil, "r%d", n))
			if has(t, q) != has(t, r) {
				t.Fatalf("step %d: a part was folded", n)
			}
			return q == nil
		}},
		{"AddReceiptKey", func(ctx context.Context, s store.Store, n int) error {
			return s.AddReceiptKey(ctx, storetest.ReceiptKey(uint64(n)))
		}, func(t *testing.T, s store.Store, n int) bool {
			keys, err := s.ReceiptKeys(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range keys {
				if k.ID == uint64(n) {
					return true
				}
			}
			return false
		}},
	}
}

// Before each step there is what it needs.
func prepareStep(t *testing.T, s store.Store, name string, n int) {
	t.Helper()
	var err error
	switch name {
	case "SetAlias":
		err = s.Replace(t.Context(), storetest.Record(fmt.Sprintf("target-%d", n/50), 1))
	case "AdvanceEpoch":
		current, e := s.CurrentEpoch(t.Context())
		if errors.Is(e, store.ErrNotFound) {
			e = s.AdoptEpoch(t.Context(), uint64(n)-1, storetest.Epoch(uint64(n)-1))
			current.Version = uint64(n) - 1
		}
		if err = e; err == nil && current.Version == uint64(n)-1 {
			if _, e := s.ProposedEpoch(t.Context()); errors.Is(e, store.ErrNotFound) {
				err = s.ProposeEpoch(t.Context(), "n", uint64(n), storetest.Epoch(uint64(n)), store.Change{Keys: []store.KeyRecord{
					storetest.Record(fmt.Sprintf("epoch-%d", n), 1), storetest.Record(fmt.Sprintf("epoch2-%d", n), 1),
				}})
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The connection is cut after so many bytes of a write, over and over: what was acknowledged
// happened, what was not has happened as a whole or not at all, and the next call works.
func TestPostgresConnectionIsCut(t *testing.T) {
	t.Parallel()
	server := sharedServer(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for _, c := range steps() {
		t.Run(c.name, func(t *testing.T) {
			o := newDatabase(t, server)
			direct := openPostgres(t, o)
			proxy, s := throughProxy(t, server, o)
			n := 10
			happened, failed := 0, 0
			cut := func(at int64) (err error) {
				n++
				prepareStep(t, direct, c.name, n)
				proxy.CutAfter(-1)
				if _, err := s.Revision(t.Context()); err != nil { // a connection is there
					t.Fatalf("after a cut: %v", err)
				}
				proxy.CutAfter(at)
				err = c.do(t.Context(), s, n)
				proxy.CutAfter(-1)
				// What was sent may be on its way to the disk yet.
				waitForOthers(t, server, o.Database)
				done := c.done(t, direct, n)
				switch {
				case err == nil && !done:
					t.Fatalf("cut after %d bytes: acknowledged, and not there", at)
				case err != nil && !errors.Is(err, store.ErrUnreachable):
					t.Fatalf("cut after %d bytes: %v, want ErrUnreachable", at, err)
				case err != nil:
					failed++
					if done {
						happened++
					}
				}
				if !done && c.name == "AdvanceEpoch" {
					n--
				}
				return err
			}
			at := random.Int64N(20)
			for whole := 0; whole < 3; at += 1 + random.Int64N(120) { // until what passes is enough
				if whole++; cut(at) != nil {
					whole = 0
				}
			}
			// Where the answer to the commit is, every few bytes, on connections that are new
			// as those that were cut above.
			// On a machine with much else to do, none may hit it: then once more.
			for round := 0; round < 5 && (round == 0 || happened == 0 || happened == failed); round++ {
				proxy.Cut()
				for fine := max(at-350*int64(round+1), 0); fine < at; fine += 1 + random.Int64N(9) {
					_ = cut(fine)
				}
			}
			if failed == 0 || happened == 0 || happened == failed {
				t.Errorf("%d cuts failed, of which %d happened: they do not reach both sides of the commit", failed, happened)
			}
			t.Logf("%d cuts failed, of which %d happened", failed, happened)
		})
	}
}

// waitForOthers waits until no other connection to a database is at work.
func waitForOthers(t *testing.T, server *postgrestest.Server, database string) {
	t.Helper()
	c, err := server.Connect(t.Context(), "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		var busy int
		err := c.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND state <> 'idle'", database).Scan(&busy)
		if err != nil {
			t.Fatal(err)
		}
		if busy == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are still at work", busy)
		}
	}
}

// load has several writers append to the journal and put keys until stop is closed, and
// records what was acknowledged. Errors are only those of a server that is away.
func load(t *testing.T, s *store.Postgres, stop chan struct{}) (acknowledged func() (rows map[uint64]string, keys []string), wait func()) {
	t.Helper()
	var mu sync.Mutex
	rows, keys := map[uint64]string{}, []string(nil)
	var running sync.WaitGroup
	for w := range 4 {
		running.Go(func() {
			known := uint64(0)
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				batch, at := fmt.Sprintf("writer %d batch %d", w, n), uint64(0)
				err := s.ExtendJournal(t.Context(), known, nil, func(n uint64, _ []byte) error { known = n; return nil },
					func(n uint64) ([]byte, error) { at = n; return []byte(batch), nil })
				name := fmt.Sprintf("key-%d-%d", w, n)
				put := s.Put(t.Context(), storetest.Record(name, 1))
				mu.Lock()
				if err == nil {
					rows[at], known = batch, at
				}
				if put == nil {
					keys = append(keys, name)
				}
				mu.Unlock()
				for _, err := range []error{err, put} {
					if err != nil && !errors.Is(err, store.ErrUnreachable) && !errors.Is(err, store.ErrReadOnly) {
						t.Errorf("writer %d: %v", w, err)
					}
				}
				if err != nil {
					time.Sleep(5 * time.Millisecond)
				}
			}
		})
	}
	return func() (map[uint64]string, []string) {
		mu.Lock()
		defer mu.Unlock()
		copied := map[uint64]string{}
		for n, b := range rows {
			copied[n] = b
		}
		return copied, append([]string(nil), keys...)
	}, running.Wait
}

// nothingLost checks that all that was acknowledged is there.
func nothingLost(t *testing.T, s store.Store, rows map[uint64]string, keys []string) {
	t.Helper()
	found := map[uint64]string{}
	if err := s.ReadJournal(t.Context(), func(n uint64, b []byte) error { found[n] = string(b); return nil }); err != nil {
		t.Fatal(err)
	}
	for n, b := range rows {
		if found[n] != b {
			t.Errorf("row %d is %q, acknowledged was %q", n, found[n], b)
		}
	}
	for _, name := range keys {
		if _, err := s.Get(t.Context(), name); err != nil {
			t.Errorf("key %s was acknowledged: %v", name, err)
		}
	}
}

func more(t *testing.T, what string, acknowledged func() (map[uint64]string, []string), than int) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		rows, keys := acknowledged()
		if len(rows) > than && len(keys) > than {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d rows and %d keys, want more than %d", what, len(rows), len(keys), than)
		}
	}
}

// The server is killed under load and started again: what was acknowledged is there, and the
// store works without hands.
func TestPostgresServerIsKilled(t *testing.T) {
	server := ownServer(t)
	s := openPostgres(t, newDatabase(t, server))
	stop := make(chan struct{})
	acknowledged, wait := load(t, s, stop)
	var once sync.Once
	end := func() { once.Do(func() { close(stop) }); wait() }
	defer end()
	for range 3 {
		rows, keys := acknowledged()
		more(t, "before the kill", acknowledged, max(len(rows), len(keys))+20)
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Revision(t.Context()); !errors.Is(err, store.ErrUnreachable) {
			t.Errorf("Revision without a server: %v, want ErrUnreachable", err)
		}
		if err := server.Launch(); err != nil {
			t.Fatal(err)
		}
		rows, keys = acknowledged()
		nothingLost(t, s, rows, keys)
		more(t, "after the start", acknowledged, max(len(rows), len(keys))+5)
	}
	end()
	rows, keys := acknowledged()
	nothingLost(t, s, rows, keys)
}

// A synchronous standby takes over: nothing that was acknowledged is lost, and the store finds
// it among its hosts.
func TestPostgresFailover(t *testing.T) {
	first := ownServer(t)
	second, err := first.Standby()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := second.Stop(); err != nil {
			t.Error(err)
		}
	})
	o := newDatabase(t, first)
	standby := o
	standby.Hosts = []string{second.SocketDir}
	o.Hosts = []string{second.SocketDir, first.SocketDir} // the order does not matter
	for deadline := time.Now().Add(30 * time.Second); second.Execute(t.Context(), o.Database, "SELECT 1") != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the standby does not have the database")
		}
	}
	s := openPostgres(t, o)
	if only, err := store.OpenPostgres(t.Context(), standby); !errors.Is(err, store.ErrReadOnly) || only != nil {
		t.Errorf("a standby alone: %v, want ErrReadOnly", err)
	}
	stop := make(chan struct{})
	acknowledged, wait := load(t, s, stop)
	var once sync.Once
	end := func() { once.Do(func() { close(stop) }); wait() }
	defer end()
	more(t, "before the failover", acknowledged, 50)
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	rows, keys := acknowledged()
	if err := second.Promote(); err != nil {
		t.Fatal(err)
	}
	nothingLost(t, s, rows, keys)
	more(t, "after the failover", acknowledged, max(len(rows), len(keys))+20)
	end()
	rows, keys = acknowledged()
	nothingLost(t, s, rows, keys)
}

// A server, or the network, falls silent: every call ends with a clear error within a time of
// its own, also when its context has no end, and works again afterwards.
func TestPostgresFallsSilent(t *testing.T) {
	t.Parallel()
	server := ownServer(t)
	o := newDatabase(t, server)
	proxy, s := throughProxy(t, server, o)
	put(t, s, storetest.Record("zpk", 1))
	addRow := func(s store.Store) error {
		known, _ := newest(t, openPostgres(t, o))
		return s.ExtendJournal(context.Background(), known, nil, func(uint64, []byte) error { return nil }, func(uint64) ([]byte, error) { return []byte("row"), nil })
	}
	if err := addRow(s); err != nil {
		t.Fatal(err)
	}
	calls := map[string]func(ctx context.Context) error{
		"Get":         func(ctx context.Context) error { _, err := s.Get(ctx, "zpk"); return err },
		"Counter":     func(ctx context.Context) error { _, err := s.Counter(ctx, []byte("q")); return err },
		"Put":         func(ctx context.Context) error { return s.Put(ctx, storetest.Record("late", 1)) },
		"Fold":        func(ctx context.Context) error { return s.Fold(ctx, storetest.Counter("q", 1)) },
		"ReadJournal": func(ctx context.Context) error { return s.ReadJournal(ctx, func(uint64, []byte) error { return nil }) },
		"Export":      func(ctx context.Context) error { return s.Export(ctx, func(store.Item) error { return nil }) },
		"Nodes":       func(ctx context.Context) error { _, err := s.Nodes(ctx); return err },
		"ExtendJournal": func(ctx context.Context) error {
			return s.ExtendJournal(ctx, 1, nil, func(uint64, []byte) error { return nil }, func(uint64) ([]byte, error) { return []byte("row"), nil })
		},
	}
	for name, silent := range map[string]func(bool) error{
		"network": func(yes bool) error { proxy.Silence(yes); return nil },
		"server": func(yes bool) error {
			if yes {
				return server.Pause()
			}
			return server.Resume()
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := silent(true); err != nil {
				t.Fatal(err)
			}
			var wait sync.WaitGroup
			var ended atomic.Int32
			for call, do := range calls {
				wait.Go(func() {
					if err := do(context.Background()); !errors.Is(err, store.ErrUnreachable) {
						t.Errorf("%s: %v, want ErrUnreachable", call, err)
					}
					ended.Add(1)
				})
			}
			wait.Wait() // the test's own time limit is the bound
			// The caller's own deadline counts when it is shorter.
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if _, err := s.Get(ctx, "zpk"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Get with a deadline: %v, want DeadlineExceeded", err)
			}
			if err := silent(false); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				_, err := s.Get(t.Context(), "zpk")
				if err == nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("Get when it answers again: %v", err)
				}
			}
			if err := addRow(s); err != nil && !strings.Contains(err.Error(), "answer in time") {
				t.Errorf("ExtendJournal when it answers again: %v", err)
			}
		})
	}
}
