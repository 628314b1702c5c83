package terminals

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"keyd/fault"
	"keyd/store"
	"keyd/store/postgrestest"
)

// TestForgottenNumbers: after a restore the database has forgotten numbers that the modules
// remember, and skips them, as many as there are.
func TestForgottenNumbers(t *testing.T) {
	w := newWorld(t)
	id := w.terminal("t-1")
	for n := range 50 { // 10 to 59
		w.ledger.devices[fmt.Sprintf("bdk.aes 0102030400%06X", 10+n)] = [32]byte{1}
	}
	a := w.inject(w.request(id, KeyAgreement))
	if got := a.Injection.Keys[2].ID[7]; got < 60 || got > 99 {
		t.Errorf("allotted %d", got)
	}
	w.confirm(a.Injection)
	for n := range 90 {
		w.ledger.devices[fmt.Sprintf("bdk.aes 0102030400%06X", 10+n)] = [32]byte{1}
	}
	r := w.request(w.terminal("t-2"), KeyAgreement)
	for range 3 {
		_, err := w.Inject(t.Context(), actor, r)
		want(t, "a range that is used up", fault.NumbersExhausted, err)
	}
	if got := w.kinds("t-2"); got[len(got)-1] != "keys-failed" {
		t.Errorf("events %q", got)
	}
}

// TestBrokenOff: wherever it breaks off, nothing is given, no number becomes another's, and the
// same request may come again.
func TestBrokenOff(t *testing.T) {
	broken := fault.New(fault.ModuleUnavailable, "")
	for _, m := range []Method{KeyAgreement, TwoPass, OnePass} {
		for what, hurt := range map[string]func(*world) (mend func()){
			"no module":                func(w *world) func() { w.ledger.before = broken; return func() { w.ledger.before = nil } },
			"the module's answer lost": func(w *world) func() { w.ledger.after = broken; return func() { w.ledger.after = nil } },
			"the answer is not kept": func(w *world) func() {
				w.store = failing{DistributionStore: w.db, answer: store.ErrFull}
				return func() { w.store = w.db }
			},
			"a crash before the answer": func(w *world) func() { // nothing is noted either
				w.store = failing{DistributionStore: w.db, answer: store.ErrUnreachable, end: store.ErrUnreachable}
				return func() { w.Distribution = w.front() }
			},
			"a crash after it": func(w *world) func() {
				w.store = failing{DistributionStore: w.db, lost: true, end: store.ErrUnreachable}
				return func() { w.Distribution = w.front() }
			},
		} {
			t.Run(string(m)+" "+what, func(t *testing.T) {
				w := newWorld(t)
				id, other := w.terminal("t-1"), w.terminal("t-2")
				r := w.request(id, m)
				mend := hurt(w)
				for range 3 {
					if a, err := w.Inject(t.Context(), actor, r); err == nil || a != nil {
						if what != "a crash after it" {
							t.Fatalf("%+v, %v", a, err)
						}
					}
				}
				mend()
				others := w.inject(w.request(other, m)).Injection.Keys[2].ID
				a := w.inject(r)
				if got := a.Injection.Keys[2].ID; bytes.Equal(got, others) || got[7] != 10 {
					t.Errorf("it got %X, the other terminal %X", got, others)
				}
				w.confirm(a.Injection)
				if whose := w.ledger.devices[fmt.Sprintf("bdk.aes %X", a.Injection.Keys[2].ID)]; whose != deviceOf(w.chains[id], t) {
					t.Error("the ledger has another device")
				}
			})
		}
	}
}

// failing is a database that fails at one point.
type failing struct {
	DistributionStore
	answer, end error
	lost        bool // the answer is kept, and its confirmation lost
}

func (f failing) AnswerInjection(ctx context.Context, g store.Given, e store.TerminalEvent) error {
	if f.answer != nil {
		return f.answer
	}
	return errors.Join(f.DistributionStore.AnswerInjection(ctx, g, e), store.ErrUnreachable)
}

func (f failing) EndInjection(ctx context.Context, terminal, id string, revision uint64, state store.InjectionState, failure string, e store.TerminalEvent) error {
	if f.end != nil {
		return f.end
	}
	return f.DistributionStore.EndInjection(ctx, terminal, id, revision, state, failure, e)
}

// TestExpiry: by the clock at once, and for good when it is swept.
func TestExpiry(t *testing.T) {
	w := newWorld(t)
	id := w.terminal("t-1")
	r := w.request(id, KeyAgreement)
	a := w.inject(r)
	w.now = a.Injection.ConfirmBy
	w.state(a.Injection, store.InjectionExpired)
	_, err := w.Confirm(t.Context(), actor, id, a.Injection.ID, checks(a.Injection), mac)
	want(t, "a late receipt", fault.InjectionState, err)
	_, err = w.Inject(t.Context(), actor, r)
	want(t, "a late request", fault.RequestReplayed, err)
	for _, ended := range []int{1, 0} {
		if n, err := w.Expire(t.Context()); err != nil || n != ended {
			t.Errorf("%d, %v, want %d", n, err, ended)
		}
	}
	if l, err := w.db.KeysOfTerminal(t.Context(), id); err != nil || len(l) != 0 {
		t.Errorf("%d keys are left, %v", len(l), err)
	}
	// What a crash has left becomes FAILED, and the same request may begin it again.
	next := w.request(id, KeyAgreement)
	w.store = failing{DistributionStore: w.db, answer: store.ErrUnreachable, end: store.ErrUnreachable}
	if _, err := w.Inject(t.Context(), actor, next); err == nil {
		t.Error("it was kept")
	}
	w.store = w.db
	if n, err := w.Expire(t.Context()); err != nil || n != 0 {
		t.Errorf("at once: %d, %v", n, err)
	}
	w.now = w.now.Add(2 * time.Minute)
	if n, err := w.Expire(t.Context()); err != nil || n != 1 {
		t.Errorf("two minutes later: %d, %v", n, err)
	}
	w.confirm(w.inject(next).Injection)
	if got := strings.Join(w.kinds(id), " "); got != "registered key-set keys-sent keys-expired keys-failed keys-sent keys-confirmed" {
		t.Errorf("events %q", got)
	}
}

// TestTwoFronts on one database, of either kind: whichever front carries a request there is one
// answer to it, and whichever front allots numbers none is given twice.
func TestTwoFronts(t *testing.T) {
	for name, open := range databases {
		t.Run(name, func(t *testing.T) {
			first, second := open(t)
			w := newWorldOver(t, first, newLedger(t))
			other := *w
			other.db = second
			fronts := []*Distribution{w.Distribution, other.front()}
			seen := map[string]string{}
			for n, m := range []Method{KeyAgreement, TwoPass, OnePass, KeyAgreement} {
				id := w.terminal(fmt.Sprintf("t-%d", n))
				r := w.request(id, m)
				var wait sync.WaitGroup
				answers := make([]*Answer, 6)
				for i := range answers {
					wait.Go(func() {
						for {
							a, err := fronts[i%2].Inject(context.Background(), actor, r)
							if err == nil {
								answers[i] = a
								return
							}
							if fault.Of(err).Reason != fault.Conflict {
								t.Errorf("%s: %v", m, err)
								return
							}
						}
					})
				}
				wait.Wait()
				for _, a := range answers {
					if a == nil || answers[0] == nil || !bytes.Equal(a.Answer, answers[0].Answer) || a.Injection.ID != answers[0].Injection.ID {
						t.Fatalf("%s: two answers to one request", m)
					}
				}
				w.confirm(answers[0].Injection)
			}
			const terminals = 8
			ids, requests := make([]string, terminals), make([]Request, terminals)
			for n := range ids {
				ids[n] = w.terminal(fmt.Sprintf("r-%d", n))
				requests[n] = w.request(ids[n], TwoPass)
			}
			var mu sync.Mutex
			var wait sync.WaitGroup
			for n := range ids {
				wait.Go(func() {
					a, err := fronts[n%2].Inject(context.Background(), actor, requests[n])
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					key := string(a.Injection.Keys[2].ID)
					if seen[key] != "" {
						t.Errorf("%X is %s's and %s's", key, seen[key], ids[n])
					}
					seen[key] = ids[n]
				})
			}
			wait.Wait()
		})
	}
}

// databases open one database twice, as two fronts have it.
var databases = map[string]func(t *testing.T) (first, second store.Store){
	"SQLite": func(t *testing.T) (first, second store.Store) {
		path := filepath.Join(t.TempDir(), "keyd.db")
		return opened(t, func() (store.Store, error) { return store.OpenSQLite(t.Context(), path) })
	},
	"Postgres": func(t *testing.T) (first, second store.Store) {
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
		return opened(t, func() (store.Store, error) {
			return store.OpenPostgres(t.Context(), store.PostgresOptions{Hosts: []string{server.SocketDir}, Database: database, User: postgrestest.User})
		})
	},
}

func opened(t *testing.T, open func() (store.Store, error)) (first, second store.Store) {
	t.Helper()
	for _, s := range []*store.Store{&first, &second} {
		var err error
		if *s, err = open(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = (*s).Close() })
	}
	return first, second
}
