package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyd/store"
)

// terminalTests are the tests of [store.Terminals].
var terminalTests = []test{
	{"TerminalRoundTrip", testTerminalRoundTrip},
	{"TerminalUpdate", testTerminalUpdate},
	{"TerminalReplaced", testTerminalReplaced},
	{"TerminalKeyIsOneTerminals", testTerminalKey},
	{"TerminalContest", testTerminalContest},
	{"TerminalPages", testTerminalPages},
	{"TerminalsInvalid", testTerminalsInvalid},
}

// Terminal returns a valid terminal with a certificate, which follows from its number.
func Terminal(n int) store.TerminalRecord {
	key := sha256.Sum256(fmt.Append(nil, n))
	at := time.Date(2026, 3, 14, 15, 9, 26, 535897000, time.UTC)
	return store.TerminalRecord{
		ID: fmt.Sprintf("t-%06d", n), Owner: "merchant-7", Model: "P400 Plus", Serial: fmt.Sprintf("804-%d", n), Site: "Zürich, 1. Stock",
		State: store.TerminalRegistered, Certificates: fmt.Append(nil, "certificate ", n), PublicKey: key[:], Revision: 1, RegisteredAt: at, ChangedAt: at,
	}
}

// Event returns a valid event for a terminal to come by.
func Event(kind string) store.TerminalEvent {
	return store.TerminalEvent{Kind: kind, Actor: "spiffe://bank.example/officer-1", Detail: "Grund: größer", At: time.Date(2026, 3, 15, 0, 0, 0, 1000, time.UTC)}
}

func testTerminalRoundTrip(t *testing.T, s store.Store) {
	if _, err := s.Terminal(t.Context(), "t-000001"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Terminal: %v, want ErrNotFound", err)
	}
	large, small := Terminal(2), Terminal(3)
	large.ID, large.Owner, large.Serial = strings.Repeat("~", store.MaxTerminalName), strings.Repeat("!", store.MaxTerminalName), strings.Repeat("s", store.MaxTerminalName)
	large.Model, large.Site, large.Certificates = "m"+strings.Repeat(" ", store.MaxTerminalName-2)+"m", strings.Repeat("é", store.MaxSite/2), bytes.Repeat([]byte{0xa5}, store.MaxCertificates)
	large.State, large.KeySet = store.TerminalSuspended, strings.Repeat("k", store.MaxTerminalName)
	large.RegisteredAt, large.ChangedAt = time.Unix(0, 0).UTC(), time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	small.ID, small.Owner, small.Model, small.Serial, small.Site, small.Certificates, small.PublicKey = "t", "o", "m", "s", "", nil, nil
	bare := small // a second one without a key
	bare.ID = "T"
	before, err := s.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []store.TerminalRecord{Terminal(1), large, small, bare} {
		addTerminal(t, s, r)
		sameTerminal(t, s, r)
		hasEvents(t, s, r.ID, "registered")
		if err := s.AddTerminal(t.Context(), r, Event("registered")); !errors.Is(err, store.ErrExists) {
			t.Errorf("again: %v, want ErrExists", err)
		}
		if len(r.PublicKey) > 0 {
			if got, err := s.TerminalOfKey(t.Context(), r.PublicKey); err != nil || got.ID != r.ID {
				t.Errorf("TerminalOfKey = %s, %v, want %s", got.ID, err, r.ID)
			}
		}
	}
	if after, err := s.Revision(t.Context()); err != nil || after != before+4 {
		t.Errorf("the revision rose from %d to %d, %v", before, after, err)
	}
	for _, id := range []string{"", "' OR '1'='1", "t-000001 ", "T-000001", "\xff", strings.Repeat("~", store.MaxTerminalName+1)} {
		if _, err := s.Terminal(t.Context(), id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Terminal(%q): %v, want ErrNotFound", id, err)
		}
		if l, err := s.TerminalEvents(t.Context(), id, 0, 10); err != nil || len(l) != 0 {
			t.Errorf("TerminalEvents(%q) = %v, %v, want none", id, l, err)
		}
	}
	for _, key := range [][]byte{nil, {}, make([]byte, sha256.Size), make([]byte, sha256.Size+1)} {
		if _, err := s.TerminalOfKey(t.Context(), key); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("TerminalOfKey(%x): %v, want ErrNotFound", key, err)
		}
	}
}

func testTerminalUpdate(t *testing.T, s store.Store) {
	if err := s.UpdateTerminal(t.Context(), Terminal(1), Event("suspended")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("one that is not there: %v, want ErrNotFound", err)
	}
	r := Terminal(1)
	r.Certificates, r.PublicKey = nil, nil
	addTerminal(t, s, r)
	first := r
	r.Certificates, r.PublicKey = Terminal(1).Certificates, Terminal(1).PublicKey
	r = updateTerminal(t, s, r, "certified")
	r.KeySet = "set"
	r = updateTerminal(t, s, r, "key-set")
	r.KeySet = ""
	r = updateTerminal(t, s, r, "key-set")
	r.State, r.Site, r.ChangedAt = store.TerminalSuspended, "", r.ChangedAt.Add(time.Hour)
	r = updateTerminal(t, s, r, "suspended")
	hasEvents(t, s, r.ID, "registered", "certified", "key-set", "key-set", "suspended")
	if err := s.UpdateTerminal(t.Context(), first, Event("retired")); !errors.Is(err, store.ErrConflict) {
		t.Errorf("an older revision: %v, want ErrConflict", err)
	}
	for name, change := range map[string]func(*store.TerminalRecord){
		"another owner": func(r *store.TerminalRecord) { r.Owner = "merchant-8" }, "another model": func(r *store.TerminalRecord) { r.Model = "M" },
		"another serial number": func(r *store.TerminalRecord) { r.Serial = "S" },
		"another key":           func(r *store.TerminalRecord) { r.PublicKey = Terminal(2).PublicKey },
		"no key":                func(r *store.TerminalRecord) { r.Certificates, r.PublicKey = nil, nil },
		"another time":          func(r *store.TerminalRecord) { r.RegisteredAt = r.RegisteredAt.Add(time.Second) },
		"a revision to come":    func(r *store.TerminalRecord) { r.Revision++ },
	} {
		other := r
		change(&other)
		if err := s.UpdateTerminal(t.Context(), other, Event("changed")); !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s: %v, want ErrConflict", name, err)
		}
	}
	r.State = store.TerminalRetired
	r = updateTerminal(t, s, r, "retired")
	r.State = store.TerminalRegistered
	if err := s.UpdateTerminal(t.Context(), r, Event("resumed")); !errors.Is(err, store.ErrConflict) {
		t.Errorf("one that is retired: %v, want ErrConflict", err)
	}
	hasEvents(t, s, r.ID, "registered", "certified", "key-set", "key-set", "suspended", "retired")
	// Page by page.
	var kinds []string
	for after := uint64(0); ; after++ {
		l, err := s.TerminalEvents(t.Context(), r.ID, after, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(l) == 0 {
			break
		}
		kinds = append(kinds, l[0].Kind)
	}
	if !slices.Equal(kinds, []string{"registered", "certified", "key-set", "key-set", "suspended", "retired"}) {
		t.Errorf("by pages: %q", kinds)
	}
}

func testTerminalReplaced(t *testing.T, s store.Store) {
	other := Terminal(3)
	other.Owner = "merchant-8"
	suspended := Terminal(4)
	suspended.State = store.TerminalSuspended
	for _, r := range []store.TerminalRecord{Terminal(1), Terminal(2), other, suspended} {
		addTerminal(t, s, r)
	}
	replaced := func(n, by int) error {
		r := Terminal(n)
		r.State, r.ReplacedBy = store.TerminalReplaced, Terminal(by).ID
		return s.UpdateTerminal(t.Context(), r, Event("replaced"))
	}
	for by, why := range map[int]string{3: "of another owner", 4: "suspended", 5: "not there"} {
		if err := replaced(1, by); !errors.Is(err, store.ErrConflict) {
			t.Errorf("by one that is %s: %v, want ErrConflict", why, err)
		}
	}
	if err := replaced(1, 2); err != nil {
		t.Fatal(err)
	}
	if err := replaced(2, 1); !errors.Is(err, store.ErrConflict) {
		t.Errorf("by the one that it replaced: %v, want ErrConflict", err)
	}
	got, err := s.Terminal(t.Context(), Terminal(1).ID)
	if err != nil || got.ReplacedBy != Terminal(2).ID || got.State != store.TerminalReplaced {
		t.Errorf("%+v, %v", got, err)
	}
}

// A key stays with its terminal, whatever becomes of it.
func testTerminalKey(t *testing.T, s store.Store) {
	addTerminal(t, s, Terminal(1))
	bare := Terminal(3)
	bare.Certificates, bare.PublicKey = nil, nil
	addTerminal(t, s, bare)
	tries := func(when string) {
		t.Helper()
		twin := Terminal(2)
		twin.PublicKey = Terminal(1).PublicKey
		if err := s.AddTerminal(t.Context(), twin, Event("registered")); !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s, another terminal: %v, want ErrConflict", when, err)
		}
		twin = bare
		twin.Certificates, twin.PublicKey = []byte("c"), Terminal(1).PublicKey
		if err := s.UpdateTerminal(t.Context(), twin, Event("certified")); !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s, another terminal later: %v, want ErrConflict", when, err)
		}
	}
	tries("registered")
	r := Terminal(1)
	r.State = store.TerminalRetired
	updateTerminal(t, s, r, "retired")
	tries("retired")
	if l, err := s.Terminals(t.Context(), store.TerminalFilter{}, "", 10); err != nil || len(l) != 2 {
		t.Errorf("%d terminals, %v, want 2", len(l), err)
	}
}

// Of many who register one key, and of many who change one terminal, one wins.
func testTerminalContest(t *testing.T, s store.Store) {
	contest := func(try func(n int) error, lost error) {
		t.Helper()
		var wait sync.WaitGroup
		var won atomic.Int32
		for n := range 8 {
			wait.Go(func() {
				switch err := try(n); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, lost):
					t.Errorf("%v, want %v", err, lost)
				}
			})
		}
		wait.Wait()
		if won.Load() != 1 {
			t.Errorf("%d won, want 1", won.Load())
		}
	}
	key := Terminal(0).PublicKey
	contest(func(n int) error {
		r := Terminal(n)
		r.PublicKey = key
		return s.AddTerminal(context.Background(), r, Event("registered"))
	}, store.ErrConflict)
	contest(func(int) error { return s.AddTerminal(context.Background(), Terminal(100), Event("registered")) }, store.ErrExists)
	contest(func(n int) error {
		r := Terminal(100)
		r.Site = fmt.Sprint("site ", n)
		return s.UpdateTerminal(context.Background(), r, Event("moved"))
	}, store.ErrConflict)
	hasEvents(t, s, Terminal(100).ID, "registered", "moved")
}

func testTerminalPages(t *testing.T, s store.Store) {
	owners, models := []string{"m-1", "m-2", "m-10"}, []string{"A", "A B"}
	states := []store.TerminalState{store.TerminalRegistered, store.TerminalSuspended, store.TerminalRetired}
	var all []store.TerminalRecord
	for n := range 48 {
		r := Terminal(n)
		r.ID = fmt.Sprintf("%c%d", "aAzZ-!~9"[n%8], n)
		r.Owner, r.Model = owners[n%3], models[n%2]
		addTerminal(t, s, r)
		if r.State = states[n/4%3]; r.State != store.TerminalRegistered {
			r = updateTerminal(t, s, r, "changed")
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b store.TerminalRecord) int { return strings.Compare(a.ID, b.ID) })
	for _, owner := range append(owners, "", "m-") {
		for _, model := range append(models, "", "B") {
			for _, state := range append(states, "", store.TerminalReplaced) {
				f := store.TerminalFilter{Owner: owner, Model: model, State: state}
				var want []string
				for _, r := range all {
					if (owner == "" || r.Owner == owner) && (model == "" || r.Model == model) && (state == "" || r.State == state) {
						want = append(want, r.ID)
					}
				}
				for _, limit := range []int{1, 5, 100} {
					var got []string
					for after := ""; ; {
						page, err := s.Terminals(t.Context(), f, after, limit)
						if err != nil || len(page) > limit {
							t.Fatalf("Terminals = %d, %v", len(page), err)
						}
						for _, r := range page {
							got = append(got, r.ID)
						}
						if len(page) < limit {
							break
						}
						after = page[len(page)-1].ID
					}
					if !slices.Equal(got, want) {
						t.Fatalf("%+v by %d: %q, want %q", f, limit, got, want)
					}
				}
			}
		}
	}
	for _, after := range []string{"\x00", "\xff", "a ", strings.Repeat("z", 200)} {
		if _, err := s.Terminals(t.Context(), store.TerminalFilter{}, after, 10); err != nil {
			t.Errorf("after %q: %v", after, err)
		}
	}
}

func testTerminalsInvalid(t *testing.T, s store.Store) {
	for name, change := range map[string]func(*store.TerminalRecord){
		"no identifier": func(r *store.TerminalRecord) { r.ID = "" }, "space": func(r *store.TerminalRecord) { r.ID = "a b" },
		"long identifier": func(r *store.TerminalRecord) { r.ID = strings.Repeat("a", store.MaxTerminalName+1) },
		"no owner":        func(r *store.TerminalRecord) { r.Owner = "" }, "owner": func(r *store.TerminalRecord) { r.Owner = "é" },
		"no model": func(r *store.TerminalRecord) { r.Model = "" }, "model": func(r *store.TerminalRecord) { r.Model = "a\n" },
		"space behind": func(r *store.TerminalRecord) { r.Model = "a " }, "space before": func(r *store.TerminalRecord) { r.Serial = " a" },
		"long site": func(r *store.TerminalRecord) { r.Site = strings.Repeat("a", store.MaxSite+1) }, "site": func(r *store.TerminalRecord) { r.Site = "\u202e" },
		"state": func(r *store.TerminalRecord) { r.State = "NEW" }, "final state": func(r *store.TerminalRecord) { r.State = store.TerminalRetired },
		"key set": func(r *store.TerminalRecord) { r.KeySet = "a b" }, "long key set": func(r *store.TerminalRecord) { r.KeySet = strings.Repeat("k", 65) },
		"key alone": func(r *store.TerminalRecord) { r.Certificates = nil }, "certificate alone": func(r *store.TerminalRecord) { r.PublicKey = nil },
		"short key":         func(r *store.TerminalRecord) { r.PublicKey = r.PublicKey[:31] },
		"long certificates": func(r *store.TerminalRecord) { r.Certificates = make([]byte, store.MaxCertificates+1) },
		"replaced":          func(r *store.TerminalRecord) { r.ReplacedBy = "t-2" }, "early": func(r *store.TerminalRecord) { r.RegisteredAt = time.Unix(-1, 0) },
		"late": func(r *store.TerminalRecord) { r.ChangedAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		r := Terminal(1)
		change(&r)
		if err := s.AddTerminal(t.Context(), r, Event("registered")); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	for name, change := range map[string]func(*store.TerminalEvent){
		"no kind": func(e *store.TerminalEvent) { e.Kind = "" }, "kind": func(e *store.TerminalEvent) { e.Kind = "a b" },
		"long kind": func(e *store.TerminalEvent) { e.Kind = strings.Repeat("k", store.MaxEventKind+1) }, "actor": func(e *store.TerminalEvent) { e.Actor = "é" },
		"long actor": func(e *store.TerminalEvent) { e.Actor = strings.Repeat("a", store.MaxActor+1) }, "detail": func(e *store.TerminalEvent) { e.Detail = "\x00" },
		"long detail": func(e *store.TerminalEvent) { e.Detail = strings.Repeat("d", store.MaxEventDetail+1) }, "no time": func(e *store.TerminalEvent) { e.At = time.Time{} },
	} {
		e := Event("registered")
		change(&e)
		if err := s.AddTerminal(t.Context(), Terminal(1), e); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("event, %s: %v, want ErrInvalid", name, err)
		}
	}
	for name, f := range map[string]store.TerminalFilter{"owner": {Owner: "a b"}, "model": {Model: " "}, "state": {State: "NEW"}} {
		if _, err := s.Terminals(t.Context(), f, "", 1); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	for _, limit := range []int{-1, 0, store.MaxList + 1} {
		_, list := s.Terminals(t.Context(), store.TerminalFilter{}, "", limit)
		_, events := s.TerminalEvents(t.Context(), "t", 0, limit)
		if !errors.Is(list, store.ErrInvalid) || !errors.Is(events, store.ErrInvalid) {
			t.Errorf("lists of %d: %v, %v, want ErrInvalid", limit, list, events)
		}
	}
	if l, err := s.Terminals(t.Context(), store.TerminalFilter{}, "", 10); err != nil || len(l) != 0 {
		t.Errorf("%d terminals, %v, want none", len(l), err)
	}
}

func addTerminal(t *testing.T, s store.Store, r store.TerminalRecord) {
	t.Helper()
	if err := s.AddTerminal(t.Context(), r, Event("registered")); err != nil {
		t.Fatalf("AddTerminal: %v", err)
	}
}

// updateTerminal returns the record as it is stored afterwards.
func updateTerminal(t *testing.T, s store.Store, r store.TerminalRecord, kind string) store.TerminalRecord {
	t.Helper()
	if err := s.UpdateTerminal(t.Context(), r, Event(kind)); err != nil {
		t.Fatalf("UpdateTerminal: %v", err)
	}
	r.Revision++
	sameTerminal(t, s, r)
	return r
}

func sameTerminal(t *testing.T, s store.Store, want store.TerminalRecord) {
	t.Helper()
	got, err := s.Terminal(t.Context(), want.ID)
	if err != nil {
		t.Fatalf("Terminal: %v", err)
	}
	if !bytes.Equal(got.Certificates, want.Certificates) || !bytes.Equal(got.PublicKey, want.PublicKey) {
		t.Fatalf("terminal %s has other certificates", want.ID)
	}
	got.Certificates, got.PublicKey, want.Certificates, want.PublicKey = nil, nil, nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, want %+v", got, want)
	}
}

func hasEvents(t *testing.T, s store.Store, id string, kinds ...string) {
	t.Helper()
	l, err := s.TerminalEvents(t.Context(), id, 0, store.MaxList)
	if err != nil || len(l) != len(kinds) {
		t.Fatalf("%d events, %v, want %d", len(l), err, len(kinds))
	}
	for i, got := range l {
		want := Event(kinds[i])
		want.Terminal, want.Number = id, uint64(i+1)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("event %d is %+v, want %+v", i+1, got, want)
		}
	}
}
