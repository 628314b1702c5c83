package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"keyd/store"
)

// versionTests are the tests of what [store.Keys] does with single versions.
var versionTests = []test{
	{"Versions", testVersions},
	{"VersionsAreBounded", testManyVersions},
	{"ListVersions", testListVersions},
	{"ReplaceSealed", testReplaceSealed},
	{"ReplaceSealedContest", testReplaceSealedContest},
}

func testVersions(t *testing.T, s store.Store) {
	for _, v := range []uint32{10, 2, 4294967295, 1} {
		put(t, s, Record("zpk", v), Record("zpk.other", v))
	}
	for _, v := range []uint32{1, 2, 10, 4294967295} {
		r, err := s.Version(t.Context(), "zpk", v)
		if err != nil {
			t.Fatal(err)
		}
		same(t, r, Record("zpk", v))
		clear(r.Sealed) // the result is the caller's
	}
	for name, v := range map[string]uint32{"zpk": 3, "zp": 1, "ZPK": 1, "": 1, "bdk": 0} {
		if r, err := s.Version(t.Context(), name, v); !errors.Is(err, store.ErrNotFound) || r.Sealed != nil {
			t.Errorf("%q version %d: %v, %v, want ErrNotFound", name, v, r, err)
		}
	}
	l, err := s.Versions(t.Context(), "zpk")
	if err != nil || len(l) != 4 {
		t.Fatalf("Versions = %d, %v", len(l), err)
	}
	for i, v := range []uint32{1, 2, 10, 4294967295} {
		same(t, l[i], Record("zpk", v))
	}
	if l, err := s.Versions(t.Context(), "none"); err != nil || len(l) != 0 {
		t.Errorf("Versions of none = %v, %v", l, err)
	}
}

func testManyVersions(t *testing.T, s store.Store) {
	var records []store.KeyRecord
	for v := range uint32(store.MaxVersions + 5) {
		records = append(records, Record("zpk", v+1))
	}
	put(t, s, records...)
	l, err := s.Versions(t.Context(), "zpk")
	if err != nil || len(l) != store.MaxVersions || l[0].Version != 6 || l[len(l)-1].Version != store.MaxVersions+5 {
		t.Errorf("Versions = %d, %v, want the newest %d", len(l), err, store.MaxVersions)
	}
}

func testListVersions(t *testing.T, s store.Store) {
	var want []store.KeyRecord
	for _, name := range []string{"!", "A", "a", "a-1", "aa", "b"} {
		for _, v := range []uint32{1, 2, 9, 10, 4294967295} {
			want = append(want, Record(name, v))
		}
	}
	for _, r := range slices.Backward(want) {
		put(t, s, r)
	}
	for limit := 1; limit <= len(want)+1; limit += 3 {
		var got []store.KeyRecord
		for name, version := "", uint32(0); ; {
			page, err := s.ListVersions(t.Context(), name, version, limit)
			if err != nil || len(page) > limit {
				t.Fatalf("ListVersions = %d, %v", len(page), err)
			}
			got = append(got, page...)
			if len(page) < limit {
				break
			}
			name, version = page[len(page)-1].Name, page[len(page)-1].Version
		}
		if len(got) != len(want) {
			t.Fatalf("pages of %d: %d records, want %d", limit, len(got), len(want))
		}
		for i, r := range got {
			same(t, r, want[i])
		}
	}
	for _, limit := range []int{-1, 0, store.MaxList + 1} {
		if _, err := s.ListVersions(t.Context(), "", 0, limit); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("ListVersions of %d: %v, want ErrInvalid", limit, err)
		}
	}
}

func testReplaceSealed(t *testing.T, s store.Store) {
	put(t, s, Record("zpk", 1), Record("zpk", 2))
	old, new := Record("zpk", 1).Sealed, []byte("sealed anew")
	for name, c := range map[string]struct {
		key      string
		version  uint32
		old, new []byte
		want     error
	}{
		"another one":          {"zpk", 1, []byte("other"), new, store.ErrConflict},
		"a part":               {"zpk", 1, old[:len(old)-1], new, store.ErrConflict},
		"nothing":              {"zpk", 1, nil, new, store.ErrConflict},
		"no such version":      {"zpk", 3, old, new, store.ErrNotFound},
		"no such key":          {"bdk", 1, old, new, store.ErrNotFound},
		"an empty one":         {"zpk", 1, old, nil, store.ErrInvalid},
		"one that is too long": {"zpk", 1, old, make([]byte, store.MaxSealed+1), store.ErrInvalid},
	} {
		if err := s.ReplaceSealed(t.Context(), c.key, c.version, c.old, c.new); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	same(t, get(t, s, "zpk"), Record("zpk", 2))
	if err := s.ReplaceSealed(t.Context(), "zpk", 1, old, new); err != nil {
		t.Fatal(err)
	}
	want := Record("zpk", 1)
	want.Sealed = new
	r, err := s.Version(t.Context(), "zpk", 1)
	if err != nil {
		t.Fatal(err)
	}
	same(t, r, want)
	same(t, get(t, s, "zpk"), Record("zpk", 2))
	if err := s.ReplaceSealed(t.Context(), "zpk", 1, old, new); !errors.Is(err, store.ErrConflict) {
		t.Errorf("again: %v, want ErrConflict", err)
	}
}

func testReplaceSealedContest(t *testing.T, s store.Store) {
	put(t, s, Record("zpk", 1))
	before := Record("zpk", 1).Sealed
	for round := range 20 {
		var won atomic.Int32
		var wait sync.WaitGroup
		for w := range 6 {
			wait.Go(func() {
				switch err := s.ReplaceSealed(t.Context(), "zpk", 1, before, fmt.Appendf(nil, "%d %d", round, w)); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, store.ErrConflict):
					t.Errorf("a loser: %v, want ErrConflict", err)
				}
			})
		}
		wait.Wait()
		after := get(t, s, "zpk").Sealed
		if won.Load() != 1 || bytes.Equal(after, before) {
			t.Fatalf("round %d: %d have won, %q", round, won.Load(), after)
		}
		before = after
	}
}
