package checkpoint

import (
	"errors"

	"golang.org/x/mod/sumdb/tlog"
)

// Hash is a hash of the tree (RFC 6962 §2.1).
type Hash = tlog.Hash

// Tree is the tree over the first entries of a log. The zero value is the one over none.
type Tree struct {
	Size uint64 // entries
	Root Hash
}

const (
	// MaxSize bounds a tree, in entries.
	MaxSize = 1 << 48
	// MaxProof bounds a proof, in hashes.
	MaxProof = 128
)

var (
	// ErrOlder says that a tree has fewer entries than the one that it is to follow.
	ErrOlder = errors.New("the log has fewer entries than it had")
	// ErrInconsistent says that a tree does not have the entries of the one that it is to
	// follow.
	ErrInconsistent = errors.New("the log does not have the entries that it had")
	// ErrProof says that an entry is not in a tree at its place.
	ErrProof = errors.New("the tree does not have this entry at this place")
)

// Valid reports whether a tree is one that a checkpoint can have: over an entry at least.
func (t Tree) Valid() bool { return t.Size > 0 && t.Size <= MaxSize }

// Follows checks that the tree has all entries of an earlier one, by the consistency proof
// (RFC 6962 §2.1.2) from that one to it. The proof is empty where the earlier tree is, and
// between equal trees. Errors are [ErrOlder] and [ErrInconsistent].
func (t Tree) Follows(earlier Tree, proof []Hash) error {
	switch {
	case t.Size < earlier.Size:
		return ErrOlder
	case len(proof) > MaxProof || !t.Valid():
		return ErrInconsistent
	case earlier.Size == 0 || t == earlier:
		if len(proof) > 0 {
			return ErrInconsistent
		}
		return nil
	case t.Size == earlier.Size:
		return ErrInconsistent
	}
	if tlog.CheckTree(proof, int64(t.Size), t.Root, int64(earlier.Size), earlier.Root) != nil {
		return ErrInconsistent
	}
	return nil
}

// Has checks that entry number seq, counted from 1, is this line (without its line feed), by
// the inclusion proof (RFC 6962 §2.1.1). The error is [ErrProof].
func (t Tree) Has(seq uint64, line []byte, proof []Hash) error {
	if !t.Valid() || seq == 0 || seq > t.Size || len(proof) > MaxProof ||
		tlog.CheckRecord(proof, int64(t.Size), t.Root, int64(seq-1), tlog.RecordHash(line)) != nil {
		return ErrProof
	}
	return nil
}
