// Package voids takes void requests from their creation to the switch's word that the payment was
// reversed: it asks the rules, has codes and tokens signed, and keeps what has happened.
//
// Rules. What becomes of a void at an event is decided by package voids/flow, in the transaction that
// keeps it. Every request that changes one has an identifier of the caller's, which counts for that
// caller alone: the same again gets the same answer and changes nothing, whichever front of one
// database is asked.
//
// A void token leaves when it is kept, and the void is AUTHORIZED with it, never before. Before a
// module is asked the void is asked whether the approval would count; then the tries of the PIN
// records are counted; then the module verifies and signs in one operation; then void and token are
// kept together. Where somebody else's approval came first, or the time was over, the token is
// forgotten: it never left. Where a front was lost between two of these steps, the same request begins
// again, at the cost of a try.
//
// A code is burnt in the transaction that takes its void to SCANNED. Why it is refused is said to
// whoever speaks for the merchant that it names; everybody else is told that it cannot be used.
//
// Whoever asks is allowed to: the policy was asked before, but for [Service.Authorize], which names
// keys. The rules about payments are the policy's as well; without them nothing may be voided.
//
// Only the front uses this package. No PIN and no key comes here in clear.
package voids
