package flow

import (
	"slices"

	"keyd/voidtoken"
)

// State is a state of a void.
type State string

// The states.
const (
	Created    State = "CREATED"
	Scanned    State = "SCANNED"
	Authorized State = "AUTHORIZED"
	Confirmed  State = "CONFIRMED"
	Declined   State = "DECLINED"
	Expired    State = "EXPIRED"
	Cancelled  State = "CANCELLED"
)

// Final reports whether nothing leaves the state.
func (s State) Final() bool {
	return s == Confirmed || s == Declined || s == Expired || s == Cancelled
}

// Live reports whether the void is neither over nor unknown.
func (s State) Live() bool { return s == Created || s == Scanned || s == Authorized }

// Void is a void request. It is a value: nothing in it is changed, others are made of it.
type Void struct {
	Fields    voidtoken.Fields
	State     State
	Version   uint64 // 1 when it is created, one more with each change
	At        int64  // of the last change, Unix seconds
	ExpiresAt int64  // until it is authorised
	ConfirmBy int64  // 0 until it is authorised; the switch has answered by then
	Tries     int    // left

	Methods        [][]voidtoken.Method      // the sets that suffice, as they were decided last
	Authorizations []voidtoken.Authorization // in the order of [voidtoken.Methods], as a token has them
	Applied        []Applied                 // what has changed it, first to last
}

// New makes a void request, if the rules allow it: the outcome is [ResultCreated], or
// [ResultRefused] and there is no void. Whether there is one already for the request identifier
// is for the caller to look at, with [Void.CreatedBy]. Errors are [ErrEvent] and [ErrFacts].
func New(request string, fields voidtoken.Fields, rules *Rules, facts Facts, now int64) (Void, Outcome, error) {
	if !voidtoken.ValidName(request) || !validTime(now) || fields.Validate() != nil {
		return Void{}, Outcome{}, ErrEvent
	}
	decision := Decide(rules, fields, facts, now)
	if decision.Refusal == FactsMissing {
		return Void{}, Outcome{}, ErrFacts
	}
	if !decision.Allowed() {
		return Void{}, Outcome{Result: ResultRefused, Refusal: decision.Refusal, Next: nextOf(&Void{}, ResultRefused, decision.Refusal, "")}, nil
	}
	limits := rules.of(fields.Merchant)
	v := Void{Fields: fields, At: now, ExpiresAt: now + limits.Life, Tries: limits.Tries, Methods: decision.Methods}
	return v.move(Created, ResultCreated, &Event{Kind: EventCreate, Request: request}, now)
}

// CreatedBy returns the outcome of the request that made the void, for a retry of it. The error is
// [ErrRequest] if the request was another, or for other fields.
func (v Void) CreatedBy(request string, fields voidtoken.Fields) (Outcome, error) {
	if len(v.Applied) == 0 || v.Applied[0].Kind != EventCreate || v.Applied[0].Request != request || v.Fields != fields {
		return Outcome{}, ErrRequest
	}
	return v.Applied[0].Outcome.clone(), nil
}

// Apply returns what becomes of a void at an event. A void that comes back with the same Version
// is unchanged. Errors are [ErrVoid], [ErrEvent], [ErrFacts] and [ErrRequest]; the void is then
// the one that was there.
func (v Void) Apply(e Event, rules *Rules) (Void, Outcome, error) {
	if !v.valid() {
		return v, Outcome{}, ErrVoid
	}
	if !e.valid() {
		return v, Outcome{}, ErrEvent
	}
	if i := slices.IndexFunc(v.Applied, func(a Applied) bool { return a.Request == e.Request }); i >= 0 {
		if !v.Applied[i].is(&e) {
			return v, Outcome{}, ErrRequest
		}
		return v, v.Applied[i].Outcome.clone(), nil
	}
	now := max(e.At, v.At)
	if v.State.Final() {
		return v.stay(ResultOver, &e)
	}
	if v.State != Authorized && now >= v.ExpiresAt {
		return v.move(Expired, ResultExpired, &e, now)
	}
	switch e.Kind {
	case EventScan:
		if v.State != Created {
			return v.stay(ResultCodeUsed, &e)
		}
		return v.move(Scanned, ResultScanned, &e, now)
	case EventApprove:
		return v.approve(&e, rules, now)
	case EventFail:
		return v.fail(&e, now)
	case EventConfirm, EventReject:
		switch {
		case v.State != Authorized:
			return v.stay(ResultNotAuthorized, &e)
		case e.Kind == EventConfirm:
			return v.move(Confirmed, ResultConfirmed, &e, now)
		}
		return v.move(Declined, ResultNotReversed, &e, now)
	case EventCancel:
		if v.State == Authorized {
			return v.stay(ResultTokenIsOut, &e)
		}
		return v.move(Cancelled, ResultCancelled, &e, now)
	case EventExpire:
		if v.State != Authorized || now < v.ConfirmBy {
			return v.stay(ResultNotDue, &e)
		}
		return v.move(Expired, ResultUnconfirmed, &e, now)
	}
	return v, Outcome{}, ErrEvent
}

func (v Void) approve(e *Event, rules *Rules, now int64) (Void, Outcome, error) {
	switch result := v.begun(e); {
	case result != "":
		return v.stay(result, e)
	case v.used(e.Method):
		return v.stay(ResultMethodUsed, e)
	case slices.ContainsFunc(v.Authorizations, func(a voidtoken.Authorization) bool { return a.Subject == e.Subject }):
		return v.stay(ResultSamePerson, e)
	}
	decision := Decide(rules, v.Fields, e.Facts, now) // again: the payment may have been settled meanwhile
	switch {
	case decision.Refusal == FactsMissing:
		return v, Outcome{}, ErrFacts
	case !decision.Allowed():
		return v.change(Declined, ResultRefused, decision.Refusal, e, now)
	}
	next := v
	next.Methods = decision.Methods
	if !next.fits(e.Method) {
		_, outcome, err := next.stay(ResultMethodNotAllowed, e)
		return v, outcome, err
	}
	next.Authorizations = append(slices.Clone(v.Authorizations), voidtoken.Authorization{Method: e.Method, Subject: e.Subject})
	order := voidtoken.Methods()
	slices.SortFunc(next.Authorizations, func(a, b voidtoken.Authorization) int {
		return slices.Index(order, a.Method) - slices.Index(order, b.Method)
	})
	if !next.complete() {
		return next.move(Scanned, ResultPartly, e, now)
	}
	next.ConfirmBy = now + rules.of(v.Fields.Merchant).Confirm
	return next.move(Authorized, ResultAuthorized, e, now)
}

func (v Void) fail(e *Event, now int64) (Void, Outcome, error) {
	switch result := v.begun(e); {
	case result != "":
		return v.stay(result, e)
	case v.used(e.Method):
		return v.stay(ResultMethodUsed, e)
	case !v.fits(e.Method):
		return v.stay(ResultMethodNotAllowed, e)
	}
	switch e.Failure {
	case Unavailable:
		return v.stay(ResultUnavailable, e)
	case Rejected:
		return v.move(Declined, ResultRejected, e, now)
	}
	v.Tries--
	if v.Tries > 0 {
		return v.move(v.State, ResultWrong, e, now)
	}
	return v.move(Declined, ResultTriesUsedUp, e, now)
}

// begun returns why the code does not allow a method now, empty if it does. A terminal burns the code
// before it asks for anybody's PIN; a phone burns it by the approval.
func (v Void) begun(e *Event) Result {
	switch {
	case v.State == Authorized:
		return ResultAlreadyAuthorized
	case e.Method.OnPhone() && v.State != Created:
		return ResultCodeUsed
	case !e.Method.OnPhone() && v.State == Created:
		return ResultNotScanned
	}
	return ""
}

// stay answers an event that changes nothing.
func (v Void) stay(result Result, e *Event) (Void, Outcome, error) {
	return v, Outcome{Result: result, State: v.State, Tries: v.Tries, Next: nextOf(&v, result, "", e.Method)}, nil
}

// move answers an event that changes the void.
func (v Void) move(to State, result Result, e *Event, now int64) (Void, Outcome, error) {
	return v.change(to, result, "", e, now)
}

// change returns the void in another state, with the event and its outcome.
func (v Void) change(to State, result Result, refusal Refusal, e *Event, now int64) (Void, Outcome, error) {
	v.State, v.At, v.Version = to, now, v.Version+1
	outcome := Outcome{Result: result, Refusal: refusal, State: to, Tries: v.Tries, Next: nextOf(&v, result, refusal, e.Method)}
	v.Applied = append(slices.Clone(v.Applied), Applied{Kind: e.Kind, Request: e.Request, Method: e.Method, Subject: e.Subject, Failure: e.Failure, Outcome: outcome.clone()})
	return v, outcome, nil
}

func (o Outcome) clone() Outcome {
	o.Next = slices.Clone(o.Next)
	return o
}

// valid reports whether a void is one that this package can have made.
func (v *Void) valid() bool {
	return (v.State.Live() || v.State.Final()) && v.Version > 0 && len(v.Applied) > 0 && v.Fields.Validate() == nil && v.Tries >= 0 &&
		validTime(v.At) && v.ExpiresAt > 0 && (v.State != Authorized || v.ConfirmBy > 0)
}
