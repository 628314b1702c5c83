package terminals

import (
	"testing"
	"time"

	"keyd/fault"
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
