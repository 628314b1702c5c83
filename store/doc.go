// Package store keeps what the front must not forget: the sealed keys of the inventory
// with their aliases, tags and usage; the counters of key serial numbers; ceremonies, and
// the epochs that begin with them; the terminals; the PIN records. It is for the front and for the commands that provision
// it; a module has no store.
//
// Rules:
//   - What is kept is opaque here. A sealed key is ciphertext with its own MAC, which
//     only a module checks: the store can lose or withhold a key, but not forge one.
//   - A write is one transaction, and durable before the call returns. A write that
//     fails has changed nothing; but where the server was lost ([ErrUnreachable]) or the
//     context ended, it may have happened.
//   - Who changes what another may change too says what was there ([ErrConflict]): the
//     comparison and the change are one transaction.
//   - Every failure wraps one of the package's errors, whose text says what the
//     operator can do about it; no error holds what is stored.
//
// Units: times are kept in UTC to the microsecond (PostgreSQL's resolution, so that
// every implementation gives the same back); names are ordered by their bytes.
//
// [OpenSQLite] is for one machine, [OpenPostgres] for several fronts that share a database
// server. Every implementation passes the suite in store/storetest. What they have in common
// is written once, in SQL that both understand.
package store
