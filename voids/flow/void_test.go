package flow

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"keyd/voidtoken"
)

// inState returns a void in a state, for an amount for which one method suffices, as each state
// is come by in life.
func inState(t testing.TB, state State) Void {
	t.Helper()
	rules := someRules()
	v := create(t, someFields, someFacts(), rules)
	scanned := func() { v, _ = apply(t, v, event(EventScan, "scan", now+1), rules) }
	authorized := func() {
		scanned()
		v, _ = apply(t, v, approval("approve", now+2, voidtoken.SupervisorPIN, "supervisor"), rules)
	}
	switch state {
	case Scanned:
		scanned()
	case Authorized:
		authorized()
	case Confirmed:
		authorized()
		v, _ = apply(t, v, event(EventConfirm, "confirm", now+3), rules)
	case Declined:
		scanned()
		v, _ = apply(t, v, failure("fail", now+2, voidtoken.RemoteApproval, Rejected), rules)
	case Expired:
		v, _ = apply(t, v, event(EventExpire, "expire", now+300), rules)
	case Cancelled:
		v, _ = apply(t, v, event(EventCancel, "cancel", now+3), rules)
	}
	if v.State != state {
		t.Fatalf("%s is %s", state, v.State)
	}
	return v
}

// Every event in every state: where it leads, and what the terminal may do next.
func TestTransitions(t *testing.T) {
	states := []State{Created, Scanned, Authorized, Confirmed, Declined, Expired, Cancelled}
	events := map[string]Event{
		"scan": event(EventScan, "x", now+10), "approve": approval("x", now+10, voidtoken.SupervisorPIN, "supervisor"), "wrong": failure("x", now+10, voidtoken.SupervisorPIN, NotVerified),
		"unavailable": failure("x", now+10, voidtoken.SupervisorPIN, Unavailable), "rejected": failure("x", now+10, voidtoken.RemoteApproval, Rejected),
		"not allowed": approval("x", now+10, voidtoken.CardholderPIN, "supervisor"), "by phone": approval("x", now+10, voidtoken.PhonePasskey, "supervisor"),
		"wrong on a phone": failure("x", now+10, voidtoken.PhonePasskey, NotVerified), "not on a phone": approval("x", now+10, voidtoken.PhonePIN, "supervisor"), "confirm": event(EventConfirm, "x", now+10), "reject": event(EventReject, "x", now+10),
		"cancel": event(EventCancel, "x", now+10), "expire": event(EventExpire, "x", now+10), "expire late": event(EventExpire, "x", now+10_000), "scan late": event(EventScan, "x", now+10_000),
		"approve late": approval("x", now+300, voidtoken.SupervisorPIN, "supervisor"), "confirm late": event(EventConfirm, "x", now+10_000),
	}
	type answer struct {
		state  State
		result Result
		next   []Next
	}
	begin, over := []Next{NewVoid, OtherMeans}, []Next{OtherMeans}
	want := map[State]map[string]answer{
		Created: {
			"scan": {Scanned, ResultScanned, []Next{Authorize, OtherMeans}}, "cancel": {Cancelled, ResultCancelled, begin},
			"expire late": {Expired, ResultExpired, begin}, "scan late": {Expired, ResultExpired, begin}, "approve late": {Expired, ResultExpired, begin}, "confirm late": {Expired, ResultExpired, begin},
			"approve": {Created, ResultNotScanned, []Next{Scan, OtherMeans}}, "wrong": {Created, ResultNotScanned, []Next{Scan, OtherMeans}}, "unavailable": {Created, ResultNotScanned, []Next{Scan, OtherMeans}},
			"by phone": {Authorized, ResultAuthorized, []Next{Reverse}}, "wrong on a phone": {Created, ResultWrong, []Next{TryAgain, OtherMethod, OtherMeans}},
			"not on a phone": {Created, ResultMethodNotAllowed, []Next{OtherMethod, OtherMeans}},
			"rejected":       {Created, ResultNotScanned, []Next{Scan, OtherMeans}}, "not allowed": {Created, ResultNotScanned, []Next{Scan, OtherMeans}},
			"confirm": {Created, ResultNotAuthorized, []Next{Scan, OtherMeans}}, "reject": {Created, ResultNotAuthorized, []Next{Scan, OtherMeans}}, "expire": {Created, ResultNotDue, []Next{Scan, OtherMeans}},
		},
		Scanned: {
			"approve": {Authorized, ResultAuthorized, []Next{Reverse}}, "wrong": {Scanned, ResultWrong, []Next{TryAgain, OtherMethod, OtherMeans}},
			"unavailable": {Scanned, ResultUnavailable, []Next{TryAgain, OtherMethod, OtherMeans}}, "rejected": {Declined, ResultRejected, over}, "cancel": {Cancelled, ResultCancelled, begin},
			"not allowed": {Scanned, ResultMethodNotAllowed, []Next{OtherMethod, OtherMeans}}, "by phone": {Scanned, ResultCodeUsed, []Next{Authorize, OtherMeans}},
			"wrong on a phone": {Scanned, ResultCodeUsed, []Next{Authorize, OtherMeans}}, "not on a phone": {Scanned, ResultCodeUsed, []Next{Authorize, OtherMeans}},
			"expire late": {Expired, ResultExpired, begin}, "scan late": {Expired, ResultExpired, begin}, "approve late": {Expired, ResultExpired, begin}, "confirm late": {Expired, ResultExpired, begin},
			"scan": {Scanned, ResultCodeUsed, []Next{Authorize, OtherMeans}}, "confirm": {Scanned, ResultNotAuthorized, []Next{Authorize, OtherMeans}},
			"reject": {Scanned, ResultNotAuthorized, []Next{Authorize, OtherMeans}}, "expire": {Scanned, ResultNotDue, []Next{Authorize, OtherMeans}},
		},
		Authorized: {
			"confirm": {Confirmed, ResultConfirmed, []Next{GoOn}}, "confirm late": {Confirmed, ResultConfirmed, []Next{GoOn}}, "reject": {Declined, ResultNotReversed, over},
			"expire late": {Expired, ResultUnconfirmed, []Next{AskSwitch}}, "expire": {Authorized, ResultNotDue, []Next{Reverse}}, "cancel": {Authorized, ResultTokenIsOut, []Next{Reverse, AskSwitch}},
			"scan": {Authorized, ResultCodeUsed, []Next{Reverse}}, "scan late": {Authorized, ResultCodeUsed, []Next{Reverse}}, "approve": {Authorized, ResultAlreadyAuthorized, []Next{Reverse}},
			"approve late": {Authorized, ResultAlreadyAuthorized, []Next{Reverse}}, "wrong": {Authorized, ResultAlreadyAuthorized, []Next{Reverse}}, "unavailable": {Authorized, ResultAlreadyAuthorized, []Next{Reverse}},
			"by phone": {Authorized, ResultAlreadyAuthorized, []Next{Reverse}}, "wrong on a phone": {Authorized, ResultAlreadyAuthorized, []Next{Reverse}},
			"not on a phone": {Authorized, ResultAlreadyAuthorized, []Next{Reverse}},
			"rejected":       {Authorized, ResultAlreadyAuthorized, []Next{Reverse}}, "not allowed": {Authorized, ResultAlreadyAuthorized, []Next{Reverse}},
		},
	}
	for state, next := range map[State][]Next{Confirmed: {GoOn}, Declined: over, Expired: begin, Cancelled: begin} {
		want[state] = map[string]answer{}
		for what := range events {
			want[state][what] = answer{state, ResultOver, next}
		}
	}
	for _, state := range states {
		for what, e := range events {
			expected, ok := want[state][what]
			if !ok {
				t.Errorf("%s, %s: nothing is expected", state, what)
			}
			before := inState(t, state)
			v, outcome := apply(t, before, e, someRules())
			if got := (answer{v.State, outcome.Result, outcome.Next}); !reflect.DeepEqual(got, expected) || outcome.State != v.State || outcome.Tries != v.Tries {
				t.Errorf("%s, %s: %+v, want %+v", state, what, outcome, expected)
			}
			changed := v.State != before.State || outcome.Result == ResultWrong
			if changed != (v.Version == before.Version+1) || !changed && !reflect.DeepEqual(v, before) {
				t.Errorf("%s, %s: version %d after %d", state, what, v.Version, before.Version)
			}
		}
	}
}

func TestSeveralMethods(t *testing.T) {
	rules, fields, facts := someRules(), someFields, someFacts()
	fields.Amount, facts.Amount = 300_000, 300_000
	v := create(t, fields, facts, rules)
	v, _ = apply(t, v, event(EventScan, "scan", now), rules)
	approve := func(request string, method voidtoken.Method, subject string) Event {
		e := approval(request, now+1, method, subject)
		e.Facts = facts
		return e
	}
	step := func(e Event, state State, result Result, next ...Next) {
		t.Helper()
		var outcome Outcome
		if v, outcome = apply(t, v, e, rules); v.State != state || outcome.Result != result || !slices.Equal(outcome.Next, next) {
			t.Fatalf("%s: %+v", v.State, outcome)
		}
	}
	step(approve("1", voidtoken.CardholderPIN, "cardholder"), Scanned, ResultPartly, Authorize, OtherMeans)
	step(approve("2", voidtoken.CardholderPIN, "another"), Scanned, ResultMethodUsed, OtherMethod, OtherMeans)
	step(failure("2", now+1, voidtoken.CardholderPIN, NotVerified), Scanned, ResultMethodUsed, OtherMethod, OtherMeans)
	step(approve("2", voidtoken.SupervisorPIN, "cardholder"), Scanned, ResultSamePerson, OtherMeans) // only the supervisor's PIN is left, by another person
	step(approve("2", voidtoken.RemoteApproval, "head-office"), Scanned, ResultMethodNotAllowed, OtherMethod, OtherMeans)
	step(failure("3", now+1, voidtoken.RemoteApproval, Rejected), Scanned, ResultMethodNotAllowed, OtherMethod, OtherMeans)
	step(failure("4", now+1, voidtoken.SupervisorPIN, NotVerified), Scanned, ResultWrong, TryAgain, OtherMeans)
	step(approve("5", voidtoken.SupervisorPIN, "supervisor"), Authorized, ResultAuthorized, Reverse)
	want := []voidtoken.Authorization{{Method: voidtoken.SupervisorPIN, Subject: "supervisor"}, {Method: voidtoken.CardholderPIN, Subject: "cardholder"}}
	if !slices.Equal(v.Authorizations, want) || v.ConfirmBy != now+1+900 || v.Tries != 2 {
		t.Errorf("%+v", v)
	}
}

// Two futures of one void do not touch each other: a caller may try an event and drop what comes
// of it.
func TestFuturesAreApart(t *testing.T) {
	rules, fields, facts := someRules(), someFields, someFacts()
	fields.Amount, facts.Amount = 300_000, 300_000
	rules.Default.Tries = MaxTries
	together := voidtoken.Methods()[:3] // a phone's stand alone
	rules.Default.Tiers[1].Methods = [][]voidtoken.Method{together}
	v := create(t, fields, facts, rules)
	v, _ = apply(t, v, event(EventScan, "scan", now), rules)
	approve := func(request string, i int) Event {
		e := approval(request, now+1, together[i], fmt.Sprintf("s%d", i))
		e.Facts = facts
		return e
	}
	for i := range len(together) - 1 {
		for j := range 2 { // however much room there is behind the lists
			v, _ = apply(t, v, failure(fmt.Sprintf("fail-%d-%d", i, j), now+1, together[i], NotVerified), rules)
			one, _ := apply(t, v, approve("one", i), rules)
			text := fmt.Sprintf("%+v", one)
			if _, outcome := apply(t, v, approve("two", i+1), rules); outcome.Result != ResultPartly && outcome.Result != ResultAuthorized {
				t.Fatalf("%+v", outcome)
			}
			apply(t, v, event(EventCancel, "two", now+1), rules)
			if again := fmt.Sprintf("%+v", one); again != text {
				t.Fatalf("another future changes\n%s\nto\n%s", text, again)
			}
		}
		v, _ = apply(t, v, approve(fmt.Sprintf("approve-%d", i), i), rules)
	}
}

func TestWhenTheSwitchIsSilent(t *testing.T) {
	v := inState(t, Authorized)
	if v.ConfirmBy != now+2+900 {
		t.Fatalf("%+v", v)
	}
	if got, outcome := apply(t, v, event(EventExpire, "x", v.ConfirmBy-1), nil); outcome.Result != ResultNotDue || got.State != Authorized {
		t.Errorf("%+v", outcome)
	}
	if got, outcome := apply(t, v, event(EventExpire, "x", v.ConfirmBy), nil); outcome.Result != ResultUnconfirmed || got.State != Expired {
		t.Errorf("%+v", outcome)
	}
}

// The rules in force at the approval decide, and so do the facts of that moment.
func TestDecidedAnew(t *testing.T) {
	v := inState(t, Scanned)
	settled, missing := approval("x", now+10, voidtoken.SupervisorPIN, "supervisor"), approval("y", now+10, voidtoken.SupervisorPIN, "supervisor")
	settled.Facts.Settled, missing.Facts.Settled = Yes, Unknown
	if got, outcome := apply(t, v, settled, someRules()); got.State != Declined || outcome.Result != ResultRefused || outcome.Refusal != Settled || !slices.Equal(outcome.Next, []Next{OtherMeans}) {
		t.Errorf("%+v", outcome)
	}
	if got, _, err := v.Apply(missing, someRules()); !errors.Is(err, ErrFacts) || !reflect.DeepEqual(got, v) {
		t.Errorf("without facts: %s, %v", got.State, err)
	}
	stricter := someRules()
	stricter.Default.Tiers[0].Methods = [][]voidtoken.Method{{voidtoken.SupervisorPIN, voidtoken.CardholderPIN}}
	if got, outcome := apply(t, v, approval("x", now+10, voidtoken.SupervisorPIN, "supervisor"), stricter); got.State != Scanned || outcome.Result != ResultPartly {
		t.Errorf("%+v", outcome)
	}
	if got, outcome := apply(t, v, approval("x", now+10, voidtoken.RemoteApproval, "remote"), stricter); !reflect.DeepEqual(got, v) || outcome.Result != ResultMethodNotAllowed {
		t.Errorf("%+v", outcome)
	}
	// A set that suffices is the whole of what was used: no more of it is left over for a switch to
	// wonder about.
	changed := someRules()
	changed.Default.Tiers[0].Methods = [][]voidtoken.Method{{voidtoken.SupervisorPIN}, {voidtoken.SupervisorPIN, voidtoken.CardholderPIN, voidtoken.RemoteApproval}}
	partly, _ := apply(t, v, approval("x", now+10, voidtoken.CardholderPIN, "cardholder"), stricter)
	if got, outcome := apply(t, partly, approval("y", now+10, voidtoken.SupervisorPIN, "supervisor"), changed); got.State != Scanned || outcome.Result != ResultPartly {
		t.Errorf("%+v", outcome)
	}
	if got, outcome := apply(t, v, approval("x", now+10, voidtoken.SupervisorPIN, "supervisor"), &Rules{}); got.State != Declined || outcome.Refusal != MerchantNotAllowed {
		t.Errorf("%+v", outcome)
	}
	// The business day ends between the request and the approval.
	facts := someFacts()
	facts.PaidAt = now + 12*3600 - 60
	late, outcome, err := New("create", someFields, someRules(), facts, now+12*3600-30)
	if err != nil || outcome.Result != ResultCreated {
		t.Fatal(outcome, err)
	}
	late, _ = apply(t, late, event(EventScan, "scan", now+12*3600-1), someRules())
	e := approval("x", now+12*3600, voidtoken.SupervisorPIN, "supervisor")
	e.Facts = facts
	if got, outcome := apply(t, late, e, someRules()); got.State != Declined || outcome.Refusal != NotSameDay {
		t.Errorf("%+v", outcome)
	}
}

func TestNew(t *testing.T) {
	v := create(t, someFields, someFacts(), someRules())
	if v.State != Created || v.Version != 1 || v.ExpiresAt != now+300 || v.Tries != 3 || v.At != now {
		t.Errorf("%+v", v)
	}
	if outcome, err := v.CreatedBy("create", someFields); err != nil || outcome.Result != ResultCreated || !slices.Equal(outcome.Next, []Next{Scan, OtherMeans}) {
		t.Errorf("again: %+v, %v", outcome, err)
	}
	other := someFields
	other.Amount++
	for _, c := range []struct {
		request string
		fields  voidtoken.Fields
	}{{"create", other}, {"other", someFields}} {
		if outcome, err := v.CreatedBy(c.request, c.fields); !errors.Is(err, ErrRequest) || outcome.Result != "" {
			t.Errorf("%+v: %+v, %v", c, outcome, err)
		}
	}
	for _, c := range []struct {
		refusal Refusal
		change  func(*Facts)
		next    []Next
	}{
		{AlreadyVoided, func(f *Facts) { f.Voided = Yes }, []Next{GoOn}}, {AnotherVoid, func(f *Facts) { f.Live = Yes }, []Next{TryAgain, OtherMeans}},
		{Settled, func(f *Facts) { f.Settled = Yes }, []Next{OtherMeans}}, {TooManyToday, func(f *Facts) { f.VoidsToday = count(20) }, []Next{OtherMeans}},
	} {
		facts := someFacts()
		c.change(&facts)
		v, outcome, err := New("create", someFields, someRules(), facts, now)
		if err != nil || outcome.Result != ResultRefused || outcome.Refusal != c.refusal || !slices.Equal(outcome.Next, c.next) || !reflect.DeepEqual(v, Void{}) {
			t.Errorf("%s: %+v, %v", c.refusal, outcome, err)
		}
	}
	if v, _, err := New("create", someFields, someRules(), Facts{}, now); !errors.Is(err, ErrFacts) || v.State != "" {
		t.Errorf("without facts: %v", err)
	}
	for what, c := range map[string]struct {
		request string
		fields  voidtoken.Fields
		at      int64
	}{"no request": {"", someFields, now}, "no fields": {"create", voidtoken.Fields{}, now}, "no time": {"create", someFields, 0}} {
		if v, _, err := New(c.request, c.fields, someRules(), someFacts(), c.at); !errors.Is(err, ErrEvent) || v.State != "" {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestEventsThatAreNone(t *testing.T) {
	v := inState(t, Scanned)
	good := approval("x", now+10, voidtoken.SupervisorPIN, "supervisor")
	for what, change := range map[string]func(*Event){
		"no kind": func(e *Event) { e.Kind = "" }, "a creation": func(e *Event) { e.Kind = EventCreate }, "no request": func(e *Event) { e.Request = "" }, "no time": func(e *Event) { e.At = 0 },
		"a time without end": func(e *Event) { e.At = 1<<63 - 1 }, "no method": func(e *Event) { e.Method = "" }, "nobody": func(e *Event) { e.Subject = "" }, "a PIN": func(e *Event) { e.Subject = "123456" },
		"a failed approval": func(e *Event) { e.Failure = NotVerified }, "a scan by a method": func(e *Event) { e.Kind = EventScan }, "a failure by a person": func(e *Event) { e.Kind, e.Failure = EventFail, NotVerified },
		"a failure without one": func(e *Event) { e.Kind, e.Subject = EventFail, "" }, "another failure": func(e *Event) { e.Kind, e.Subject, e.Failure = EventFail, "", "BLOCKED" },
	} {
		e := good
		change(&e)
		if got, outcome, err := v.Apply(e, someRules()); !errors.Is(err, ErrEvent) || outcome.Result != "" || !reflect.DeepEqual(got, v) {
			t.Errorf("%s: %+v, %v", what, outcome, err)
		}
	}
	for what, change := range map[string]func(*Void){
		"nothing": func(v *Void) { *v = Void{} }, "no state": func(v *Void) { v.State = "" }, "another state": func(v *Void) { v.State = "PAID" }, "no version": func(v *Void) { v.Version = 0 },
		"no fields": func(v *Void) { v.Fields.Amount = 0 }, "no end": func(v *Void) { v.ExpiresAt = 0 }, "negative tries": func(v *Void) { v.Tries = -1 }, "no past": func(v *Void) { v.Applied = nil },
		"authorised without an end": func(v *Void) { v.State = Authorized },
	} {
		broken := v
		change(&broken)
		if _, outcome, err := broken.Apply(good, someRules()); !errors.Is(err, ErrVoid) || outcome.Result != "" {
			t.Errorf("%s: %+v, %v", what, outcome, err)
		}
	}
}

func TestRequestsAreUsedOnce(t *testing.T) {
	v := inState(t, Authorized)
	first := approval("approve", now+5000, voidtoken.SupervisorPIN, "supervisor") // the retry comes late, and is answered all the same
	if got, outcome := apply(t, v, first, nil); outcome.Result != ResultAuthorized || !reflect.DeepEqual(got, v) {
		t.Errorf("%+v", outcome)
	}
	for what, e := range map[string]Event{
		"by another": approval("approve", now+5, voidtoken.SupervisorPIN, "other"), "another method": approval("approve", now+5, voidtoken.RemoteApproval, "supervisor"),
		"another kind": event(EventConfirm, "approve", now+5), "the creation's": event(EventConfirm, "create", now+5), "the scan's": event(EventCancel, "scan", now+5),
	} {
		if got, outcome, err := v.Apply(e, someRules()); !errors.Is(err, ErrRequest) || outcome.Result != "" || !reflect.DeepEqual(got, v) {
			t.Errorf("%s: %+v, %v", what, outcome, err)
		}
	}
}

// Every result and every refusal leads somewhere, and all that leads anywhere is in its list.
func TestEveryOutcomeSaysWhatIsNext(t *testing.T) {
	for _, state := range []State{"", Created, Scanned, Authorized, Confirmed, Declined, Expired, Cancelled} {
		for _, result := range Results() {
			for _, refusal := range append(Refusals(), "") {
				next := nextOf(&Void{State: state}, result, refusal, voidtoken.SupervisorPIN)
				if len(next) == 0 || slices.ContainsFunc(next, func(n Next) bool { return !slices.Contains(Nexts(), n) }) {
					t.Errorf("%s, %s, %s: %v", state, result, refusal, next)
				}
			}
		}
	}
	listed := map[string]int{"Result": len(Results()), "Refusal": len(Refusals()), "Next": len(Nexts())}
	declared := map[string]int{}
	for _, file := range []string{"outcome.go", "decide.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if d, ok := d.(*ast.GenDecl); ok && d.Tok == token.CONST {
				for _, spec := range d.Specs {
					if kind, ok := spec.(*ast.ValueSpec).Type.(*ast.Ident); ok {
						declared[kind.Name]++
					}
				}
			}
		}
	}
	for kind, n := range listed {
		if declared[kind] != n {
			t.Errorf("%s: %d are declared, %d are listed", kind, declared[kind], n)
		}
	}
}

// draw draws any event: at any time, earlier ones too, with a request that may have been used.
func drawEvent(t *rapid.T, clock int64) Event {
	e := Event{
		Kind:    rapid.SampledFrom([]Kind{EventApprove, EventScan, EventApprove, EventScan, EventApprove, EventApprove, EventFail, EventFail, EventConfirm, EventReject, EventCancel, EventExpire}).Draw(t, "kind"),
		Request: fmt.Sprintf("r%d", rapid.IntRange(0, 99).Draw(t, "request")), At: max(1, clock+rapid.SampledFrom([]int64{0, 0, 0, 0, -1, -400, 1, 30, 299, 900, 5000}).Draw(t, "step")),
	}
	switch e.Kind {
	case EventApprove:
		e.Method, e.Subject, e.Facts = rapid.SampledFrom(voidtoken.Methods()).Draw(t, "method"), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "subject"), someFacts()
		e.Facts.Amount = 300_000
		if rapid.IntRange(0, 9).Draw(t, "luck") == 0 {
			e.Facts.Settled = rapid.SampledFrom([]Answer{Unknown, Yes}).Draw(t, "settled")
		}
	case EventFail:
		e.Method = rapid.SampledFrom(voidtoken.Methods()).Draw(t, "method")
		e.Failure = rapid.SampledFrom([]Failure{NotVerified, NotVerified, NotVerified, Unavailable, Rejected}).Draw(t, "failure")
	}
	return e
}

// No sequence of events authorises twice, leaves a final state or authorises after expiry; a
// retry changes nothing and gets the same answer, whenever it comes; what is refused changes
// nothing. What may be is said here a second time, and in another way than the code does.
func TestModel(t *testing.T) {
	reached := map[Result]int{}
	model := func(t *rapid.T) {
		rules, fields, facts := someRules(), someFields, someFacts()
		rules.Default.Tiers[1].Methods = rapid.SampledFrom([][][]voidtoken.Method{
			{{voidtoken.SupervisorPIN}, {voidtoken.RemoteApproval}, {voidtoken.PhonePIN}},
			{{voidtoken.SupervisorPIN, voidtoken.CardholderPIN}},
			{{voidtoken.SupervisorPIN, voidtoken.RemoteApproval, voidtoken.CardholderPIN}, {voidtoken.RemoteApproval, voidtoken.CardholderPIN}, {voidtoken.PhonePasskey}},
		}).Draw(t, "methods")
		rules.Default.Tries = rapid.IntRange(1, 4).Draw(t, "tries")
		fields.Amount, facts.Amount = 300_000, 300_000
		v, outcome, err := New("create", fields, rules, facts, now)
		if err != nil || outcome.Result != ResultCreated {
			t.Fatal(outcome, err)
		}
		allowed := map[State][]State{
			Created: {Created, Scanned, Authorized, Declined, Expired, Cancelled}, Scanned: {Scanned, Authorized, Declined, Expired, Cancelled}, Authorized: {Confirmed, Declined, Expired},
		}
		type answered struct {
			event   Event
			outcome Outcome
		}
		var past []answered
		if rapid.IntRange(0, 3).Draw(t, "scanned") > 0 { // most of what there is comes after it
			e := event(EventScan, "scan", now)
			if v, outcome, err = v.Apply(e, rules); err != nil || v.State != Scanned {
				t.Fatal(outcome, err)
			}
			past = append(past, answered{e, outcome})
		}
		authorized, failed, clock := 0, 0, int64(now)
		right := map[voidtoken.Method]string{}
		for range rapid.IntRange(1, 25).Draw(t, "events") {
			clock += rapid.SampledFrom([]int64{0, 1, 2, 5, 10, 60}).Draw(t, "time")
			var e Event
			if len(past) > 0 && rapid.IntRange(0, 3).Draw(t, "retry") == 0 {
				e = past[rapid.IntRange(0, len(past)-1).Draw(t, "which")].event
				e.At, e.Facts = max(1, clock+rapid.Int64Range(-400, 10_000).Draw(t, "later")), Facts{}
			} else {
				e = drawEvent(t, clock)
			}
			before := v
			beforeText := fmt.Sprintf("%+v", v)
			after, outcome, err := v.Apply(e, rules)
			if text := fmt.Sprintf("%+v", before); text != beforeText {
				t.Fatalf("the void that was there is changed:\n%s\n%s", beforeText, text)
			}
			known := slices.IndexFunc(past, func(a answered) bool { return a.event.Request == e.Request })
			switch {
			case err != nil:
				if !reflect.DeepEqual(after, before) || outcome.Result != "" || known < 0 && !errors.Is(err, ErrFacts) {
					t.Fatal(e, err)
				}
				continue
			case known >= 0:
				if p := past[known]; !reflect.DeepEqual(after, before) || !reflect.DeepEqual(outcome, p.outcome) || e.Kind != p.event.Kind || e.Method != p.event.Method || e.Subject != p.event.Subject || e.Failure != p.event.Failure {
					t.Fatalf("%+v again: %+v, it was %+v", e, outcome, p.outcome)
				}
				continue
			}
			reached[outcome.Result]++
			if len(outcome.Next) == 0 || outcome.State != after.State {
				t.Fatalf("%+v", outcome)
			}
			if after.Version == before.Version {
				if !reflect.DeepEqual(after, before) {
					t.Fatalf("%+v changes a void and keeps its version", e)
				}
				continue
			}
			past = append(past, answered{e, outcome})
			effective := max(e.At, before.At)
			if before.State.Final() || !slices.Contains(allowed[before.State], after.State) || after.Version != before.Version+1 || after.At != effective || len(after.Applied) != len(past)+1 {
				t.Fatalf("%+v leads from %s to %s", e, before.State, after.State)
			}
			if e.Kind == EventFail && e.Failure == NotVerified && after.State != Expired {
				failed++
			}
			if e.Kind == EventApprove && (outcome.Result == ResultPartly || outcome.Result == ResultAuthorized) {
				right[e.Method] = e.Subject
			}
			if after.State == Authorized {
				authorized++
				people := map[string]bool{}
				for _, who := range right {
					people[who] = true
				}
				sets := rules.Default.Tiers[1].Methods
				suffices := slices.ContainsFunc(sets, func(set []voidtoken.Method) bool {
					for _, m := range set {
						if right[m] == "" {
							return false
						}
					}
					return len(set) == len(right)
				})
				if authorized > 1 || !suffices || len(people) != len(right) || failed >= rules.Default.Tries || e.Kind != EventApprove || e.Facts.Settled != No || e.At >= before.ExpiresAt || effective >= now+rules.Default.Life {
					t.Fatalf("%+v authorises: %v by %v, %d failed, once before: %t", e, right, people, failed, authorized > 1)
				}
			}
			if before.State == Created && e.Kind != EventScan && !e.Method.OnPhone() && (after.State == Created || after.State == Authorized || after.State == Declined) {
				t.Fatalf("%+v leads from %s to %s although no code was scanned", e, before.State, after.State)
			}
			if e.Method.OnPhone() && before.State != Created && after.State != Expired {
				t.Fatalf("%+v changes a void that is %s: its code is burnt", e, before.State)
			}
			if failed >= rules.Default.Tries && (after.State == Scanned || after.State == Created) {
				t.Fatalf("%d of %d tries have failed", failed, rules.Default.Tries)
			}
			v = after
		}
		if len(v.Applied) > 4+len(voidtoken.Methods())+MaxTries {
			t.Fatalf("%d events are kept", len(v.Applied))
		}
	}
	for range 20 {
		rapid.Check(t, model)
	}
	for _, r := range Results() {
		if reached[r] == 0 && r != ResultCreated {
			t.Errorf("nothing was %s", r)
		}
	}
}

// All short sequences of a small alphabet, none left out: authorised once at most, and nothing
// after the end.
func TestAllShortSequences(t *testing.T) {
	rules := someRules()
	rules.Default.Tries = 2
	var alphabet []Event
	for _, at := range []int64{now + 1, now + 299, now + 300, now + 2000} {
		alphabet = append(alphabet, event(EventScan, "", at), approval("", at, voidtoken.SupervisorPIN, "a"), approval("", at, voidtoken.RemoteApproval, "b"), approval("", at, voidtoken.PhonePasskey, "c"), failure("", at, voidtoken.SupervisorPIN, NotVerified),
			event(EventConfirm, "", at), event(EventReject, "", at), event(EventCancel, "", at), event(EventExpire, "", at))
	}
	tried := 0
	var walk func(v Void, depth, authorized int)
	walk = func(v Void, depth, authorized int) {
		if authorized > 1 {
			t.Fatalf("authorised twice: %+v", v.Applied)
		}
		if depth == 0 {
			return
		}
		for _, e := range alphabet {
			tried++
			e.Request = fmt.Sprintf("r%d", depth)
			after, outcome := apply(t, v, e, rules)
			if v.State.Final() && (after.State != v.State || after.Version != v.Version || outcome.Result != ResultOver) {
				t.Fatalf("%s is left for %s", v.State, after.State)
			}
			if after.Version == v.Version {
				continue // what changes nothing leads nowhere else
			}
			more := authorized
			if after.State == Authorized && v.State != Authorized {
				if more++; after.At >= v.ExpiresAt {
					t.Fatalf("authorised after expiry: %+v", after.Applied)
				}
			}
			walk(after, depth-1, more)
		}
	}
	walk(create(t, someFields, someFacts(), rules), 6, 0)
	if tried < 10_000 {
		t.Errorf("%d events are not all", tried)
	}
}
