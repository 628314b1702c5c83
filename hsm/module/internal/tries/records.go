package tries

import (
	"crypto/sha256"

	"keyd/hsm/module/internal/velocity"
)

// Record counts a try of the PIN of a PIN record's subject, which is named by its digest, and
// reports whether it is within the limits of verifications. It counts for the subject, whichever
// version is tried.
func (t *Tries) Record(subject [sha256.Size]byte) bool { return t.ofSubject("record", subject) }

// Code counts a try of a code with which a subject may set its PIN, likewise.
func (t *Tries) Code(subject [sha256.Size]byte) bool { return t.ofSubject("code", subject) }

// ResetRecord gives a subject its tries back, and reports whether it could.
func (t *Tries) ResetRecord(subject [sha256.Size]byte) bool { return t.reset("record", subject) }

// ResetCode gives a subject the tries of its code back, likewise.
func (t *Tries) ResetCode(subject [sha256.Size]byte) bool { return t.reset("code", subject) }

func (t *Tries) reset(what string, subject [sha256.Size]byte) bool {
	return t == nil || t.table.Reset(velocity.Verification, append([]byte(what), subject[:]...))
}

// ofSubject counts for what no account is: those begin with a fingerprint in upper-case hex.
func (t *Tries) ofSubject(what string, subject [sha256.Size]byte) bool {
	var room [maxSubject]byte
	return t == nil || t.table.Count(velocity.Verification, append(append(room[:0], what...), subject[:]...))
}
