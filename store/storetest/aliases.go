package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"keyd/store"
)

// aliasTests are the tests of [store.Aliases].
var aliasTests = []test{
	{"Alias", testAlias},
	{"AliasAndKeyHaveDifferentNames", testAliasNames},
	{"AliasContest", testAliasContest},
	{"AliasAgainstKey", testAliasAgainstKey},
	{"AliasPages", testAliasPages},
	{"AliasInvalid", testAliasInvalid},
	{"AliasAgainstModel", testAliasModel},
}

func testAlias(t *testing.T, s store.Store) {
	put(t, s, Record("k1", 1), Record("k2", 1))
	if err := s.SetAlias(t.Context(), "a", "k1", "k2"); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a new one where another is expected: %v, want ErrConflict", err)
	}
	setAlias(t, s, "a", "k1", "")
	for _, expected := range []string{"", "k2", "a", "K1"} {
		if err := s.SetAlias(t.Context(), "a", "k2", expected); !errors.Is(err, store.ErrConflict) {
			t.Errorf("%q is expected: %v, want ErrConflict", expected, err)
		}
		if err := s.DeleteAlias(t.Context(), "a", expected); !errors.Is(err, store.ErrConflict) {
			t.Errorf("DeleteAlias: %q is expected: %v, want ErrConflict", expected, err)
		}
	}
	standsFor(t, s, "a", "k1")
	setAlias(t, s, "a", "k1", "k1")
	setAlias(t, s, "a", "k2", "k1")
	standsFor(t, s, "a", "k2")
	if err := s.SetAlias(t.Context(), "a", "k3", "k2"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a key that is not there: %v, want ErrNotFound", err)
	}
	if err := s.SetAlias(t.Context(), "b", "a", ""); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an alias of an alias: %v, want ErrNotFound", err)
	}
	setAlias(t, s, "A", "k1", "")
	standsFor(t, s, "a", "k2")
	if err := s.DeleteAlias(t.Context(), "a", "k2"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "", "k1", "'", strings.Repeat("a", 100_000)} {
		if key, err := s.Alias(t.Context(), name); !errors.Is(err, store.ErrNotFound) || key != "" {
			t.Errorf("Alias(%.20q) = %q, %v, want ErrNotFound", name, key, err)
		}
		if err := s.DeleteAlias(t.Context(), name, "k2"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("DeleteAlias(%.20q): %v, want ErrNotFound", name, err)
		}
	}
}

func testAliasNames(t *testing.T, s store.Store) {
	put(t, s, Record("k1", 1), Record("k2", 1))
	setAlias(t, s, "a", "k1", "")
	if err := s.SetAlias(t.Context(), "k2", "k1", ""); !errors.Is(err, store.ErrExists) {
		t.Errorf("an alias with the name of a key: %v, want ErrExists", err)
	}
	if err := s.Put(t.Context(), Record("k3", 1), Record("a", 1)); !errors.Is(err, store.ErrExists) {
		t.Errorf("Put under an alias: %v, want ErrExists", err)
	}
	if err := s.Replace(t.Context(), Record("k3", 1), Record("a", 1)); !errors.Is(err, store.ErrExists) {
		t.Errorf("Replace under an alias: %v, want ErrExists", err)
	}
	names(t, s, "k1", "k2")
	if err := s.DeleteAlias(t.Context(), "a", "k1"); err != nil {
		t.Fatal(err)
	}
	put(t, s, Record("a", 1))
	names(t, s, "a", "k1", "k2")
}

// Of many who move an alias from where they saw it one succeeds.
func testAliasContest(t *testing.T, s store.Store) {
	const movers = 6
	for m := range movers {
		for round := range 2 {
			put(t, s, Record(fmt.Sprintf("key-%d-%d", round, m), 1))
		}
	}
	before := ""
	for round := range 30 {
		var won atomic.Int32
		var winner atomic.Value
		var wait sync.WaitGroup
		for m := range movers {
			wait.Go(func() {
				key := fmt.Sprintf("key-%d-%d", round%2, m)
				switch err := s.SetAlias(t.Context(), "a", key, before); {
				case err == nil:
					won.Add(1)
					winner.Store(key)
				case !errors.Is(err, store.ErrConflict):
					t.Errorf("a loser: %v, want ErrConflict", err)
				}
			})
		}
		wait.Wait()
		if won.Load() != 1 {
			t.Fatalf("round %d: %d have moved the alias", round, won.Load())
		}
		before = winner.Load().(string)
		standsFor(t, s, "a", before)
	}
}

// A key and an alias are made under one name at once: there is one of them afterwards.
func testAliasAgainstKey(t *testing.T, s store.Store) {
	put(t, s, Record("zpk", 1))
	for round := range 30 {
		name := fmt.Sprintf("name-%d", round)
		var putErr, aliasErr error
		var wait sync.WaitGroup
		wait.Go(func() { putErr = s.Put(t.Context(), Record(name, 1)) })
		wait.Go(func() { aliasErr = s.SetAlias(t.Context(), name, "zpk", "") })
		wait.Wait()
		_, getErr := s.Get(t.Context(), name)
		_, readErr := s.Alias(t.Context(), name)
		switch {
		case putErr == nil && errors.Is(aliasErr, store.ErrExists) && getErr == nil && errors.Is(readErr, store.ErrNotFound):
		case aliasErr == nil && errors.Is(putErr, store.ErrExists) && readErr == nil && errors.Is(getErr, store.ErrNotFound):
		default:
			t.Fatalf("Put %v, SetAlias %v; Get %v, Alias %v", putErr, aliasErr, getErr, readErr)
		}
	}
}

func testAliasPages(t *testing.T, s store.Store) {
	put(t, s, Record("k1", 1), Record("k2", 1))
	sorted := []string{"!", "A", "B", "_", "a", "a-1", "aa", "b", "~"}
	for i, name := range slices.Backward(sorted) {
		setAlias(t, s, name, fmt.Sprintf("k%d", 1+i%2), "")
	}
	for limit := 1; limit <= len(sorted)+1; limit++ {
		var got []string
		for after := ""; ; {
			page, err := s.Aliases(t.Context(), after, limit)
			if err != nil || len(page) > limit {
				t.Fatalf("Aliases = %v, %v", page, err)
			}
			for _, a := range page {
				got = append(got, a.Name)
				if want := fmt.Sprintf("k%d", 1+slices.Index(sorted, a.Name)%2); a.Key != want {
					t.Errorf("%s stands for %s, want %s", a.Name, a.Key, want)
				}
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
	for key, want := range map[string][]string{"k1": {"!", "B", "a", "aa", "~"}, "k2": {"A", "_", "a-1", "b"}, "K1": nil, "": nil} {
		if got, err := s.AliasesOf(t.Context(), key); err != nil || !slices.Equal(got, want) {
			t.Errorf("AliasesOf(%q) = %q, %v, want %q", key, got, err, want)
		}
	}
	for _, limit := range []int{-1, 0, store.MaxList + 1} {
		if _, err := s.Aliases(t.Context(), "", limit); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("Aliases of %d: %v, want ErrInvalid", limit, err)
		}
	}
}

func testAliasInvalid(t *testing.T, s store.Store) {
	put(t, s, Record("zpk", 1), Record("other", 1))
	for _, name := range []string{"", "a b", "a\n", "ä", "\x00", "zpk", strings.Repeat("a", store.MaxName+1)} {
		if err := s.SetAlias(t.Context(), name, "zpk", ""); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("alias %.20q: %v, want ErrInvalid", name, err)
		}
		if name == "zpk" {
			continue
		}
		if err := s.SetAlias(t.Context(), "a", name, ""); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("key %.20q: %v, want ErrInvalid", name, err)
		}
	}
	for i := range store.MaxAliasesOf {
		setAlias(t, s, fmt.Sprintf("alias-%d", i), "zpk", "")
	}
	if err := s.SetAlias(t.Context(), "one.more", "zpk", ""); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("one more alias: %v, want ErrInvalid", err)
	}
	setAlias(t, s, "alias-0", "zpk", "zpk") // it has it already
	setAlias(t, s, "alias-0", "other", "zpk")
	setAlias(t, s, "one.more", "zpk", "")
}

func testAliasModel(t *testing.T, s store.Store) {
	put(t, s, Record("k1", 1), Record("k2", 1))
	model := map[string]string{}
	rapid.Check(t, func(rt *rapid.T) {
		alias := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "alias")
		key := rapid.SampledFrom([]string{"k1", "k2"}).Draw(rt, "key")
		expected := rapid.SampledFrom([]string{"", "k1", "k2", model[alias]}).Draw(rt, "expected")
		present, there := model[alias]
		var want, got error
		if rapid.IntRange(0, 3).Draw(rt, "kind") == 0 {
			switch {
			case !there:
				want = store.ErrNotFound
			case present != expected:
				want = store.ErrConflict
			default:
				delete(model, alias)
			}
			got = s.DeleteAlias(t.Context(), alias, expected)
		} else {
			if present != expected {
				want = store.ErrConflict
			} else {
				model[alias] = key
			}
			got = s.SetAlias(t.Context(), alias, key, expected)
		}
		if !errors.Is(got, want) {
			rt.Fatalf("%v, want %v", got, want)
		}
		l, err := s.Aliases(t.Context(), "", 10)
		kept := map[string]string{}
		for _, a := range l {
			kept[a.Name] = a.Key
		}
		if err != nil || !maps.Equal(kept, model) {
			rt.Fatalf("kept are %v, %v, want %v", kept, err, model)
		}
	})
}

func setAlias(t *testing.T, s store.Store, alias, key, expected string) {
	t.Helper()
	if err := s.SetAlias(t.Context(), alias, key, expected); err != nil {
		t.Fatalf("SetAlias(%s, %s, %s): %v", alias, key, expected, err)
	}
}

func standsFor(t *testing.T, s store.Store, alias, want string) {
	t.Helper()
	if key, err := s.Alias(t.Context(), alias); err != nil || key != want {
		t.Fatalf("Alias(%s) = %q, %v, want %q", alias, key, err, want)
	}
}
