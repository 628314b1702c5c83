// Package pinrecords keeps PIN records inside the boundary: it begins them as two approvers want,
// sets, compares and changes PINs, and signs void tokens for PINs that are right.
//
// Rules, all of them decided here whatever the front says. A record is genuine by the modules' MAC,
// and dead once the ledger has the next version begun. Approvals are by two different people whose
// certificates end at an authority that officers believe for approvers. PINs come under keys for PIN
// records and no others, and are compared with their record alone. A try is counted before anything
// is compared. A void token is signed in the operation that has compared the PINs, and the terminal's
// MAC binds each of them to this void.
//
// What is clear, PIN, code and what their datum is made of, is in the locked memory of the session,
// which is wiped; the datum is made by the token. It is compared in constant time. No answer has a
// PIN or a code in clear; a new PIN that is refused says so only to who had the code, or the PIN
// before.
//
// Only hsm/module uses it.
package pinrecords
