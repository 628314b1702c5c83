// Package flow is the life of a void request as a pure function: what happens to it at an event,
// whether it may be authorised by given facts, and what the terminal may do next.
//
//	CREATED ──scan──▶ SCANNED ──approve──▶ AUTHORIZED ──confirm──▶ CONFIRMED
//
//	from        to         when
//	CREATED     AUTHORIZED somebody approves on a phone, which burns the code
//	CREATED     DECLINED   likewise as from SCANNED, by what is tried on a phone
//	CREATED     EXPIRED    it was not authorised in time
//	CREATED     CANCELLED  somebody gives up
//	SCANNED     EXPIRED    likewise
//	SCANNED     CANCELLED  likewise
//	SCANNED     DECLINED   the tries are used up, somebody said no, or the rules do at the approval
//	AUTHORIZED  DECLINED   the switch has not reversed the payment, and will not
//	AUTHORIZED  EXPIRED    the switch was silent
//
// CONFIRMED, DECLINED, EXPIRED and CANCELLED are left by nothing.
//
// It has no store, no network and no clock: [New] and [Void.Apply] take a void and an event and
// return another void, and the caller stores that in the transaction in which it read the first
// one and the facts, comparing [Void.Version]. Of two fronts that apply events to one void at
// once, one has its transaction refused, reads again and applies again. Times are Unix seconds.
//
// # Every event has a request identifier
//
// An event that changed a void is kept with its outcome. The same event with the same identifier
// gets that outcome again and changes nothing; another event with it is [ErrRequest]. What was
// refused and changed nothing is not kept, and is looked at anew.
//
// # Around an approval
//
// An approval is verified by the module, which signs the void token in the same call. Ask
// [Void.Apply] first whether the approval would count, then the module, then apply and store. A
// token leaves only when the void is stored as AUTHORIZED with the request that made it so.
//
// A token is checked by the switch without asking keyd, so nobody can take it back: AUTHORIZED
// is never cancelled. If the switch says nothing until [Void.ConfirmBy], the void can expire; then
// the payment may have been reversed all the same, and [AskSwitch] is what comes next. ConfirmBy
// therefore lies behind the expiry of the token.
//
// # Time
//
// A void's clock only goes forwards: an event with an earlier time counts as of the last change. A
// request that was not authorised by [Void.ExpiresAt] is EXPIRED at the next event, whatever that is.
package flow
