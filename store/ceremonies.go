package store

import (
	"context"
	"fmt"
	"math"
	"time"
)

// Limits of what [Ceremonies] keeps.
const (
	CeremonyIDSize    = 32        // lower-case hex digits of a ceremony's ID
	MaxKind           = 32        // bytes of a kind
	MaxNode           = 64        // bytes of a node's name
	MaxSubject        = 256       // bytes of a subject
	MaxPapers         = 256 << 10 // bytes of papers
	MaxCeremonyRecord = 512 << 10 // bytes of a record
	MaxCeremonyList   = 100       // ceremonies of one [Ceremonies.Ceremonies], each with all that is kept of it
)

// CeremonyState says how far a ceremony has come.
type CeremonyState string

// The states of a ceremony.
const (
	CeremonyOpen      CeremonyState = "OPEN"
	CeremonyCompleted CeremonyState = "COMPLETED"
	CeremonyAborted   CeremonyState = "ABORTED"
	CeremonyExpired   CeremonyState = "EXPIRED"
)

// CeremonyRecord is what is kept of a ceremony.
type CeremonyRecord struct {
	ID        string        // CeremonyIDSize lower-case hex digits
	Kind      string        // 1 to MaxKind bytes of printable ASCII
	Node      string        // at most MaxNode bytes of printable ASCII without spaces; "" for none
	Subject   string        // at most MaxSubject bytes of printable ASCII: for lists
	State     CeremonyState //
	Revision  uint64        // how often it was updated: 0 when it is added
	Papers    []byte        // at most MaxPapers bytes, opaque
	Record    []byte        // at most MaxCeremonyRecord bytes, opaque; empty unless it is completed
	OpenedAt  time.Time     // as KeyRecord.CreatedAt
	ExpiresAt time.Time     // likewise
}

// Ceremonies keeps the papers of ceremonies. Its methods may be called concurrently; see
// [Keys] about errors.
type Ceremonies interface {
	// AddCeremony adds a ceremony. [ErrExists] when the ID is taken, [ErrInvalid] when
	// it is outside the limits or its revision is not 0.
	AddCeremony(ctx context.Context, r CeremonyRecord) error

	// UpdateCeremony keeps r in the place of the ceremony with its ID, under the next
	// revision. r.Revision is the one that was read: [ErrConflict] when another is
	// stored, so that of two who read the same one succeeds. It is also ErrConflict
	// while the ceremony is part of a proposed epoch, which has to be able to take
	// effect, and when kind, node or opening time differ, which never change. [ErrNotFound]
	// when there is none with that ID, [ErrInvalid] outside the limits.
	UpdateCeremony(ctx context.Context, r CeremonyRecord) error

	// Ceremony returns the ceremony with that ID. [ErrNotFound] when there is none.
	// The caller owns the result.
	Ceremony(ctx context.Context, id string) (CeremonyRecord, error)

	// Ceremonies returns the ceremonies in a state, "" for all, by opening time and
	// then ID, the newest first, at most limit (1 to [MaxCeremonyList], otherwise
	// [ErrInvalid]). They come before the ceremony with that opening time and ID; a
	// zero time begins with the newest. Fewer than limit are the last.
	Ceremonies(ctx context.Context, state CeremonyState, before time.Time, beforeID string, limit int) ([]CeremonyRecord, error)
}

// Validate returns [ErrInvalid] for a ceremony outside the limits; see
// [KeyRecord.Validate].
func (r *CeremonyRecord) Validate() error {
	switch {
	case !validCeremonyID(r.ID):
		return fmt.Errorf("%w: the ID of a ceremony has %d lower-case hex digits", ErrInvalid, CeremonyIDSize)
	case r.Kind == "" || len(r.Kind) > MaxKind || !printableASCII(r.Kind):
		return fmt.Errorf("%w: ceremony %s: a kind has 1 to %d printable ASCII characters", ErrInvalid, r.ID, MaxKind)
	case r.Node != "" && !validNode(r.Node):
		return fmt.Errorf("%w: ceremony %s: a node has at most %d printable ASCII characters without spaces", ErrInvalid, r.ID, MaxNode)
	case len(r.Subject) > MaxSubject || !printableASCII(r.Subject):
		return fmt.Errorf("%w: ceremony %s: a subject has at most %d printable ASCII characters", ErrInvalid, r.ID, MaxSubject)
	case !r.State.valid():
		return fmt.Errorf("%w: ceremony %s: the state is none of a ceremony", ErrInvalid, r.ID)
	case r.Revision >= math.MaxInt64:
		return fmt.Errorf("%w: ceremony %s: the revision is too large", ErrInvalid, r.ID)
	case len(r.Papers) > MaxPapers:
		return fmt.Errorf("%w: ceremony %s: papers have at most %d bytes", ErrInvalid, r.ID, MaxPapers)
	case len(r.Record) > MaxCeremonyRecord:
		return fmt.Errorf("%w: ceremony %s: a record has at most %d bytes", ErrInvalid, r.ID, MaxCeremonyRecord)
	case len(r.Record) > 0 && r.State != CeremonyCompleted:
		return fmt.Errorf("%w: ceremony %s: only a completed one has a record", ErrInvalid, r.ID)
	case !validTime(r.OpenedAt) || !validTime(r.ExpiresAt):
		return fmt.Errorf("%w: ceremony %s: a time is not within the years 1970 to 9999", ErrInvalid, r.ID)
	}
	return nil
}

func (s CeremonyState) valid() bool {
	return s == CeremonyOpen || s == CeremonyCompleted || s == CeremonyAborted || s == CeremonyExpired
}

func validCeremonyID(id string) bool {
	for i := range len(id) {
		if c := id[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(id) == CeremonyIDSize
}

func printableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
