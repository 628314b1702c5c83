// Package storetest is the suite that every implementation of [store.Store] passes.
// It is for tests only.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"keyd/store"
)

type test struct {
	name string
	run  func(*testing.T, store.Store)
}

// Test runs the suite. open returns a store with nothing in it, on a database of its
// own, and arranges for what remains to be removed after the test; the suite closes
// the stores.
func Test(t *testing.T, open func(t *testing.T) store.Store) {
	for _, test := range slices.Concat([]test{
		{"Empty", testEmpty},
		{"RoundTrip", testRoundTrip},
		{"Limits", testLimits},
		{"PutRefusesWhatExists", testPutExists},
		{"PutIsAllOrNothing", testAllOrNothing},
		{"Replace", testReplace},
		{"CurrentVersion", testCurrentVersion},
		{"ListPages", testListPages},
		{"Invalid", testInvalid},
		{"HostileNames", testHostileNames},
		{"EndedContext", testEndedContext},
		{"OneOfManyPutsWins", testContest},
		{"ReadersSeeWholeTransactions", testSnapshot},
		{"AgainstModel", testModel},
		{"Closed", testClosed},
	}, counterTests, versionTests, ceremonyTests, epochTests, aliasTests, tagTests, usageTests, fleetTests, terminalTests, injectionTests, pinTests, voidTests, endedTests) {
		t.Run(test.name, func(t *testing.T) {
			s := open(t)
			test.run(t, s)
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// Record returns a valid record: enabled, with a sealed key that follows from name
// and version.
func Record(name string, version uint32) store.KeyRecord {
	return store.KeyRecord{
		Name: name, Version: version, State: store.Enabled,
		Sealed:    fmt.Appendf(nil, "sealed %s %d", name, version),
		CreatedAt: time.Date(2026, 3, 14, 15, 9, 26, 535897000, time.UTC),
	}
}

func testEmpty(t *testing.T, s store.Store) {
	if r, err := s.Get(t.Context(), "zpk"); !errors.Is(err, store.ErrNotFound) || r.Sealed != nil {
		t.Errorf("Get = %v, %v, want ErrNotFound", r, err)
	}
	if l, err := s.List(t.Context(), "", store.MaxList); err != nil || len(l) != 0 {
		t.Errorf("List = %v, %v, want nothing", l, err)
	}
	if err := s.Put(t.Context()); err != nil {
		t.Errorf("Put of nothing: %v", err)
	}
}

func testRoundTrip(t *testing.T, s store.Store) {
	in := store.KeyRecord{
		Name: "zpk.acquirer-7", Version: 4294967295, State: store.Disabled,
		Sealed: []byte{0, 1, 0xff, 0, '\'', ';'},
		// 12:34:56.123456789 in Tokyo: kept in UTC, cut to the microsecond.
		CreatedAt: time.Date(2026, 2, 3, 12, 34, 56, 123456789, time.FixedZone("JST", 9*3600)),
	}
	put(t, s, in)
	want := in
	want.CreatedAt = time.Date(2026, 2, 3, 3, 34, 56, 123456000, time.UTC)
	got := get(t, s, in.Name)
	same(t, got, want)
	if got.CreatedAt.Location() != time.UTC {
		t.Errorf("CreatedAt is in %v, want UTC", got.CreatedAt.Location())
	}
	// The result is the caller's, and so is the argument.
	clear(got.Sealed)
	clear(in.Sealed)
	want.Sealed = []byte{0, 1, 0xff, 0, '\'', ';'}
	same(t, get(t, s, in.Name), want)
	l, err := s.List(t.Context(), "", 1)
	if err != nil || len(l) != 1 {
		t.Fatalf("List = %v, %v", l, err)
	}
	same(t, l[0], want)
}

func testLimits(t *testing.T, s store.Store) {
	var visible strings.Builder
	for c := byte('!'); c <= '~'; c++ {
		visible.WriteByte(c)
	}
	records := []store.KeyRecord{
		Record(strings.Repeat("n", store.MaxName), 1), Record("a", 1), Record(visible.String(), 1), Record("earliest", 1), Record("latest", 1),
	}
	records[0].Sealed = bytes.Repeat([]byte{0xa5}, store.MaxSealed)
	records[1].Sealed = []byte{0}
	records[3].CreatedAt = time.Unix(0, 0).UTC()
	records[4].CreatedAt = time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	put(t, s, records...)
	for _, r := range records {
		same(t, get(t, s, r.Name), r)
	}
}

func testPutExists(t *testing.T, s store.Store) {
	first, second := Record("zpk", 1), Record("zpk", 1)
	second.Sealed = []byte("another")
	put(t, s, first)
	if err := s.Put(t.Context(), second); !errors.Is(err, store.ErrExists) {
		t.Errorf("second Put: %v, want ErrExists", err)
	}
	same(t, get(t, s, "zpk"), first)
	put(t, s, Record("zpk", 2), Record("ZPK", 1)) // names differ by case
}

func testAllOrNothing(t *testing.T, s store.Store) {
	put(t, s, Record("m", 1))
	if err := s.Put(t.Context(), Record("a", 1), Record("m", 1), Record("z", 1)); !errors.Is(err, store.ErrExists) {
		t.Errorf("Put: %v, want ErrExists", err)
	}
	names(t, s, "m")
	put(t, s, Record("a", 1), Record("z", 1)) // nothing of the refused transaction stays
	names(t, s, "a", "m", "z")
}

func testReplace(t *testing.T, s store.Store) {
	put(t, s, Record("zpk", 1), Record("zpk", 2), Record("bdk", 1))
	changed := Record("zpk", 2)
	changed.State, changed.Sealed, changed.CreatedAt = store.Disabled, []byte("another"), changed.CreatedAt.Add(time.Hour)
	if err := s.Replace(t.Context(), changed, Record("new", 1)); err != nil {
		t.Fatalf("Replace: %v", err)
	}
	same(t, get(t, s, "zpk"), changed)
	same(t, get(t, s, "new"), Record("new", 1))
	same(t, get(t, s, "bdk"), Record("bdk", 1))
}

func testCurrentVersion(t *testing.T, s store.Store) {
	for _, v := range []uint32{2, 10, 1, 9} { // as a number, not as text or in the order of writing
		put(t, s, Record("zpk", v))
	}
	same(t, get(t, s, "zpk"), Record("zpk", 10))
	stopped := Record("zpk", 10)
	stopped.State = store.Disabled
	if err := s.Replace(t.Context(), stopped); err != nil {
		t.Fatal(err)
	}
	same(t, get(t, s, "zpk"), stopped)
	put(t, s, Record("bdk", 3))
	names(t, s, "bdk", "zpk") // each once
}

func testListPages(t *testing.T, s store.Store) {
	sorted := []string{"!", "A", "B", "Z", "_", "a", "a-1", "a.1", "aa", "b", "~"} // bytes, not a language's order
	records := make([]store.KeyRecord, 0, 2*len(sorted))
	for _, n := range slices.Backward(sorted) {
		records = append(records, Record(n, 1), Record(n, 2))
	}
	put(t, s, records...)
	for limit := 1; limit <= len(sorted)+1; limit++ {
		var got []string
		for after := ""; ; {
			page, err := s.List(t.Context(), after, limit)
			if err != nil || len(page) > limit {
				t.Fatalf("List(%q, %d) = %d records, %v", after, limit, len(page), err)
			}
			for _, r := range page {
				same(t, r, Record(r.Name, 2))
				got = append(got, r.Name)
			}
			if len(page) < limit {
				break
			}
			after = page[len(page)-1].Name
		}
		if !slices.Equal(got, sorted) {
			t.Errorf("pages of %d: %q, want %q", limit, got, sorted)
		}
	}
	if page, err := s.List(t.Context(), "a-", 1); err != nil || len(page) != 1 || page[0].Name != "a-1" {
		t.Errorf("List after a name that is not kept: %v, %v", page, err)
	}
}

func testInvalid(t *testing.T, s store.Store) {
	change := func(f func(*store.KeyRecord)) store.KeyRecord {
		r := Record("zpk", 1)
		f(&r)
		return r
	}
	for name, r := range map[string]store.KeyRecord{
		"no name":      change(func(r *store.KeyRecord) { r.Name = "" }),
		"long name":    change(func(r *store.KeyRecord) { r.Name = strings.Repeat("n", store.MaxName+1) }),
		"space":        change(func(r *store.KeyRecord) { r.Name = "a b" }),
		"line feed":    change(func(r *store.KeyRecord) { r.Name = "a\n" }),
		"NUL":          change(func(r *store.KeyRecord) { r.Name = "a\x00b" }),
		"DEL":          change(func(r *store.KeyRecord) { r.Name = "a\x7f" }),
		"not ASCII":    change(func(r *store.KeyRecord) { r.Name = "schlüssel" }),
		"not UTF-8":    change(func(r *store.KeyRecord) { r.Name = "a\xff" }),
		"version 0":    change(func(r *store.KeyRecord) { r.Version = 0 }),
		"no state":     change(func(r *store.KeyRecord) { r.State = "" }),
		"lower case":   change(func(r *store.KeyRecord) { r.State = "enabled" }),
		"no sealed":    change(func(r *store.KeyRecord) { r.Sealed = nil }),
		"empty sealed": change(func(r *store.KeyRecord) { r.Sealed = []byte{} }),
		"long sealed":  change(func(r *store.KeyRecord) { r.Sealed = make([]byte, store.MaxSealed+1) }),
		"no time":      change(func(r *store.KeyRecord) { r.CreatedAt = time.Time{} }),
		"year 1969":    change(func(r *store.KeyRecord) { r.CreatedAt = time.Unix(-1, 0).UTC() }),
		"year 10000":   change(func(r *store.KeyRecord) { r.CreatedAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }),
	} {
		if err := s.Put(t.Context(), Record("good", 1), r); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: Put: %v, want ErrInvalid", name, err)
		}
		if err := s.Replace(t.Context(), Record("good", 1), r); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: Replace: %v, want ErrInvalid", name, err)
		}
	}
	for name, write := range map[string]func(context.Context, ...store.KeyRecord) error{"Put": s.Put, "Replace": s.Replace} {
		if err := write(t.Context(), Record("twice", 1), Record("other", 1), Record("twice", 1)); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s of the same version twice: %v, want ErrInvalid", name, err)
		}
	}
	for _, limit := range []int{-1, 0, store.MaxList + 1} {
		if _, err := s.List(t.Context(), "", limit); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("List of %d: %v, want ErrInvalid", limit, err)
		}
	}
	names(t, s)
}

func testHostileNames(t *testing.T, s store.Store) {
	put(t, s, Record("zpk", 1))
	for _, name := range []string{
		"", "'", "zpk'; DROP TABLE keys; --", "zpk' OR '1'='1", "%", "_pk", "ZPK", "zpk ", " zpk", "zpk\x00", "\x00", "\xff\xfe", "?", "$1",
		strings.Repeat("zpk", 100_000),
	} {
		if r, err := s.Get(t.Context(), name); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Get(%.40q) = %v, %v, want ErrNotFound", name, r, err)
		}
	}
	injection := Record("'||(SELECT/**/1)||'", 1)
	put(t, s, injection)
	same(t, get(t, s, injection.Name), injection)
	names(t, s, injection.Name, "zpk")
}

func testEndedContext(t *testing.T, s store.Store) {
	put(t, s, Record("zpk", 1))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, getErr := s.Get(ended, "zpk")
	_, listErr := s.List(ended, "", 1)
	for name, err := range map[string]error{
		"Get": getErr, "List": listErr, "Put": s.Put(ended, Record("bdk", 1)), "Replace": s.Replace(ended, Record("zpk", 1)),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", name, err)
		}
	}
	names(t, s, "zpk")
	put(t, s, Record("bdk", 1)) // the store goes on
}

func testContest(t *testing.T, s store.Store) {
	const writers, rounds = 8, 10
	for round := range rounds {
		name := fmt.Sprintf("contested-%d", round)
		var wait sync.WaitGroup
		errs := make([]error, writers)
		for w := range writers {
			wait.Go(func() {
				r := Record(name, 1)
				r.Sealed = []byte{byte(w)}
				errs[w] = s.Put(t.Context(), r, Record(fmt.Sprintf("own-%d-%d", round, w), 1))
			})
		}
		wait.Wait()
		winner := int(get(t, s, name).Sealed[0])
		for w, err := range errs {
			_, ownErr := s.Get(t.Context(), fmt.Sprintf("own-%d-%d", round, w))
			switch {
			case w == winner && (err != nil || ownErr != nil):
				t.Errorf("the winner: Put %v, Get of its other record %v", err, ownErr)
			case w != winner && (!errors.Is(err, store.ErrExists) || !errors.Is(ownErr, store.ErrNotFound)):
				t.Errorf("a loser: Put %v, Get of its other record %v", err, ownErr)
			}
		}
	}
}

func testSnapshot(t *testing.T, s store.Store) {
	write := func(sealed string) error {
		a, b := Record("a", 1), Record("b", 1)
		a.Sealed, b.Sealed = []byte(sealed), []byte(sealed)
		return s.Replace(t.Context(), a, b)
	}
	if err := write("0"); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				l, err := s.List(t.Context(), "", 2)
				if err != nil || len(l) != 2 || !bytes.Equal(l[0].Sealed, l[1].Sealed) {
					t.Errorf("List = %v, %v, want two of one transaction", l, err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for w := range 2 {
		writers.Go(func() {
			for i := range 50 {
				if err := write(fmt.Sprintf("%d %d", w, i)); err != nil {
					t.Errorf("Replace: %v", err)
					return
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
}

// testModel compares with a map under random sequences of operations.
func testModel(t *testing.T, s store.Store) {
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		prefix := fmt.Sprintf("run-%09d-", run) // one store for all runs, names of its own for each
		type identity struct {
			name    string
			version uint32
		}
		model := map[identity]store.KeyRecord{}
		current := func() map[string]store.KeyRecord {
			m := map[string]store.KeyRecord{}
			for id, r := range model {
				if r.Version > m[id.name].Version {
					m[id.name] = r
				}
			}
			return m
		}
		record := rapid.Custom(func(rt *rapid.T) store.KeyRecord {
			return store.KeyRecord{
				Name:      prefix + rapid.SampledFrom([]string{"a", "B", "c'"}).Draw(rt, "name"),
				Version:   rapid.Uint32Range(1, 3).Draw(rt, "version"),
				State:     rapid.SampledFrom([]store.State{store.Enabled, store.Disabled}).Draw(rt, "state"),
				Sealed:    rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(rt, "sealed"),
				CreatedAt: time.UnixMicro(rapid.Int64Range(0, 1<<52).Draw(rt, "created")).UTC(),
			}
		})
		batch := rapid.SliceOfNDistinct(record, 1, 3, func(r store.KeyRecord) identity { return identity{r.Name, r.Version} })
		keep := func(records []store.KeyRecord) {
			for _, r := range records {
				model[identity{r.Name, r.Version}] = r
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				records := batch.Draw(rt, "records")
				var want error
				for _, r := range records {
					if _, ok := model[identity{r.Name, r.Version}]; ok {
						want = store.ErrExists
					}
				}
				if err := s.Put(t.Context(), records...); !errors.Is(err, want) {
					rt.Fatalf("Put: %v, want %v", err, want)
				}
				if want == nil {
					keep(records)
				}
			},
			"replace": func(rt *rapid.T) {
				records := batch.Draw(rt, "records")
				if err := s.Replace(t.Context(), records...); err != nil {
					rt.Fatalf("Replace: %v", err)
				}
				keep(records)
			},
			"": func(rt *rapid.T) {
				want := current()
				l, err := s.List(t.Context(), prefix, 10)
				if err != nil {
					rt.Fatalf("List: %v", err)
				}
				l = slices.DeleteFunc(l, func(r store.KeyRecord) bool { return !strings.HasPrefix(r.Name, prefix) })
				if len(l) != len(want) {
					rt.Fatalf("List has %d records, want %d", len(l), len(want))
				}
				for _, r := range l {
					same(rt, r, want[r.Name])
					g, err := s.Get(t.Context(), r.Name)
					if err != nil {
						rt.Fatalf("Get: %v", err)
					}
					same(rt, g, want[r.Name])
				}
			},
		})
	})
}

func testClosed(t *testing.T, s store.Store) {
	put(t, s, Record("zpk", 1))
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	_, getErr := s.Get(t.Context(), "zpk")
	_, listErr := s.List(t.Context(), "", 1)
	for name, err := range map[string]error{
		"Get": getErr, "List": listErr, "Put": s.Put(t.Context(), Record("bdk", 1)), "Replace": s.Replace(t.Context(), Record("zpk", 1)),
	} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
}

func put(t *testing.T, s store.Store, records ...store.KeyRecord) {
	t.Helper()
	if err := s.Put(t.Context(), records...); err != nil {
		t.Fatalf("Put: %v", err)
	}
}

func get(t *testing.T, s store.Store, name string) store.KeyRecord {
	t.Helper()
	r, err := s.Get(t.Context(), name)
	if err != nil {
		t.Fatalf("Get(%q): %v", name, err)
	}
	return r
}

// names checks which keys are kept.
func names(t *testing.T, s store.Store, want ...string) {
	t.Helper()
	l, err := s.List(t.Context(), "", store.MaxList)
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	got := make([]string, len(l))
	for i, r := range l {
		got[i] = r.Name
	}
	if !slices.Equal(got, want) {
		t.Errorf("kept are %q, want %q", got, want)
	}
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func same(t failer, got, want store.KeyRecord) {
	t.Helper()
	if got.Name != want.Name || got.Version != want.Version || got.State != want.State ||
		!bytes.Equal(got.Sealed, want.Sealed) || !got.CreatedAt.Equal(want.CreatedAt) {
		t.Fatalf("got %v, want %v", got, want)
	}
}
