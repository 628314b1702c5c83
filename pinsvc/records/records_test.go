package records

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyd/fault"
	"keyd/pinrecord"
	"keyd/store"
)

// A PIN from its first code to its end, told on one front and looked at on another.
func TestLifeOfAPIN(t *testing.T) {
	onBoth(t, func(o *office) {
		s := supervisor("dora")
		o.tries(s, "493817", false)
		two := o.approvals(pinrecord.Enrol, s, 1)
		first := o.begin(two)
		o.is(s, EnrolPending, 1)
		if again := o.begin(two); !bytes.Equal(again.Code, first.Code) || len(first.Code) == 0 {
			t.Error("the same approvals have another code")
		}
		if verified, _, err := o.fronts[1].Set(o.Context(), actor, s, entry("87654321"), entry("493817")); verified || err != nil {
			t.Errorf("a wrong code: %v, %v", verified, err)
		}
		for range 5 { // the code stays good
			_, _, err := o.fronts[0].Set(o.Context(), actor, s, entry(theCode), entry("123456"))
			o.refused("a weak PIN", err, fault.PINWeak)
		}
		if verified, r, err := o.fronts[0].Set(o.Context(), actor, s, entry(theCode), entry("493817")); !verified || err != nil || r.TriesLeft != Tries {
			t.Fatalf("%v, %+v, %v", verified, r, err)
		}
		_, err := o.fronts[0].Begin(o.Context(), actor, two, time.Time{})
		o.refused("approvals that were used", err, fault.RequestReplayed)
		o.tries(s, "493817", true)
		o.tries(s, "493818", false)
		if r := o.is(s, Active, 1); r.TriesLeft != 2 {
			t.Errorf("%+v", r)
		}
		o.tries(s, "493817", true)
		if r := o.is(s, Active, 1); r.TriesLeft != 3 {
			t.Errorf("%+v", r)
		}
		_, err = o.fronts[0].Change(o.Context(), actor, s, entry("493817"), entry("123456"))
		o.refused("a weak PIN", err, fault.PINWeak)
		if verified, err := o.fronts[0].Change(o.Context(), actor, s, entry("493817"), entry("602914")); !verified || err != nil {
			t.Fatalf("%v, %v", verified, err)
		}
		o.is(s, Active, 2)
		o.tries(s, "493817", false)
		o.tries(s, "602914", true)
		for range 3 {
			o.tries(s, "000001", false)
		}
		o.is(s, Blocked, 2)
		o.tries(s, "602914", false)
		two = o.approvals(pinrecord.Unblock, s, 2)
		o.begin(two)
		o.tries(s, "000001", false)
		o.begin(two) // once more gives nothing
		if r := o.is(s, Active, 2); r.TriesLeft != 2 {
			t.Errorf("%+v", r)
		}
		o.tries(s, "602914", true)
		o.begin(o.approvals(pinrecord.Reset, s, 3))
		o.tries(s, "602914", false) // at once
		o.is(s, ResetPending, 3)
		if verified, _, err := o.fronts[1].Set(o.Context(), actor, s, entry(theCode), entry("771203")); !verified || err != nil {
			t.Fatalf("%v, %v", verified, err)
		}
		o.tries(s, "771203", true)
		r, err := o.fronts[0].Revoke(o.Context(), actor, s, "she has left")
		if err != nil || r.State != Revoked || r.Version != 4 {
			t.Fatalf("%+v, %v", r, err)
		}
		o.tries(s, "771203", false) // at once
		if _, err := o.fronts[1].Revoke(o.Context(), actor, s, "again"); err != nil {
			t.Error(err)
		}
		_, err = o.fronts[0].Begin(o.Context(), actor, o.approvals(pinrecord.Reset, s, 4), time.Time{})
		o.refused("the version that the revocation used up", err, fault.PINRecordState)
		o.begin(o.approvals(pinrecord.Reset, s, 5))
		var kinds []string
		list, err := o.fronts[1].Events(o.Context(), s, 0, 100)
		o.must(err)
		for _, e := range list {
			kinds = append(kinds, e.Kind)
		}
		want := []string{EventEnrolBegun, EventSet, EventChanged, EventBlocked, EventUnblocked, EventResetBegun, EventSet, EventRevoked, EventResetBegun}
		if len(kinds) != len(want) {
			t.Fatalf("%v", kinds)
		}
		for n := range want {
			if kinds[n] != want[n] {
				t.Errorf("%v, want %v", kinds, want)
			}
		}
	})
}

// A thousand wrong PINs at the same moment on two fronts, some of whose calls break off, are three
// comparisons; so are a thousand codes.
func TestNoFourthComparison(t *testing.T) {
	onBoth(t, func(o *office) {
		s := o.enrolled("dora", "493817")
		pending := supervisor("emil")
		o.begin(o.approvals(pinrecord.Enrol, pending, 1))
		for what, try := range map[string]func(f *Service) (bool, error){
			"PIN": func(f *Service) (bool, error) { return f.Verify(o.Context(), actor, s, entry("493818")) },
			"code": func(f *Service) (bool, error) {
				verified, _, err := f.Set(o.Context(), actor, pending, entry("87654321"), entry("493817"))
				return verified, err
			},
		} {
			o.modules.compared = 0
			o.modules.fail = func() error { // it was compared, and the answer is lost
				if rand.IntN(2) == 0 {
					return fault.New(fault.ModuleUnavailable, "")
				}
				return nil
			}
			var group sync.WaitGroup
			work := make(chan int)
			for n := range 32 {
				group.Go(func() {
					for range work {
						if verified, err := try(o.fronts[n%2]); verified || err != nil && fault.Of(err).Reason != fault.ModuleUnavailable {
							t.Errorf("%v, %v", verified, err)
						}
					}
				})
			}
			for n := range 1000 {
				work <- n
			}
			close(work)
			group.Wait()
			if o.modules.compared != 3 {
				t.Errorf("a %s was compared %d times", what, o.modules.compared)
			}
		}
		o.is(s, Blocked, 1)
		o.modules.fail = nil
		o.tries(s, "493817", false)
	})
}

// countingStore counts transactions that write about tries.
type countingStore struct {
	store.Store
	writes atomic.Int32
}

func (c *countingStore) TakePINTry(ctx context.Context, subject []byte, now time.Time, e store.PINEvent) (store.PINRecord, bool, error) {
	c.writes.Add(1)
	return c.Store.TakePINTry(ctx, subject, now, e)
}

func (c *countingStore) GivePINTry(ctx context.Context, taken store.PINRecord, all bool, e store.PINEvent) error {
	c.writes.Add(1)
	return c.Store.GivePINTry(ctx, taken, all, e)
}

// Who may only verify learns nothing about a subject from the answer, nor from how much was done for
// it: a module is asked once, and the database written to once.
func TestAllThatIsNotVerifiedLooksAlike(t *testing.T) {
	onBoth(t, func(o *office) {
		wrong, blocked, revoked, temporary, reset := o.enrolled("wrong", "493817"), o.enrolled("blocked", "493817"), o.enrolled("revoked", "493817"), supervisor("temporary"), o.enrolled("reset", "493817")
		for range 3 {
			o.tries(blocked, "000001", false)
		}
		_, err := o.fronts[0].Revoke(o.Context(), actor, revoked, "")
		o.must(err)
		_, err = o.fronts[0].Begin(o.Context(), actor, o.approvals(pinrecord.Enrol, temporary, 1), o.now.Add(time.Hour))
		o.must(err)
		if verified, _, err := o.fronts[0].Set(o.Context(), actor, temporary, entry(theCode), entry("493817")); !verified || err != nil {
			t.Fatalf("%v, %v", verified, err)
		}
		o.tries(temporary, "493817", true)
		o.begin(o.approvals(pinrecord.Reset, reset, 2))
		o.now = o.now.Add(time.Hour)
		o.is(temporary, Ended, 1)
		counting := &countingStore{Store: o.stores[1]}
		o.fronts[1].store = counting
		for name, c := range map[string]struct {
			subject *pinrecord.Subject
			pin     string
		}{
			"a wrong PIN": {wrong, "000001"}, "nobody": {supervisor("nobody"), "493817"}, "blocked": {blocked, "493817"}, "revoked": {revoked, "493817"},
			"a PIN whose time is over": {temporary, "493817"}, "one that was reset": {reset, "493817"},
		} {
			asked, compared := o.modules.asked, o.modules.compared
			counting.writes.Store(0)
			o.tries(c.subject, c.pin, false)
			if o.modules.asked != asked+1 || counting.writes.Load() != 1 {
				t.Errorf("%s: modules were asked %d times, the database was written to %d times", name, o.modules.asked-asked, counting.writes.Load())
			}
			if (o.modules.compared != compared) != (name == "a wrong PIN") {
				t.Errorf("%s: %d comparisons", name, o.modules.compared-compared)
			}
		}
	})
}

// What is broken off between module and database is brought to its end by the same request.
func TestWhatIsBrokenOff(t *testing.T) {
	onBoth(t, func(o *office) {
		s := o.enrolled("dora", "493817")
		for range 3 {
			o.tries(s, "000001", false)
		}
		// The modules have used the approval up, and the front was gone.
		two := o.approvals(pinrecord.Unblock, s, 1)
		o.modules.used[string(two[0].Document)] = true
		o.begin(two)
		o.tries(s, "493817", true)
		// No module is there: nothing is counted.
		o.modules.away = true
		for range 5 {
			_, err := o.fronts[0].Verify(o.Context(), actor, s, entry("493817"))
			o.refused("no module", err, fault.ModuleUnavailable)
		}
		o.modules.away = false
		if r := o.is(s, Active, 1); r.TriesLeft != 3 {
			t.Errorf("%+v", r)
		}
		// A refusal before anything is compared gives the try back; a key for other PINs is refused
		// whoever the subject is.
		o.modules.fail = func() error { return fault.New(fault.RateLimited, "") }
		for range 5 {
			_, err := o.fronts[0].Verify(o.Context(), actor, s, entry("493817"))
			o.refused("too many", err, fault.RateLimited)
		}
		o.modules.fail = nil
		for _, subject := range []*pinrecord.Subject{s, supervisor("nobody")} {
			pin := entry("493817")
			pin.Key.KeyID = "cards"
			_, err := o.fronts[0].Verify(o.Context(), actor, subject, pin)
			o.refused("a key for cards", err, fault.KeyUsageMismatch)
		}
		o.tries(s, "493817", true)
	})
}

// Of many at once with the same approvals all have the same answer, and one history.
func TestApprovalsAtOnce(t *testing.T) {
	onBoth(t, func(o *office) {
		s := supervisor("dora")
		two := o.approvals(pinrecord.Enrol, s, 1)
		var group sync.WaitGroup
		codes := make(chan string, 16)
		for n := range cap(codes) {
			group.Go(func() {
				b, err := o.fronts[n%2].Begin(o.Context(), actor, two, time.Time{})
				if err != nil {
					t.Error(err)
					return
				}
				codes <- string(b.Code)
			})
		}
		group.Wait()
		close(codes)
		first := <-codes
		for code := range codes {
			if code != first {
				t.Error("two codes")
			}
		}
		list, err := o.fronts[0].Events(o.Context(), s, 0, 100)
		if err != nil || len(list) != 1 {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

func TestApprovalsThatDoNotFit(t *testing.T) {
	onBoth(t, func(o *office) {
		s := o.enrolled("dora", "493817")
		one := o.approvals(pinrecord.Reset, s, 2)
		alone := []pinrecord.Signed{one[0], one[0]}
		altered := o.approvals(pinrecord.Reset, s, 2)
		altered[1].Signature = one[1].Signature
		for name, c := range map[string]struct {
			two  []pinrecord.Signed
			want fault.Reason
		}{
			"one person twice":      {alone, fault.ApprovalInvalid},
			"another's signature":   {altered, fault.ApprovalInvalid},
			"one":                   {one[:1], fault.ApprovalInvalid},
			"an enrolment of a PIN": {o.approvals(pinrecord.Enrol, s, 2), fault.PINRecordState},
			"the version that is":   {o.approvals(pinrecord.Reset, s, 1), fault.PINRecordState},
			"a reset of nobody":     {o.approvals(pinrecord.Reset, supervisor("nobody"), 1), fault.PINRecordNotFound},
			"tries for nobody":      {o.approvals(pinrecord.Unblock, supervisor("nobody"), 1), fault.PINRecordNotFound},
			"tries of another PIN":  {o.approvals(pinrecord.Unblock, s, 2), fault.PINRecordState},
		} {
			_, err := o.fronts[0].Begin(o.Context(), actor, c.two, time.Time{})
			o.refused(name, err, c.want)
		}
		o.tries(s, "493817", true)
		o.now = o.now.Add(2 * time.Hour)
		_, err := o.fronts[0].Begin(o.Context(), actor, one, time.Time{})
		o.refused("too late", err, fault.ApprovalInvalid)
	})
}
