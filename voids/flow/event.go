package flow

import (
	"errors"

	"keyd/voidtoken"
)

// Errors of events. Nothing has changed after any of them.
var (
	ErrEvent   = errors.New("malformed event of a void")
	ErrFacts   = errors.New("the facts of the payment are not all there: look them up and decide again")
	ErrRequest = errors.New("the request identifier was used for another event of the void: take a new one")
	ErrVoid    = errors.New("the void is not one that was stored by keyd")
)

// Kind is what happens to a void.
type Kind string

// The kinds.
const (
	EventCreate  Kind = "CREATE"  // see [New]
	EventScan    Kind = "SCAN"    // the code was burnt
	EventApprove Kind = "APPROVE" // the module has verified a method; see the package comment
	EventFail    Kind = "FAIL"    // a method was tried, and failed
	EventConfirm Kind = "CONFIRM" // the switch has reversed the payment
	EventReject  Kind = "REJECT"  // the switch has not reversed it, and will not
	EventCancel  Kind = "CANCEL"  // the clerk or the merchant gives up
	EventExpire  Kind = "EXPIRE"  // the time is looked at
)

// Failure is how a method failed.
type Failure string

// The failures. A PIN that is wrong and one that cannot be right (unknown, blocked, revoked) are
// one failure: a terminal is not told which.
const (
	NotVerified Failure = "NOT_VERIFIED" // costs a try
	Rejected    Failure = "REJECTED"     // a person who was asked said no: the void is declined
	Unavailable Failure = "UNAVAILABLE"  // it could not be carried out: costs nothing
)

// Event is something that happens to a void.
type Event struct {
	Kind    Kind
	Request string           // its identifier, see [voidtoken.ValidName]: the same for each retry
	At      int64            // Unix seconds
	Method  voidtoken.Method // of EventApprove and EventFail
	Subject string           // of EventApprove: who, see [voidtoken.ValidSubject]
	Failure Failure          // of EventFail
	Facts   Facts            // of EventApprove, looked up anew
}

func (e *Event) valid() bool {
	if !voidtoken.ValidName(e.Request) || !validTime(e.At) {
		return false
	}
	switch e.Kind {
	case EventApprove:
		return e.Method.Valid() && voidtoken.ValidSubject(e.Subject) && e.Failure == ""
	case EventFail:
		return e.Method.Valid() && e.Subject == "" && (e.Failure == NotVerified || e.Failure == Rejected || e.Failure == Unavailable)
	case EventScan, EventConfirm, EventReject, EventCancel, EventExpire:
		return e.Method == "" && e.Subject == "" && e.Failure == ""
	}
	return false
}

// Applied is an event that has changed a void, with its outcome. Time and facts are no part of
// it: a retry comes later.
type Applied struct {
	Kind    Kind
	Request string
	Method  voidtoken.Method
	Subject string
	Failure Failure
	Outcome Outcome
}

func (a *Applied) is(e *Event) bool {
	return a.Kind == e.Kind && a.Method == e.Method && a.Subject == e.Subject && a.Failure == e.Failure
}
