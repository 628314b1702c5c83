// Package records keeps PIN records: it begins them as two approvers want, has their subjects set and
// change PINs, compares, gives tries back, and ends them.
//
// Rules. A try is counted in the database, durably, before a module is asked to compare; it is given
// back only where the PIN was right or nothing was compared. So neither a crash nor calls at the
// same moment, on whichever fronts of one database, give a try for nothing. With a RESET or a
// revocation the database has the PIN dead before a module is asked to have it dead too.
//
// What is wrong with a PIN is not said: a subject that has none, is blocked or was revoked, and a PIN
// whose time is over, are answered like a wrong PIN, by as many calls of modules and as many writes
// to the database. The module is then given a record that no module has sealed ([Service.Attempt]).
//
// No PIN and no code comes here in clear. Which PIN is good, who may approve and which version lives
// is decided in the module once more, whatever is decided here.
//
// Whoever asks is allowed to, where the request names no key: the policy was asked before. Where it
// does, the policy is asked here, as in package pinsvc. Errors are refusals of package fault, or the
// context's own. Only the front uses this package.
package records
