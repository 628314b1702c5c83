package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyd/store"
)

// ceremonyTests are the tests of [store.Ceremonies].
var ceremonyTests = []test{
	{"CeremonyRoundTrip", testCeremonyRoundTrip},
	{"CeremonyUpdate", testCeremonyUpdate},
	{"CeremonyContest", testCeremonyContest},
	{"CeremoniesPages", testCeremoniesPages},
	{"CeremoniesInvalid", testCeremoniesInvalid},
}

// Ceremony returns a valid open ceremony, which follows from its number. The larger number
// was opened later.
func Ceremony(n int) store.CeremonyRecord {
	opened := time.Date(2026, 3, 14, 15, 9, 26, 535897000, time.UTC).Add(time.Duration(n) * time.Minute)
	return store.CeremonyRecord{
		ID: fmt.Sprintf("%032x", n), Kind: "load", Subject: fmt.Sprintf("zpk %d", n), State: store.CeremonyOpen,
		Papers: fmt.Appendf(nil, `{"papers":%d}`, n), OpenedAt: opened, ExpiresAt: opened.Add(time.Hour),
	}
}

func testCeremonyRoundTrip(t *testing.T, s store.Store) {
	if _, err := s.Ceremony(t.Context(), Ceremony(1).ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Ceremony: %v, want ErrNotFound", err)
	}
	large := Ceremony(2)
	large.Kind, large.Subject = strings.Repeat("k", store.MaxKind), strings.Repeat("s ", store.MaxSubject/2)
	large.State, large.Papers, large.Record = store.CeremonyCompleted, bytes.Repeat([]byte{0xa5}, store.MaxPapers), bytes.Repeat([]byte{0}, store.MaxCeremonyRecord)
	large.OpenedAt, large.ExpiresAt = time.Unix(0, 0).UTC(), time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	small := Ceremony(3)
	small.Kind, small.Subject, small.Papers = "k", "", nil
	for _, r := range []store.CeremonyRecord{Ceremony(1), large, small} {
		addCeremony(t, s, r)
		sameCeremony(t, s, r)
		if err := s.AddCeremony(t.Context(), r); !errors.Is(err, store.ErrExists) {
			t.Errorf("again: %v, want ErrExists", err)
		}
	}
	for _, id := range []string{"", "' OR '1'='1", strings.ToUpper(Ceremony(10).ID)} {
		if _, err := s.Ceremony(t.Context(), id); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Ceremony(%q): %v, want ErrNotFound", id, err)
		}
	}
}

func testCeremonyUpdate(t *testing.T, s store.Store) {
	r := Ceremony(1)
	if err := s.UpdateCeremony(t.Context(), r); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("before it is added: %v, want ErrNotFound", err)
	}
	addCeremony(t, s, r)
	for range 3 {
		r.Papers = append(bytes.Clone(r.Papers), 'x')
		r.ExpiresAt = r.ExpiresAt.Add(time.Minute)
		updateCeremony(t, s, r)
		r.Revision++
		sameCeremony(t, s, r)
	}
	for name, change := range map[string]func(*store.CeremonyRecord){
		"older":       func(r *store.CeremonyRecord) { r.Revision-- },
		"newer":       func(r *store.CeremonyRecord) { r.Revision++ },
		"other kind":  func(r *store.CeremonyRecord) { r.Kind = "export" },
		"other begin": func(r *store.CeremonyRecord) { r.OpenedAt = r.OpenedAt.Add(time.Second) },
	} {
		other := r
		change(&other)
		if err := s.UpdateCeremony(t.Context(), other); !errors.Is(err, store.ErrConflict) {
			t.Errorf("%s: %v, want ErrConflict", name, err)
		}
	}
	sameCeremony(t, s, r)
	r.State, r.Record = store.CeremonyCompleted, []byte("record")
	updateCeremony(t, s, r)
	r.Revision++
	sameCeremony(t, s, r)
}

func testCeremonyContest(t *testing.T, s store.Store) {
	addCeremony(t, s, Ceremony(1))
	for round := range uint64(20) {
		var won atomic.Int32
		var winner atomic.Value
		var wait sync.WaitGroup
		for w := range 6 {
			wait.Go(func() {
				r := Ceremony(1)
				r.Revision, r.Papers = round, fmt.Appendf(nil, "%d %d", round, w)
				switch err := s.UpdateCeremony(t.Context(), r); {
				case err == nil:
					won.Add(1)
					winner.Store(string(r.Papers))
				case !errors.Is(err, store.ErrConflict):
					t.Errorf("a loser: %v, want ErrConflict", err)
				}
			})
		}
		wait.Wait()
		r, err := s.Ceremony(t.Context(), Ceremony(1).ID)
		if err != nil || won.Load() != 1 || r.Revision != round+1 || string(r.Papers) != winner.Load() {
			t.Fatalf("round %d: %d have won; %d %q, %v", round, won.Load(), r.Revision, r.Papers, err)
		}
	}
}

func testCeremoniesPages(t *testing.T, s store.Store) {
	var all []store.CeremonyRecord // the newest first; two each at the same time
	states := []store.CeremonyState{store.CeremonyOpen, store.CeremonyAborted, store.CeremonyExpired, store.CeremonyCompleted}
	for n := range 23 {
		r := Ceremony(n)
		r.OpenedAt, r.State = Ceremony(n/2).OpenedAt, states[n%4]
		addCeremony(t, s, r)
		all = append(all, r)
	}
	slices.Reverse(all)
	for _, state := range append(states, "") {
		var want []string
		for _, r := range all {
			if state == "" || r.State == state {
				want = append(want, r.ID)
			}
		}
		for limit := 1; limit <= len(all)+1; limit++ {
			var got []string
			var before time.Time
			for id := ""; ; {
				page, err := s.Ceremonies(t.Context(), state, before, id, limit)
				if err != nil || len(page) > limit {
					t.Fatalf("Ceremonies = %d, %v", len(page), err)
				}
				for _, r := range page {
					got = append(got, r.ID)
				}
				if len(page) < limit {
					break
				}
				before, id = page[len(page)-1].OpenedAt, page[len(page)-1].ID
			}
			if !slices.Equal(got, want) {
				t.Fatalf("state %q, pages of %d: %q, want %q", state, limit, got, want)
			}
		}
	}
	for _, limit := range []int{-1, 0, store.MaxCeremonyList + 1} {
		if _, err := s.Ceremonies(t.Context(), "", time.Time{}, "", limit); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("Ceremonies of %d: %v, want ErrInvalid", limit, err)
		}
	}
	if _, err := s.Ceremonies(t.Context(), "open", time.Time{}, "", 1); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("Ceremonies in a state that is none: %v, want ErrInvalid", err)
	}
}

func testCeremoniesInvalid(t *testing.T, s store.Store) {
	addCeremony(t, s, Ceremony(1))
	for name, change := range map[string]func(*store.CeremonyRecord){
		"no ID":           func(r *store.CeremonyRecord) { r.ID = "" },
		"short ID":        func(r *store.CeremonyRecord) { r.ID = r.ID[1:] },
		"upper case":      func(r *store.CeremonyRecord) { r.ID = strings.Repeat("A", 32) },
		"no kind":         func(r *store.CeremonyRecord) { r.Kind = "" },
		"long kind":       func(r *store.CeremonyRecord) { r.Kind = strings.Repeat("k", store.MaxKind+1) },
		"kind":            func(r *store.CeremonyRecord) { r.Kind = "a\n" },
		"long subject":    func(r *store.CeremonyRecord) { r.Subject = strings.Repeat("k", store.MaxSubject+1) },
		"subject":         func(r *store.CeremonyRecord) { r.Subject = "ä" },
		"no state":        func(r *store.CeremonyRecord) { r.State = "" },
		"another state":   func(r *store.CeremonyRecord) { r.State = "CLOSED" },
		"large revision":  func(r *store.CeremonyRecord) { r.Revision = 1<<63 - 1 },
		"long papers":     func(r *store.CeremonyRecord) { r.Papers = make([]byte, store.MaxPapers+1) },
		"an early record": func(r *store.CeremonyRecord) { r.Record = []byte{1} },
		"long record": func(r *store.CeremonyRecord) {
			r.State, r.Record = store.CeremonyCompleted, make([]byte, store.MaxCeremonyRecord+1)
		},
		"no opening time":  func(r *store.CeremonyRecord) { r.OpenedAt = time.Time{} },
		"no expiring time": func(r *store.CeremonyRecord) { r.ExpiresAt = time.Time{} },
	} {
		r := Ceremony(2)
		change(&r)
		if err := s.AddCeremony(t.Context(), r); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: AddCeremony: %v, want ErrInvalid", name, err)
		}
		r = Ceremony(1)
		change(&r)
		if err := s.UpdateCeremony(t.Context(), r); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: UpdateCeremony: %v, want ErrInvalid", name, err)
		}
	}
	r := Ceremony(2)
	r.Revision = 1
	if err := s.AddCeremony(t.Context(), r); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a new one with a revision: %v, want ErrInvalid", err)
	}
	sameCeremony(t, s, Ceremony(1))
}

func addCeremony(t *testing.T, s store.Store, r store.CeremonyRecord) {
	t.Helper()
	if err := s.AddCeremony(t.Context(), r); err != nil {
		t.Fatalf("AddCeremony: %v", err)
	}
}

func updateCeremony(t *testing.T, s store.Store, r store.CeremonyRecord) {
	t.Helper()
	if err := s.UpdateCeremony(t.Context(), r); err != nil {
		t.Fatalf("UpdateCeremony: %v", err)
	}
}

func sameCeremony(t *testing.T, s store.Store, want store.CeremonyRecord) {
	t.Helper()
	got, err := s.Ceremony(t.Context(), want.ID)
	if err != nil || got.ID != want.ID || got.Kind != want.Kind || got.Subject != want.Subject || got.State != want.State ||
		got.Revision != want.Revision || !bytes.Equal(got.Papers, want.Papers) || !bytes.Equal(got.Record, want.Record) ||
		!got.OpenedAt.Equal(want.OpenedAt) || !got.ExpiresAt.Equal(want.ExpiresAt) || got.OpenedAt.Location() != time.UTC {
		t.Fatalf("Ceremony = %.200v, %v, want %.200v", got, err, want)
	}
}
