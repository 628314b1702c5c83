package ceremony_test

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"keyd/ceremony"
	"keyd/hsm"
)

func entry(name string, version uint32, officers ...string) ceremony.Entry {
	return ceremony.Entry{Name: name, Version: version, Usage: "P0", Fingerprint: name, State: ceremony.Active, Officers: officers}
}

// Entries stand in the order of name and version, in whatever order they were inserted, and
// each is found again.
func TestEntriesAreInOrder(tb *testing.T) {
	rapid.Check(tb, func(t *rapid.T) {
		type id struct {
			name    string
			version uint32
		}
		ids := rapid.SliceOfDistinct(rapid.Custom(func(t *rapid.T) id {
			return id{rapid.SampledFrom([]string{"a", "aa", "ab", "b", "a/b", "z"}).Draw(t, "name"), rapid.OneOf(rapid.Uint32Range(1, 5), rapid.Uint32Range(1<<31-2, 1<<31+2), rapid.Just(uint32(1<<32-1))).Draw(t, "version")}
		}), func(i id) id { return i }).Draw(t, "entries")
		e := &ceremony.Epoch{}
		for _, i := range ids {
			e.Insert(entry(i.name, i.version))
		}
		ordered := slices.IsSortedFunc(e.Keys, func(a, b ceremony.Entry) int {
			return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
		})
		if !ordered || len(e.Keys) != len(ids) {
			t.Fatalf("%+v", e.Keys)
		}
		newest := make(map[string]uint32)
		for _, i := range ids {
			if n := e.Find(i.name, i.version); n == nil || n.Name != i.name || n.Version != i.version {
				t.Fatalf("%v was not found", i)
			}
			newest[i.name] = max(newest[i.name], i.version)
		}
		for _, name := range []string{"a", "aa", "ab", "b", "a/b", "z", "", "zz"} {
			n := e.Newest(name)
			if version, ok := newest[name]; ok != (n != nil) || ok && (n.Version != version || n.Name != name) {
				t.Fatalf("the newest of %q is %+v, want %d", name, n, version)
			}
		}
	})
}

func TestWhoEnteredAnotherComponent(t *testing.T) {
	e := &ceremony.Epoch{}
	e.Insert(entry("zone", 1, "alice", "bob"))
	e.Insert(entry("zone", 2, "carol", "bob", "dave"))
	e.Insert(entry("zone", 3)) // made here: of no components
	e.Insert(entry("zone2", 1, "erin", "alice"))
	for _, c := range []struct {
		officer string
		index   int
		want    bool
	}{
		{"alice", 1, false}, {"alice", 2, true}, {"alice", 3, true}, {"bob", 1, true}, {"bob", 2, false}, {"carol", 1, false}, {"carol", 2, true},
		{"dave", 3, false}, {"dave", 1, true}, {"erin", 1, false}, {"erin", 2, false}, {"nobody", 1, false},
	} {
		if got := e.OtherPlace("zone", c.officer, c.index); got != c.want {
			t.Errorf("%s in place %d: %v", c.officer, c.index, got)
		}
	}
	if e.OtherPlace("unknown", "alice", 2) {
		t.Error("of a key that is not there")
	}
}

func TestKnownValuesAndCeremonies(t *testing.T) {
	e := &ceremony.Epoch{Done: []ceremony.Done{{ID: "a", Expires: 1}}}
	e.Insert(entry("k", 1))
	gone := entry("gone", 1)
	gone.State = ceremony.Deleting
	e.Insert(gone)
	if n := e.Knows("k"); n == nil || n.Name != "k" {
		t.Errorf("%+v", n)
	}
	if n := e.Knows("gone"); n == nil {
		t.Error("the value of a deleted key is forgotten")
	}
	if e.Knows("other") != nil || e.Knows("") != nil {
		t.Error("an unknown value is known")
	}
	if !e.WasDone("a") || e.WasDone("b") || e.WasDone("") {
		t.Error("ceremonies are mixed up")
	}
}

func TestUsable(t *testing.T) {
	for _, c := range []struct {
		state ceremony.KeyState
		until int64
		at    int64
		want  bool
	}{
		{ceremony.Active, 0, 100, true}, {ceremony.Active, 101, 100, true}, {ceremony.Active, 100, 100, false}, {ceremony.Active, 99, 100, false},
		{ceremony.Stopped, 0, 100, false}, {ceremony.Stopped, 200, 100, false}, {ceremony.Deleting, 200, 100, false}, {ceremony.Deleting, 0, 100, false}, {"", 0, 100, false}, {"x", 0, 100, false},
	} {
		n := ceremony.Entry{State: c.state, Until: c.until}
		if got := n.Usable(c.at); got != c.want {
			t.Errorf("%q until %d at %d: %v", c.state, c.until, c.at, got)
		}
	}
}

func TestClonesShareNothingThatChanges(t *testing.T) {
	e := &ceremony.Epoch{Version: 1, Done: []ceremony.Done{{ID: "a"}}}
	e.Insert(entry("k", 1))
	c := e.Clone()
	c.Find("k", 1).State = ceremony.Stopped
	c.Insert(entry("l", 1))
	c.Done[0].ID = "b"
	c.Roster = *theCast().rosterCopy()
	if e.Find("k", 1).State != ceremony.Active || len(e.Keys) != 1 || e.Done[0].ID != "a" || e.Roster.Officers != nil {
		t.Errorf("%+v", e)
	}
}

// sealedEpoch is an epoch with a code that nobody has checked.
func sealedEpoch(change func(*ceremony.Epoch)) []byte {
	e := &ceremony.Epoch{Version: 3, Previous: ceremony.Digest(nil), Clock: opened, Generation: 2, Oldest: 1, Roster: *theCast().rosterCopy(), Done: []ceremony.Done{{ID: "x", Expires: 1}}}
	e.Insert(entry("k", 1, "alice", "bob"))
	e.Insert(entry("k", 2))
	e.Insert(entry("l", 1))
	if change != nil {
		change(e)
	}
	return append(must(ceremony.Encode(e)), make([]byte, ceremony.EpochMACSize)...)
}

// What is no epoch is refused before anybody checks its code.
func TestParseEpoch(t *testing.T) {
	good := sealedEpoch(nil)
	if e, err := ceremony.ParseEpoch(good); err != nil || e.Version != 3 || len(e.Keys) != 3 {
		t.Fatal(err)
	}
	for name, sealed := range map[string][]byte{
		"nothing": nil, "a code alone": make([]byte, 16), "less than a code": make([]byte, 15), "cut": good[:len(good)-1], "more": append(bytes.Clone(good), 0),
		"too large":            append(bytes.Repeat([]byte(" "), ceremony.MaxEpoch), good...),
		"no version":           sealedEpoch(func(e *ceremony.Epoch) { e.Version = 0 }),
		"no generation":        sealedEpoch(func(e *ceremony.Epoch) { e.Generation = 0 }),
		"no oldest":            sealedEpoch(func(e *ceremony.Epoch) { e.Oldest = 0 }),
		"an oldest to come":    sealedEpoch(func(e *ceremony.Epoch) { e.Oldest = 3 }),
		"no roster":            sealedEpoch(func(e *ceremony.Epoch) { e.Roster = ceremony.Roster{} }),
		"a roster of one":      sealedEpoch(func(e *ceremony.Epoch) { e.Roster.Officers = e.Roster.Officers[:1] }),
		"an entry twice":       sealedEpoch(func(e *ceremony.Epoch) { e.Keys[1] = e.Keys[0] }),
		"names in disorder":    sealedEpoch(func(e *ceremony.Epoch) { slices.Reverse(e.Keys) }),
		"versions in disorder": sealedEpoch(func(e *ceremony.Epoch) { e.Keys[0], e.Keys[1] = e.Keys[1], e.Keys[0] }),
	} {
		if e, err := ceremony.ParseEpoch(sealed); !errors.Is(err, ceremony.ErrEpoch) || e != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The digest of a header is of everything in it but the generation of master keys.
func TestHeaderDigest(t *testing.T) {
	h := keySpec().Header()
	digest := must(ceremony.HeaderDigest(&h))
	for name, change := range map[string]func(*hsm.Header){
		"name": func(h *hsm.Header) { h.Name = "x" }, "version": func(h *hsm.Header) { h.Version = 2 }, "usage": func(h *hsm.Header) { h.Usage = "D0" },
		"custody": func(h *hsm.Header) { h.Custody = hsm.CustodyModule }, "fingerprint": func(h *hsm.Header) { h.Fingerprint = "x" }, "check value": func(h *hsm.Header) { h.CheckValue = "x" },
		"peers": func(h *hsm.Header) { h.Peers = nil }, "blocks": func(h *hsm.Header) { h.Blocks = []hsm.OptionalBlock{{ID: "LB"}} }, "validity": func(h *hsm.Header) { h.NotAfter = 1 },
	} {
		other := h
		change(&other)
		if must(ceremony.HeaderDigest(&other)) == digest {
			t.Errorf("another %s has the same digest", name)
		}
	}
	h.Generation = 9
	if must(ceremony.HeaderDigest(&h)) != digest || h.Generation != 9 {
		t.Error("the generation counts, or was changed")
	}
	h.Name = strings.Repeat("n", hsm.MaxHeaderSize)
	if d, err := ceremony.HeaderDigest(&h); err == nil || d != "" {
		t.Error("a header that cannot be encoded has a digest")
	}
}
