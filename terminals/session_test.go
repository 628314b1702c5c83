package terminals

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"keyd/fault"
	"keyd/keys"
	"keyd/store"
)

// TestSignIn: session keys are found by name, with their versions, as long as the terminal is in
// service, on every front.
func TestSignIn(t *testing.T) {
	w := newWorld(t)
	id := w.terminal("t-1")
	_, err := w.SignIn(t.Context(), id, nil)
	want(t, "without keys", fault.InjectionState, err)
	a := w.inject(w.request(id, KeyAgreement))
	_, err = w.SignIn(t.Context(), id, nil)
	want(t, "without a receipt", fault.InjectionState, err)
	w.confirm(a.Injection)
	for range 3 {
		made, err := w.SignIn(t.Context(), id, nil)
		if err != nil || len(made) != 2 || made[0].Key != "terminal:t-1:pin" || made[0].KeyBlock == "" || made[0].Cryptogram != nil ||
			!made[0].NotAfter.Equal(moment.AddDate(0, 0, 1)) || made[1].Name != "mac" {
			t.Fatalf("%+v, %v", made, err)
		}
	}
	v := keys.New(w.db) // another front's
	for reference, want := range map[string]uint32{"terminal:t-1:pin": 3, "terminal:t-1:pin?version=3": 3, "terminal:t-1:mac?version=2": 2} {
		k, err := v.Resolve(t.Context(), reference)
		if err != nil || k.Version != want || k.CheckUsable(moment) != nil || !errors.Is(k.CheckUsable(moment.AddDate(0, 0, 2)), fault.New(fault.KeyDisabled, "")) {
			t.Errorf("%s: %+v, %v", reference, k, err)
		}
	}
	for _, reference := range []string{
		"terminal:t-1:pin?version=1", "terminal:t-1:pin?version=4", "terminal:t-1:master", "terminal:t-1:receipt", "terminal:t-2:pin", "terminal:t-1", "terminal:", "terminal:t-1:pin:x",
		"terminal:t-1:pin?x=1", "terminal:t-1:\xff",
	} {
		_, err := v.Resolve(t.Context(), reference)
		want(t, reference, fault.KeyNotFound, err)
	}
	if l, err := v.List(t.Context(), "", 100); err != nil || slices.ContainsFunc(l, func(k keys.Key) bool { return k.Header.Device != "" }) {
		t.Errorf("a terminal's key is listed: %v", err)
	}
	want(t, "an alias of one", fault.RequestInvalid, v.SetAlias(t.Context(), "till", "terminal:t-1:pin", ""))
	want(t, "an alias like one", fault.RequestInvalid, v.SetAlias(t.Context(), "terminal:t-1:pin", "zone", ""))
	usable := func() error {
		k, err := v.Resolve(t.Context(), "terminal:t-1:pin")
		if err != nil {
			return err
		}
		return k.CheckUsable(moment)
	}
	if _, err := w.inventory.Suspend(t.Context(), actor, id, ""); err != nil {
		t.Fatal(err)
	}
	want(t, "a suspended one's key", fault.KeyDisabled, usable())
	_, err = w.SignIn(t.Context(), id, nil)
	want(t, "a suspended one", fault.TerminalState, err)
	_, err = w.Confirm(t.Context(), actor, id, a.Injection.ID, checks(a.Injection), mac)
	want(t, "a suspended one's receipt", fault.TerminalState, err)
	if _, err := w.inventory.Resume(t.Context(), actor, id, ""); err != nil {
		t.Fatal(err)
	}
	if err := usable(); err != nil {
		t.Errorf("resumed: %v", err)
	}
	if _, err := w.inventory.Retire(t.Context(), actor, id, ""); err != nil {
		t.Fatal(err)
	}
	want(t, "a retired one's key", fault.KeyNotFound, usable())
	w.state(a.Injection, store.InjectionEnded)
}

// TestBareKeys are given to nobody whom the policy does not let have them, and the same answer
// again neither.
func TestBareKeys(t *testing.T) {
	w := newWorld(t)
	k := shop()
	k.Methods, k.TokenHost, k.Master.Bare = []Method{KeyAgreement}, "", true
	w.set(k)
	id := w.terminal("t-1")
	r := w.request(id, KeyAgreement)
	a := w.inject(r)
	w.legacy = fault.New(fault.PolicyDenied, "")
	_, err := w.Inject(t.Context(), actor, r)
	want(t, "the same request", fault.PolicyDenied, err)
	w.confirm(a.Injection)
	_, err = w.SignIn(t.Context(), id, func(context.Context) error { return w.legacy })
	want(t, "a sign-in", fault.PolicyDenied, err)
	made, err := w.SignIn(t.Context(), id, func(context.Context) error { return nil })
	if err != nil || made[0].Cryptogram == nil || made[0].KeyBlock != "" {
		t.Errorf("%+v, %v", made, err)
	}
}

// TestBinding: the terminal's keys have ended when the token is there, and not where there is none.
func TestBinding(t *testing.T) {
	w := newWorld(t)
	id := w.terminal("t-1")
	a := w.inject(w.request(id, TwoPass))
	w.confirm(a.Injection)
	random := w.request(id, TwoPass).Message
	host, err := w.Host(t.Context(), "host.rsa")
	if err != nil {
		t.Fatal(err)
	}
	w.ledger.before = fault.New(fault.ModuleUnavailable, "")
	_, err = w.Bind(t.Context(), actor, Binding{Terminal: id, Random: random})
	want(t, "no module", fault.ModuleUnavailable, err)
	w.ledger.before = nil
	for what, b := range map[string]Binding{
		"no random number": {Terminal: id}, "a long reason": {Terminal: id, Random: random, Reason: string(make([]byte, 257))},
		"a host without a list": {Terminal: id, Random: random, NewHost: host.Certificates},
	} {
		_, err := w.Bind(t.Context(), actor, b)
		want(t, what, fault.RequestInvalid, err)
	}
	_, err = w.Bind(t.Context(), actor, Binding{Terminal: id, Random: random, NewHost: [][]byte{}, List: host.List})
	want(t, "another host that is none", fault.CertificateInvalid, err)
	w.state(a.Injection, store.InjectionConfirmed)
	if token, err := w.Bind(t.Context(), actor, Binding{Terminal: id, Random: random, Reason: "sold"}); err != nil || string(token) != "token" {
		t.Fatal(token, err)
	}
	w.state(a.Injection, store.InjectionEnded)
	_, err = w.SignIn(t.Context(), id, nil)
	want(t, "afterwards", fault.InjectionState, err)
	w.confirm(w.inject(w.request(id, TwoPass)).Injection)
	if _, err := w.Bind(t.Context(), actor, Binding{Terminal: id, Random: random, NewHost: host.Certificates, List: host.List}); err != nil {
		t.Fatal(err)
	}
	if got := w.kinds(id); got[4] != "unbound" || got[len(got)-1] != "rebound" {
		t.Errorf("events %q", got)
	}
}

// TestLifeOfInjections: whatever is asked for in whatever order, with modules that come and go, a
// model says what becomes of injections; no initial key leaves for two devices, and a terminal
// has at most one confirmed and one pending injection.
func TestLifeOfInjections(t *testing.T) {
	s, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "keyd.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // read by no other
	w := newWorldOver(t, s, newLedger(t))
	k := shop()
	k.Initial[0].Last = 1 << 20
	w.set(k)
	round := 0
	whose := map[string]string{} // terminals, by the initial keys that left
	rapid.Check(t, func(t *rapid.T) {
		round++
		id := w.terminal(fmt.Sprint("t-", round))
		type known struct {
			request Request
			answer  *Answer
			state   store.InjectionState // "" while nothing was given
		}
		var all []*known
		w.ledger.before, w.ledger.after = nil, nil
		find := func(state store.InjectionState) *known {
			for _, k := range all {
				if k.state == state {
					return k
				}
			}
			return nil
		}
		ask := func(t *rapid.T, k *known) {
			a, err := w.Inject(context.Background(), actor, k.request)
			var expected fault.Reason
			down := w.ledger.before != nil || w.ledger.after != nil
			fresh := k.state == ""
			switch {
			case k.state == store.InjectionPending:
			case !fresh:
				expected = fault.RequestReplayed
			case down:
				expected = fault.ModuleUnavailable
			}
			switch {
			case expected != 0 && (err == nil || fault.Of(err).Reason != expected && fault.Of(err).Reason != fault.RateLimited):
				t.Fatalf("%v, want %s", err, expected)
			case expected != 0:
				return
			case err != nil && fresh && fault.Of(err).Reason == fault.RateLimited:
				return
			case err != nil:
				t.Fatal(err)
			case !fresh && string(a.Answer) != string(k.answer.Answer):
				t.Fatal("another answer")
			case fresh:
				if p := find(store.InjectionPending); p != nil {
					p.state = store.InjectionSuperseded
				}
				k.answer, k.state = a, store.InjectionPending
				key := string(a.Injection.Keys[2].ID)
				if other, given := whose[key]; given && other != id {
					t.Fatalf("initial key %X is %s's and %s's", key, other, id)
				}
				whose[key] = id
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"new": func(t *rapid.T) {
				all = append(all, &known{request: w.request(id, rapid.SampledFrom([]Method{KeyAgreement, TwoPass}).Draw(t, "method"))})
				ask(t, all[len(all)-1])
			},
			"again": func(t *rapid.T) {
				if len(all) > 0 {
					ask(t, all[rapid.IntRange(0, len(all)-1).Draw(t, "which")])
				}
			},
			"confirm": func(t *rapid.T) {
				if len(all) == 0 {
					return
				}
				k := all[rapid.IntRange(0, len(all)-1).Draw(t, "which")]
				if k.answer == nil {
					return
				}
				_, err := w.Confirm(context.Background(), actor, id, k.answer.Injection.ID, checks(k.answer.Injection), mac)
				down := w.ledger.before != nil || w.ledger.after != nil
				switch {
				case k.state == store.InjectionConfirmed && err == nil, k.state == store.InjectionPending && down && err != nil:
				case k.state == store.InjectionPending && err == nil:
					if c := find(store.InjectionConfirmed); c != nil {
						c.state = store.InjectionSuperseded
					}
					k.state = store.InjectionConfirmed
				case k.state == store.InjectionConfirmed || k.state == store.InjectionPending || fault.Of(err).Reason != fault.InjectionState:
					t.Fatalf("%s: %v", k.state, err)
				}
			},
			"a day": func(*rapid.T) {
				w.now = w.now.AddDate(0, 0, 1)
				if p := find(store.InjectionPending); p != nil {
					p.state = store.InjectionExpired
				}
			},
			"sweep": func(t *rapid.T) {
				if _, err := w.Expire(context.Background()); err != nil {
					t.Fatal(err)
				}
			},
			"modules": func(t *rapid.T) {
				w.ledger.before, w.ledger.after = nil, nil
				switch rapid.IntRange(0, 2).Draw(t, "how") {
				case 1:
					w.ledger.before = fault.New(fault.ModuleUnavailable, "")
				case 2:
					w.ledger.after = fault.New(fault.ModuleUnavailable, "")
				}
			},
			"end": func(t *rapid.T) {
				if _, err := w.Expire(context.Background()); err != nil { // or what has expired would be over
					t.Fatal(err)
				}
				if err := w.db.EndInjections(context.Background(), id, store.TerminalEvent{Kind: EventUnbound, At: w.now}); err != nil {
					t.Fatal(err)
				}
				for _, k := range all {
					if k.state == store.InjectionPending || k.state == store.InjectionConfirmed {
						k.state = store.InjectionEnded
					}
				}
			},
			"": func(t *rapid.T) {
				for _, k := range all {
					if k.answer == nil {
						continue
					}
					got, err := w.Injection(context.Background(), id, k.answer.Injection.ID)
					if err != nil || got.State != k.state {
						t.Fatalf("%s, %v, want %s", got.State, err, k.state)
					}
				}
				list, err := w.db.KeysOfTerminal(context.Background(), id)
				if err != nil || len(list) > 3 {
					t.Fatalf("%d sealed keys, %v", len(list), err)
				}
			},
		})
	})
	if len(whose) == 0 {
		t.Error("nothing was given")
	}
}
