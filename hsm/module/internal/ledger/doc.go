// Package ledger remembers for good which device an initial key belongs to, so that no second
// one ever gets it (X9.24-1:2009 7.2 and X9.24-3:2017 6.3 want an initial key ID used once for a
// base derivation key). An entry is on the disk before the key leaves. The same device may have
// it again: its answer may have been lost.
//
// It remembers likewise with which choice of keys a terminal's request was answered, so that a
// request which somebody has kept never gets others.
//
// It remembers likewise which versions of PIN records were begun, by what, and which record each
// is (versions.go): what a front keeps of them cannot go back.
//
// The modules of a host share one file, which the front never gets. The supervisor makes it
// ([Create]) and hands its descriptor to each.
//
// # Layout
//
// A head of 128 bytes, then entries of 64 bytes, never changed and never removed. Each has a
// checksum (CRC-32C) over what it says and its place. What is written together is a batch, and
// each of its entries names the place where the batch begins: after a loss of power only the
// last batch can be incomplete, of which nothing was answered. It is removed. The head says how
// many entries count for good, so that one of them that is not whole is damage, also in the last
// batch, and so is a file that was cut. Then nothing is allotted until somebody looks at it.
//
// Whoever finds entries that the head does not have yet writes them again, so that they are on
// the disk, and has the head say so, before it answers by them or appends behind them.
//
// A process keeps 16 bytes of memory for an entry, and reads the entries that another process
// has added when it takes the lock.
package ledger
