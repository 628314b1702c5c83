package terminals

import (
	"context"
	"crypto/elliptic"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"keyd/fault"
	"keyd/store"
	"keyd/store/postgrestest"
)

func TestRegisterAgain(t *testing.T) {
	root := newAuthority(t, "Maker root")
	v := newInventory(t, root)
	key := newKey(t, elliptic.P256())
	r := registration("t-1", root.device(t, key.Public()))
	for _, again := range []bool{false, true, true} {
		if _, unchanged, err := v.Register(t.Context(), actor, r, false); err != nil || unchanged != again {
			t.Fatalf("%v, %t", err, unchanged)
		}
	}
	for what, change := range map[string]func(*Registration){
		"owner": func(r *Registration) { r.Owner = "m" }, "model": func(r *Registration) { r.Model = "m" }, "serial": func(r *Registration) { r.Serial = "s" },
		"site": func(r *Registration) { r.Site = "" }, "no certificate": func(r *Registration) { r.Certificates = nil },
		"another certificate": func(r *Registration) { r.Certificates = [][]byte{root.device(t, key.Public())} },
	} {
		other := r
		change(&other)
		for _, validateOnly := range []bool{false, true} {
			_, _, err := v.Register(t.Context(), actor, other, validateOnly)
			want(t, what, fault.TerminalExists, err)
		}
	}
	other := r
	other.ID = "t-2"
	for _, validateOnly := range []bool{false, true} {
		_, _, err := v.Register(t.Context(), actor, other, validateOnly)
		want(t, "the key of another", fault.PublicKeyKnown, err)
	}
	if !strings.Contains(registering(t, v, other), "terminal t-1") {
		t.Error("an owner is not told which of its terminals has the key")
	}
	other.Owner = "merchant-8"
	if strings.Contains(registering(t, v, other), "t-1") {
		t.Error("another owner is told which terminal has the key")
	}
	other.Owner = r.Owner
	if _, err := v.Retire(t.Context(), actor, "t-1", ""); err != nil {
		t.Fatal(err)
	}
	_, _, err := v.Register(t.Context(), actor, r, false)
	want(t, "a retired one", fault.TerminalExists, err)
	_, _, err = v.Register(t.Context(), actor, other, false)
	want(t, "the key of a retired one", fault.PublicKeyKnown, err)
	_, err = v.Renew(t.Context(), actor, "t-1", [][]byte{root.device(t, key.Public())})
	want(t, "a certificate for a retired one", fault.TerminalState, err)
	if events, err := v.Events(t.Context(), "t-1", 0, 10); err != nil || len(events) != 2 || events[0].Actor != actor || !strings.HasPrefix(events[0].Detail, "certificate ") {
		t.Errorf("%+v, %v", events, err)
	}
}

// registering returns what a refusal says.
func registering(t *testing.T, v *Inventory, r Registration) string {
	t.Helper()
	_, _, err := v.Register(t.Context(), actor, r, false)
	want(t, "the key of another", fault.PublicKeyKnown, err)
	return fmt.Sprint(err)
}

func TestRenew(t *testing.T) {
	root := newAuthority(t, "Maker root")
	v := newInventory(t, root)
	key, other := newKey(t, elliptic.P256()), newKey(t, elliptic.P256())
	if _, _, err := v.Register(t.Context(), actor, registration("t-1"), false); err != nil {
		t.Fatal(err)
	}
	first, second := root.device(t, key.Public()), root.device(t, key.Public())
	for _, der := range [][]byte{first, second, second} {
		got, err := v.Renew(t.Context(), actor, "t-1", [][]byte{der})
		if err != nil || string(got.Certificate.Chain[0]) != string(der) {
			t.Fatal(got, err)
		}
	}
	_, err := v.Renew(t.Context(), actor, "t-1", [][]byte{root.device(t, other.Public())})
	want(t, "another key", fault.PublicKeyKnown, err)
	events, err := v.Events(t.Context(), "t-1", 0, 10)
	var kinds []string
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}
	if err != nil || strings.Join(kinds, " ") != "registered certified renewed" {
		t.Errorf("%q, %v", kinds, err)
	}
}

func TestInvalid(t *testing.T) {
	v := newInventory(t)
	for what, change := range map[string]func(*Registration){
		"no identifier": func(r *Registration) { r.ID = "" }, "space": func(r *Registration) { r.ID = "t 1" }, "begins with a sign": func(r *Registration) { r.ID = ".t" },
		"long": func(r *Registration) { r.ID = strings.Repeat("x", 65) }, "like a card number": func(r *Registration) { r.ID = "t-4012345678909" },
		"a letter of another alphabet": func(r *Registration) { r.ID = "tеrminal" }, "slash": func(r *Registration) { r.ID = "a/b" },
		"no owner": func(r *Registration) { r.Owner = "" }, "owner": func(r *Registration) { r.Owner = "m:1" }, "no model": func(r *Registration) { r.Model = "" },
		"model": func(r *Registration) { r.Model = "P\t4" }, "space at the end": func(r *Registration) { r.Model = "P " }, "no serial": func(r *Registration) { r.Serial = "" },
		"serial": func(r *Registration) { r.Serial = "é" }, "site": func(r *Registration) { r.Site = "a\nb" }, "long site": func(r *Registration) { r.Site = strings.Repeat("é", 65) },
		"site not UTF-8": func(r *Registration) { r.Site = "\xff" },
	} {
		r := registration("t-1")
		change(&r)
		_, _, err := v.Register(t.Context(), actor, r, false)
		want(t, what, fault.RequestInvalid, err)
	}
	if _, _, err := v.Register(t.Context(), actor, registration("t-1"), false); err != nil {
		t.Fatal(err)
	}
	_, err := v.Suspend(t.Context(), actor, "t-1", strings.Repeat("x", MaxReason+1))
	want(t, "a long reason", fault.RequestInvalid, err)
	_, err = v.Suspend(t.Context(), actor, "t-1", "a\x1b[31m")
	want(t, "a reason for a screen", fault.RequestInvalid, err)
	_, err = v.Replace(t.Context(), actor, "t-1", "t-1", "")
	want(t, "by itself", fault.RequestInvalid, err)
	_, err = v.Replace(t.Context(), actor, "t-1", "t-2", "")
	want(t, "by none", fault.TerminalNotFound, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Terminal(ended, "t-1"); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who is gone: %v", err)
	}
}

// TestLifeOfTerminals: whatever is asked for, in whatever order, a model of the state machine
// says what comes of it, and the events say what has happened.
func TestLifeOfTerminals(t *testing.T) {
	root := newAuthority(t, "Maker root")
	const number = 4
	type model struct {
		state  State
		owner  string
		key    int // -1 for none
		events []string
	}
	device := func() []byte { return root.device(t, newKey(t, elliptic.P256()).Public()) }
	round := 0
	s, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "keyd.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // read by no other
	rapid.Check(t, func(t *rapid.T) {
		round++
		v := over(s, root)
		// Each round has keys and identifiers of its own.
		var certificates [number][]byte
		for n := range certificates {
			certificates[n] = device()
		}
		there, owned := map[int]*model{}, map[int]int{} // terminals; keys
		name := func(n int) string { return fmt.Sprintf("r%d-t%d", round, n) }
		terminal, owners := rapid.IntRange(0, number-1), rapid.SampledFrom([]string{"m-1", "m-2"})
		judge := func(what string, err error, want fault.Reason) bool {
			switch {
			case want == 0 && err != nil:
				t.Fatalf("%s: %v", what, err)
			case want != 0 && (err == nil || fault.Of(err).Reason != want):
				t.Fatalf("%s: %v, want %s", what, err, want)
			}
			return err == nil
		}
		move := func(to State, kind string, from ...State) func(*rapid.T) {
			return func(t *rapid.T) {
				n := terminal.Draw(t, "terminal")
				var want fault.Reason
				m := there[n]
				switch {
				case m == nil:
					want = fault.TerminalNotFound
				case m.state != from[0] && m.state != from[len(from)-1]:
					want = fault.TerminalState
				}
				do := map[string]func(context.Context, string, string, string) (*Terminal, error){EventSuspended: v.Suspend, EventResumed: v.Resume, EventRetired: v.Retire}[kind]
				_, err := do(context.Background(), actor, name(n), "why")
				if judge(kind, err, want) {
					m.state, m.events = to, append(m.events, kind)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"register": func(t *rapid.T) {
				n, k, owner, only := terminal.Draw(t, "terminal"), rapid.IntRange(-1, number-1).Draw(t, "key"), owners.Draw(t, "owner"), rapid.Bool().Draw(t, "only")
				r := registration(name(n))
				r.Owner = owner
				if k >= 0 {
					r.Certificates = [][]byte{certificates[k]}
				}
				var want fault.Reason
				m := there[n]
				holder, known := owned[k]
				switch {
				case m != nil && (m.state.Final() || m.owner != owner || m.key != k):
					want = fault.TerminalExists
				case m == nil && k >= 0 && known && holder != n:
					want = fault.PublicKeyKnown
				}
				_, unchanged, err := v.Register(context.Background(), actor, r, only)
				if judge("register", err, want) {
					if unchanged != (m != nil) {
						t.Fatalf("unchanged: %t", unchanged)
					}
					if m == nil && !only {
						there[n] = &model{store.TerminalRegistered, owner, k, []string{EventRegistered}}
						if k >= 0 {
							owned[k] = n
						}
					}
				}
			},
			"renew": func(t *rapid.T) {
				n, k := terminal.Draw(t, "terminal"), terminal.Draw(t, "key")
				var want fault.Reason
				m := there[n]
				holder, known := owned[k]
				switch {
				case m == nil:
					want = fault.TerminalNotFound
				case m.state.Final():
					want = fault.TerminalState
				case m.key >= 0 && m.key != k, m.key < 0 && known && holder != n:
					want = fault.PublicKeyKnown
				}
				_, err := v.Renew(context.Background(), actor, name(n), [][]byte{certificates[k]})
				if judge("renew", err, want) && m.key < 0 {
					m.key, m.events, owned[k] = k, append(m.events, EventCertified), n
				}
			},
			"suspend": move(store.TerminalSuspended, EventSuspended, store.TerminalRegistered),
			"resume":  move(store.TerminalRegistered, EventResumed, store.TerminalSuspended),
			"retire":  move(store.TerminalRetired, EventRetired, store.TerminalRegistered, store.TerminalSuspended),
			"replace": func(t *rapid.T) {
				n, by := terminal.Draw(t, "terminal"), terminal.Draw(t, "by")
				var want fault.Reason
				m, other := there[n], there[by]
				switch {
				case n == by:
					want = fault.RequestInvalid
				case m == nil:
					want = fault.TerminalNotFound
				case m.state.Final():
					want = fault.TerminalState
				case other == nil || other.owner != m.owner: // as if there were none
					want = fault.TerminalNotFound
				case other.state != store.TerminalRegistered:
					want = fault.TerminalState
				}
				got, err := v.Replace(context.Background(), actor, name(n), name(by), "")
				if judge("replace", err, want) {
					m.state, m.events = store.TerminalReplaced, append(m.events, EventReplaced)
					if got.ReplacedBy != name(by) {
						t.Fatalf("%+v", got)
					}
				}
			},
			"": func(t *rapid.T) {
				for n, m := range there {
					got, err := v.Terminal(context.Background(), name(n))
					if err != nil || got.State != m.state || got.Owner != m.owner || (got.Certificate != nil) != (m.key >= 0) {
						t.Fatalf("%+v, %v, want %+v", got, err, m)
					}
					events, err := v.Events(context.Background(), name(n), 0, store.MaxList)
					if err != nil || len(events) != len(m.events) {
						t.Fatalf("%d events, %v, want %q", len(events), err, m.events)
					}
					for i, e := range events {
						if e.Kind != m.events[i] || e.Number != uint64(i+1) || e.Actor != actor {
							t.Fatalf("event %d: %+v, want %s", i, e, m.events[i])
						}
					}
				}
			},
		})
	})
}

// TestOneKeyIsRegisteredOnce: of many who register one public key under other identifiers, on
// either database, one succeeds, and the others are told why.
func TestOneKeyIsRegisteredOnce(t *testing.T) {
	root := newAuthority(t, "Maker root")
	for name, open := range map[string]func(t *testing.T) store.Store{
		"SQLite": func(t *testing.T) store.Store {
			s, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "keyd.db"))
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		"Postgres": func(t *testing.T) store.Store {
			server, err := postgrestest.Start()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := server.Stop(); err != nil {
					t.Error(err)
				}
			})
			database, err := server.Create(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			s, err := store.OpenPostgres(t.Context(), store.PostgresOptions{Hosts: []string{server.SocketDir}, Database: database, User: postgrestest.User})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			defer s.Close() //nolint:errcheck // what it says is of no concern here
			for round := range 5 {
				der := root.device(t, newKey(t, elliptic.P256()).Public())
				var wait sync.WaitGroup
				errs := make([]error, 8)
				for n := range errs {
					wait.Go(func() {
						_, _, errs[n] = over(s, root).Register(t.Context(), actor, registration(fmt.Sprintf("t-%d-%d", round, n), der), false)
					})
				}
				wait.Wait()
				won := 0
				for _, err := range errs {
					if err == nil {
						won++
						continue
					}
					want(t, "one that lost", fault.PublicKeyKnown, err)
				}
				if won != 1 {
					t.Errorf("%d of %d registered one key", won, len(errs))
				}
			}
			if l, err := over(s).List(t.Context(), store.TerminalFilter{}, "", 100); err != nil || len(l) != 5 {
				t.Errorf("%d terminals, %v, want 5", len(l), err)
			}
		})
	}
}
