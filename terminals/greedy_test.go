package terminals

import (
	"testing"
	"time"

	"keyd/fault"
	"keyd/keys"
	"keyd/store"
)

// TestGreedyTerminal: one that confirms whatever it gets, and asks on and on, does not use up the
// numbers of all others.
func TestGreedyTerminal(t *testing.T) {
	w := newWorld(t)
	k := shop()
	k.Initial[0].Last = 9999
	w.set(k)
	id := w.terminal("t-greedy")
	for range mostInjections {
		w.confirm(w.inject(w.request(id, KeyAgreement)).Injection)
	}
	_, err := w.Inject(t.Context(), actor, w.request(id, KeyAgreement))
	want(t, "one more of the day", fault.RateLimited, err)
	w.inject(w.request(w.terminal("t-other"), KeyAgreement))
	w.now = w.now.AddDate(0, 0, 1).Add(time.Minute)
	w.inject(w.request(id, KeyAgreement))
}

// TestRequestThatComesToNothing, again and again: it leaves no events without end, and may come
// again all the same.
func TestRequestThatComesToNothing(t *testing.T) {
	for _, m := range []Method{KeyAgreement, TwoPass, OnePass} {
		w := newWorld(t)
		id := w.terminal("t-1")
		r := w.request(id, m)
		w.ledger.before = fault.New(fault.ExportForbidden, "")
		limited := 0
		for range 3 * manyTries {
			if _, err := w.Inject(t.Context(), actor, r); fault.Of(err).Reason == fault.RateLimited {
				limited++
			}
		}
		record, err := w.db.Terminal(t.Context(), id)
		if err != nil || record.Revision > manyTries || limited < 2*manyTries {
			t.Errorf("%s: %d events, %d times limited, %v", m, record.Revision, limited, err)
		}
		w.ledger.before = nil
		w.now = w.now.Add(triesPause)
		if a := w.inject(r); a.Injection.State != store.InjectionPending {
			t.Errorf("%s: %+v", m, a.Injection)
		}
	}
}

// TestOnePassAfterAnotherKey: a request in one pass cannot be made anew, so one that came to nothing
// goes on with the base derivation key that there is now.
func TestOnePassAfterAnotherKey(t *testing.T) {
	w := newWorld(t)
	w.putKey("bdk.aes.2", "B0", "A")
	v := keys.New(w.db)
	if err := v.SetAlias(t.Context(), "terminals", "bdk.aes", ""); err != nil {
		t.Fatal(err)
	}
	k := shop()
	k.Initial[0].Key = "terminals"
	w.set(k)
	r := w.request(w.terminal("t-1"), OnePass)
	w.ledger.before = fault.New(fault.ModuleUnavailable, "")
	_, err := w.Inject(t.Context(), actor, r)
	want(t, "no module", fault.ModuleUnavailable, err)
	w.ledger.before = nil
	if err := v.SetAlias(t.Context(), "terminals", "bdk.aes.2", "bdk.aes"); err != nil {
		t.Fatal(err)
	}
	w.Distribution = w.front()
	a := w.inject(r)
	if got := a.Injection.Keys[2]; got.BDK != "bdk.aes.2" {
		t.Errorf("%+v", got)
	}
	w.confirm(a.Injection)
}
