package flow

import (
	"slices"

	"keyd/voidtoken"
)

// Result is what an event came to.
type Result string

// The results that change a void.
const (
	ResultCreated    Result = "CREATED"
	ResultScanned    Result = "SCANNED"
	ResultPartly     Result = "PARTLY_AUTHORIZED" // one method of several
	ResultAuthorized Result = "AUTHORIZED"
	ResultConfirmed  Result = "CONFIRMED"

	ResultWrong       Result = "NOT_VERIFIED"  // a try was used, there are others
	ResultTriesUsedUp Result = "TRIES_USED_UP" // DECLINED
	ResultRejected    Result = "REJECTED"      // DECLINED: somebody who was asked said no
	ResultRefused     Result = "REFUSED"       // by the rules: DECLINED, or never created; see Outcome.Refusal
	ResultNotReversed Result = "NOT_REVERSED"  // DECLINED: the switch did not reverse the payment
	ResultCancelled   Result = "CANCELLED"
	ResultExpired     Result = "EXPIRED"
	ResultUnconfirmed Result = "UNCONFIRMED" // EXPIRED after AUTHORIZED: the switch was silent
)

// The results that change nothing.
const (
	ResultUnavailable       Result = "UNAVAILABLE" // the method could not be carried out; no try was used
	ResultNotScanned        Result = "NOT_SCANNED"
	ResultCodeUsed          Result = "CODE_USED" // it was scanned before
	ResultMethodNotAllowed  Result = "METHOD_NOT_ALLOWED"
	ResultMethodUsed        Result = "METHOD_USED"
	ResultSamePerson        Result = "SAME_PERSON" // one person does not count twice
	ResultAlreadyAuthorized Result = "ALREADY_AUTHORIZED"
	ResultNotAuthorized     Result = "NOT_AUTHORIZED"
	ResultTokenIsOut        Result = "TOKEN_IS_OUT" // too late to cancel
	ResultNotDue            Result = "NOT_DUE"      // it does not expire yet
	ResultOver              Result = "OVER"         // it is in a final state
)

var results = []Result{
	ResultCreated, ResultScanned, ResultPartly, ResultAuthorized, ResultConfirmed, ResultWrong, ResultTriesUsedUp, ResultRejected, ResultRefused, ResultNotReversed, ResultCancelled, ResultExpired,
	ResultUnconfirmed, ResultUnavailable, ResultNotScanned, ResultCodeUsed, ResultMethodNotAllowed, ResultMethodUsed, ResultSamePerson, ResultAlreadyAuthorized, ResultNotAuthorized,
	ResultTokenIsOut, ResultNotDue, ResultOver,
}

// Results returns all results.
func Results() []Result { return slices.Clone(results) }

// Next is what a terminal may do next, so that the sale goes on.
type Next string

// What there is to do. There is nothing else.
const (
	Scan        Next = "SCAN"         // have the code scanned
	Authorize   Next = "AUTHORIZE"    // go on with a method that was not used yet
	TryAgain    Next = "TRY_AGAIN"    // the same once more
	OtherMethod Next = "OTHER_METHOD" // authorise the void in another way
	Reverse     Next = "REVERSE"      // send the token to the switch
	AskSwitch   Next = "ASK_SWITCH"   // find out whether the payment was reversed, before anything else
	NewVoid     Next = "NEW_VOID"     // begin a new request
	OtherMeans  Next = "OTHER_MEANS"  // leave the void; the sale goes on with other means of payment
	GoOn        Next = "GO_ON"        // the payment is reversed: go on with the sale
)

var nexts = []Next{Scan, Authorize, TryAgain, OtherMethod, Reverse, AskSwitch, NewVoid, OtherMeans, GoOn}

// Nexts returns all that there is to do.
func Nexts() []Next { return slices.Clone(nexts) }

// Outcome is the answer to an event.
type Outcome struct {
	Result  Result
	Refusal Refusal // with ResultRefused
	State   State   // after the event; empty if there is no void
	Tries   int     // left
	Next    []Next  // at least one, the best first
}

// nextOf says what a terminal may do after a result. used is the method of the event, if it had
// one.
func nextOf(v *Void, result Result, refusal Refusal, used voidtoken.Method) []Next {
	switch result {
	case ResultPartly:
		return []Next{Authorize, OtherMeans}
	case ResultWrong, ResultUnavailable:
		if v.another(used) {
			return []Next{TryAgain, OtherMethod, OtherMeans}
		}
		return []Next{TryAgain, OtherMeans}
	case ResultMethodNotAllowed, ResultMethodUsed, ResultSamePerson:
		if v.another(used) {
			return []Next{OtherMethod, OtherMeans}
		}
		return []Next{OtherMeans}
	case ResultRefused:
		switch {
		case refusal == AlreadyVoided:
			return []Next{GoOn}
		case refusal == AnotherVoid && v.State == "": // the other will be over
			return []Next{TryAgain, OtherMeans}
		}
		return []Next{OtherMeans}
	case ResultTokenIsOut:
		return []Next{Reverse, AskSwitch}
	}
	switch v.State {
	case Created:
		return []Next{Scan, OtherMeans}
	case Scanned:
		return []Next{Authorize, OtherMeans}
	case Authorized:
		return []Next{Reverse}
	case Confirmed:
		return []Next{GoOn}
	case Expired:
		if v.ConfirmBy != 0 {
			return []Next{AskSwitch}
		}
		return []Next{NewVoid, OtherMeans}
	case Cancelled:
		return []Next{NewVoid, OtherMeans}
	}
	return []Next{OtherMeans}
}

// another reports whether the void can be authorised by a method that was neither used yet nor is
// this one. Of a code that is burnt a phone has no use.
func (v *Void) another(method voidtoken.Method) bool {
	for _, m := range voidtoken.Methods() {
		if m != method && !v.used(m) && v.fits(m) && (v.State == Created || !m.OnPhone()) {
			return true
		}
	}
	return false
}

// used reports whether somebody has authorised the void by a method.
func (v *Void) used(method voidtoken.Method) bool {
	return slices.ContainsFunc(v.Authorizations, func(a voidtoken.Authorization) bool { return a.Method == method })
}

// fits reports whether some set that suffices has a method together with those that were used.
func (v *Void) fits(method voidtoken.Method) bool {
	return slices.ContainsFunc(v.Methods, func(set []voidtoken.Method) bool {
		return slices.Contains(set, method) && !slices.ContainsFunc(v.Authorizations, func(a voidtoken.Authorization) bool { return !slices.Contains(set, a.Method) })
	})
}

// complete reports whether the methods that were used are a set that suffices.
func (v *Void) complete() bool {
	return slices.ContainsFunc(v.Methods, func(set []voidtoken.Method) bool {
		return len(set) == len(v.Authorizations) && !slices.ContainsFunc(set, func(m voidtoken.Method) bool { return !v.used(m) })
	})
}
