package store

import (
	"context"
	"fmt"
	"math"
)

// Limits of epochs.
const (
	MaxEpoch = 1 << 20 // bytes of a sealed epoch
	MaxLink  = 256     // bytes of a link
)

// Epoch is a sealed document that a module made, and its version. The document is opaque.
type Epoch struct {
	Version uint64 // from 1 to the largest int64
	Sealed  []byte // 1 to MaxEpoch bytes
}

// Proposal is the epoch that is to follow the current one.
type Proposal struct {
	Epoch

	Node   string // that proposed it, as CeremonyRecord.Node
	Change Change
}

// EpochLink is what is kept for ever of an epoch that came into force.
type EpochLink struct {
	Version uint64 // as Epoch.Version
	Link    []byte // at most MaxLink bytes, opaque
}

// Epochs keeps the epoch that is in force and, for a while, the one that is to follow it
// together with what changes when it does.
//
// The token is told of an epoch between ProposeEpoch and AdvanceEpoch. A process that died
// between the two is followed by another, which finds the proposal, asks the token which
// epoch it knows, and then advances or withdraws. So that it can always advance, whatever
// the change needs is held from the proposal on: no alias takes the name of one of its
// keys, and its ceremony is not updated.
//
// Its methods may be called concurrently, and by several processes; see [Keys] about errors.
type Epochs interface {
	// AdoptEpoch makes an epoch the current one of a database that has none. Nothing
	// happens when that very epoch is current; [ErrConflict] when another one is.
	// [ErrInvalid] for a version or a document outside the limits.
	AdoptEpoch(ctx context.Context, version uint64, sealed []byte) error

	// CurrentEpoch returns the epoch in force. [ErrNotFound] when there is none. The
	// caller owns the result.
	CurrentEpoch(ctx context.Context) (Epoch, error)

	// ProposeEpoch keeps the epoch that is to follow the current one, with its change and
	// the node that proposes it.
	// [ErrConflict] when there is a proposal already, when the version is not the
	// current one's successor, and when the change's ceremony has another revision;
	// [ErrNotFound] when there is no such ceremony; [ErrExists] when a key of the
	// change has the name of an alias; [ErrInvalid] outside the limits.
	ProposeEpoch(ctx context.Context, node string, version uint64, sealed []byte, change Change) error

	// ProposedEpoch returns the proposal with its change. [ErrNotFound] when there is
	// none. The caller owns the result.
	ProposedEpoch(ctx context.Context) (Proposal, error)

	// AdvanceEpoch carries out the change of the proposal with that version, makes it
	// the current epoch, keeps its link, clears the mark of [Backups.Restored] and removes
	// the epoch before, all in one transaction. Nothing happens when that version is
	// current: its link stays. [ErrNotFound] when there is no proposal, [ErrConflict] when
	// it, or the current epoch of that version, has another version or another document than
	// sealed (any where that is nil), [ErrInvalid] for a link of more than [MaxLink] bytes.
	AdvanceEpoch(ctx context.Context, version uint64, sealed, link []byte) error

	// EpochLinks returns the links of the versions after the given one, in their order, at
	// most limit (1 to [MaxList], otherwise [ErrInvalid]). Fewer are the last.
	EpochLinks(ctx context.Context, after uint64, limit int) ([]EpochLink, error)

	// WithdrawEpoch removes the proposal with that version and document (any where sealed is
	// nil), and changes nothing else.
	// Errors are those of AdvanceEpoch; it is ErrNotFound when the version is current
	// and nothing is proposed.
	WithdrawEpoch(ctx context.Context, version uint64, sealed []byte) error

	// PurgeDeleted is [Keys.Purge] while the epoch with that version is current: otherwise
	// [ErrConflict], since a later one may have called a deletion off.
	PurgeDeleted(ctx context.Context, version uint64, versions ...KeyVersion) error
}

// Validate returns [ErrInvalid] for an epoch outside the limits; see [KeyRecord.Validate].
func (e *Epoch) Validate() error {
	switch {
	case !validNumber(e.Version):
		return fmt.Errorf("%w: the version of an epoch is not within 1 and %d", ErrInvalid, int64(math.MaxInt64))
	case len(e.Sealed) == 0 || len(e.Sealed) > MaxEpoch:
		return fmt.Errorf("%w: a sealed epoch has 1 to %d bytes", ErrInvalid, MaxEpoch)
	}
	return nil
}

// Validate returns [ErrInvalid] for a proposal outside the limits, but for the size of its
// change; see [KeyRecord.Validate].
func (p *Proposal) Validate() error {
	if p.Node != "" && !validNode(p.Node) {
		return fmt.Errorf("%w: a node has at most %d printable ASCII characters without spaces", ErrInvalid, MaxNode)
	}
	if err := p.Epoch.Validate(); err != nil {
		return err
	}
	return p.Change.Validate()
}

// Validate returns [ErrInvalid] for a link outside the limits; see [KeyRecord.Validate].
func (l *EpochLink) Validate() error {
	switch {
	case !validNumber(l.Version):
		return fmt.Errorf("%w: the version of an epoch is not within 1 and %d", ErrInvalid, int64(math.MaxInt64))
	case len(l.Link) > MaxLink:
		return fmt.Errorf("%w: the link of an epoch has at most %d bytes", ErrInvalid, MaxLink)
	}
	return nil
}
