package ksn

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"keyd/store"
)

// TestModel compares with a map: random uses, retries and looks, while commits fail
// before or after they happen, reading and folding fails, and the ledger is opened
// again on the same database.
func TestModel(t *testing.T) {
	dir, run := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		s, err := store.OpenSQLite(t.Context(), filepath.Join(dir, fmt.Sprintf("%d.db", run)))
		if err != nil {
			rt.Fatal(err)
		}
		f := &flaky{Counters: s}
		o := Options{MaxJump: 4, limits: limits{
			foldSequences: 2, foldRows: 3, foldBytes: 1 << 20, maxSequences: 1000, maxRows: 1000, maxBytes: 1 << 20, foldChunk: 1, trimChunk: 1,
		}}
		l, err := Open(t.Context(), f, o)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() {
			if err := errors.Join(l.Close(), s.Close()); err != nil {
				rt.Fatal(err)
			}
		}()

		type accepted struct {
			id       string // of the request
			answer   string
			counters map[sequence]uint32
		}
		// last are the requests that were accepted last. A request whose commit
		// failed may have been or not: it is in limbo until a retry settles it.
		last := map[sequence]accepted{}
		var all []accepted
		var limbo *accepted
		serial := 0

		// draw draws counters so many steps after the last ones.
		draw := func(rt *rapid.T, least, most int) ([]Use, map[sequence]uint32) {
			var uses []Use
			counters := map[sequence]uint32{}
			for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(0, 3), 1, 3, rapid.ID).Draw(rt, "sequences") {
				u := benchUse(n, 1)
				q, err := u.sequence()
				if err != nil {
					rt.Fatal(err)
				}
				c := max(1, int(last[q].counters[q])+rapid.IntRange(least, most).Draw(rt, "step"))
				uses = append(uses, benchUse(n, uint32(c)))
				counters[q] = uint32(c)
			}
			return uses, counters
		}
		wantFresh := func(counters map[sequence]uint32) bool {
			for q, c := range counters {
				if a, ok := last[q]; ok && (c <= a.counters[q] || c-a.counters[q] > 4) {
					return false
				}
			}
			return true
		}
		// identical finds the accepted request to which the counters belong.
		identical := func(counters map[sequence]uint32) (accepted, bool) {
			var found accepted
			for q, c := range counters {
				a, ok := last[q]
				if !ok || a.counters[q] != c || len(a.counters) != len(counters) || found.id != "" && found.id != a.id {
					return accepted{}, false
				}
				found = a
			}
			return found, true
		}
		take := func(a accepted) {
			for q := range a.counters {
				last[q] = a
			}
			all = append(all, a)
		}
		usesOf := func(counters map[sequence]uint32) []Use {
			var uses []Use
			for n := range 4 {
				u := benchUse(n, 1)
				q, err := u.sequence()
				if err != nil {
					rt.Fatal(err)
				}
				if c, ok := counters[q]; ok {
					uses = append(uses, benchUse(n, c))
				}
			}
			return uses
		}
		// settle retries what is in limbo, as its sender would.
		settle := func(rt *rapid.T) {
			if limbo == nil {
				return
			}
			got, _, err := l.Accept(t.Context(), usesOf(limbo.counters), []byte(limbo.id), []byte("settled"))
			if err != nil || string(got) != limbo.answer && string(got) != "settled" {
				rt.Fatalf("settling %s: %q, %v", limbo.id, got, err)
			}
			limbo.answer = string(got)
			take(*limbo)
			limbo = nil
		}

		accept := func(rt *rapid.T, least, most int) {
			uses, counters := draw(rt, least, most)
			serial++
			a := accepted{fmt.Sprintf("request %d", serial), fmt.Sprintf("answer %d", serial), counters}
			got, _, err := l.Accept(t.Context(), uses, []byte(a.id), []byte(a.answer))
			if wantFresh(counters) {
				if err != nil || string(got) != a.answer {
					rt.Fatalf("%v is fresh: %q, %v", counters, got, err)
				}
				take(a)
			} else if !errors.Is(err, isReplay) {
				rt.Fatalf("%v is a replay: %q, %v", counters, got, err)
			}
		}
		accept(rt, 1, 4) // so that there is one to send again
		rt.Repeat(map[string]func(*rapid.T){
			"accept": func(rt *rapid.T) {
				settle(rt)
				accept(rt, -1, 6) // from one that is too old to one that is too far ahead
			},
			"again": func(rt *rapid.T) {
				settle(rt)
				a := rapid.SampledFrom(all).Draw(rt, "request")
				got, _, err := l.Accept(t.Context(), usesOf(a.counters), []byte(a.id), []byte("must not be stored"))
				if _, isRetry := identical(a.counters); isRetry {
					if err != nil || string(got) != a.answer {
						rt.Fatalf("the retry of %s: %q, %v, want %q", a.id, got, err, a.answer)
					}
				} else if !errors.Is(err, isReplay) {
					rt.Fatalf("%s again, after another: %q, %v", a.id, got, err)
				}
			},
			"look": func(rt *rapid.T) {
				settle(rt)
				uses, counters := draw(rt, -1, 6)
				a, isRetry := identical(counters)
				got, err := l.Look(t.Context(), uses, []byte(a.id))
				switch {
				case isRetry && (err != nil || string(got) != a.answer):
					rt.Fatalf("Look at the retry of %s: %q, %v, want %q", a.id, got, err, a.answer)
				case wantFresh(counters) && (got != nil || err != nil):
					rt.Fatalf("Look at fresh %v: %q, %v", counters, got, err)
				case !isRetry && !wantFresh(counters) && !errors.Is(err, isReplay):
					rt.Fatalf("Look at used %v: %q, %v", counters, got, err)
				}
			},
			"commit fails": func(rt *rapid.T) {
				settle(rt)
				uses, counters := draw(rt, 1, 4)
				// After it was forgotten, the journal is read again before a commit.
				if _, err := l.Look(t.Context(), uses, nil); err != nil {
					rt.Fatal(err)
				}
				happens := rapid.Bool().Draw(rt, "the commit happens")
				unreadable := rapid.Bool().Draw(rt, "the journal cannot be read afterwards")
				fail := func() error { return errFlaky }
				if happens {
					f.afterAppend = fail
				} else {
					f.beforeAppend = fail
				}
				if unreadable {
					f.beforeRead = fail
				}
				serial++
				a := accepted{fmt.Sprintf("request %d", serial), fmt.Sprintf("answer %d", serial), counters}
				got, _, err := l.Accept(t.Context(), uses, []byte(a.id), []byte(a.answer))
				if !errors.Is(err, isUnavailable) || !errors.Is(err, errFlaky) {
					rt.Fatalf("a failing commit: %q, %v", got, err)
				}
				if unreadable {
					if got, err := l.Look(t.Context(), uses, []byte(a.id)); !errors.Is(err, isUnavailable) {
						rt.Fatalf("Look without a journal: %q, %v", got, err)
					}
				}
				f.afterAppend, f.beforeAppend, f.beforeRead = nil, nil, nil
				// Another request shows which it is, and so does the retry.
				limbo = &a
				got, err = l.Look(t.Context(), uses, []byte("another request"))
				if happens != errors.Is(err, isReplay) || got != nil {
					rt.Fatalf("Look after a commit that happened (%v): %q, %v", happens, got, err)
				}
				if happens {
					got, err := l.Look(t.Context(), uses, []byte(a.id))
					if err != nil || string(got) != a.answer {
						rt.Fatalf("Look at the retry of %s: %q, %v", a.id, got, err)
					}
				}
			},
			"reopen": func(rt *rapid.T) {
				if err := l.Close(); err != nil {
					rt.Fatal(err)
				}
				if l, err = Open(t.Context(), f, o); err != nil {
					rt.Fatal(err)
				}
			},
			"fold": func(rt *rapid.T) {
				// A part of it, the whole, or again, beside the one in the background.
				if err := l.foldJournal(t.Context()); err != nil {
					rt.Fatal(err)
				}
			},
			"drop the cache": func(*rapid.T) {
				l.mu.Lock()
				l.memory.young, l.memory.old = map[sequence]uint32{}, nil
				l.memory.epoch++
				l.mu.Unlock()
			},
			"all is forgotten": func(*rapid.T) { l.forget() },
		})
	})
}
