// Package audit keeps the log of decisions: one entry for everything that was allowed, denied
// or failed, in a hash chain and a Merkle tree, on stable storage before the caller reads the
// answer.
//
// The log is a file of lines. Each is one JSON object in one fixed encoding:
//
//	{"v":1,"seq":7,"time":"2026-01-02T03:04:05.678901234Z", … ,"prev":"…","hash":"…"}
//
// seq counts from 1. prev is the hash of the line before, 64 zeros in the first line.
// hash is SHA-256, as 64 lower-case hex digits, over the line's bytes in front of
// ,"hash": and so over prev, the entry and its number. Fields that are empty are left
// out. Printable ASCII and the ellipsis that marks what was left out (U+2026) stand
// for themselves, everything else is escaped, so that one entry has one encoding and
// a line cannot be changed without its hash.
//
// What the chain proves: a changed, removed, inserted or reordered line is found by
// [Verify]. What it does not: lines cut off at the end, or a chain written anew by
// someone who may write the file, show only against a head (sequence number and hash)
// that was noted elsewhere.
//
// What an entry may hold is limited by its types: of a PAN the last four digits, a
// KSN of its two sizes, check values, and no PIN block, PIN or key. Times are UTC,
// RFC 3339 with up to nanoseconds, as the front's clock gave them.
//
// The package belongs to the front. One process writes a log; everybody who may read
// the file may verify it, also while it is written.
package audit
