package store

import (
	"bytes"
	"context"
	"fmt"
)

// Backups hands out what a backup holds, and takes it back. Receipt keys are secrets of some
// minutes and nodes are of the moment: neither is in a backup, and so a retry of a request
// from before it is refused.
type Backups interface {
	// Export calls each for everything that a backup holds, of one moment and in a fixed
	// order, so that equal databases make equal backups: keys by name and version, aliases
	// by name, tags by key and tag, usage by name and version, ceremonies by ID, the
	// current epoch, the proposal, links by version, terminals by identifier, their events
	// by identifier and number, key hosts by name, key sets by name and version, revocation
	// lists by issuer's key, injections by terminal and number, initial keys by base
	// derivation key and identifier, counters of ranges by what identifies them, terminals' keys
	// likewise, PIN records by subject, their events by subject and number, voids by
	// identifier, counters by sequence, journal rows by number. An item is only lent. An error of each ends it and is returned as it is.
	Export(ctx context.Context, each func(Item) error) error

	// Import takes what Export handed out, in its order, into an empty database, in one
	// transaction: all or nothing. next returns the items and then io.EOF; any other error
	// of it ends the import and is returned as it is. It also sets the mark of Restored.
	// [ErrConflict] when the database is not empty; [ErrInvalid] for an item that is
	// outside the limits, out of order, or does not fit the others.
	Import(ctx context.Context, next func() (Item, error)) error

	// Restored returns whether an import was the last to say which epoch is current: the
	// officers have to accept it first. [Epochs.AdvanceEpoch] clears it.
	Restored(ctx context.Context) (bool, error)
}

// Item is one thing that a backup holds: exactly one of the fields is set.
type Item struct {
	Key      *KeyRecord
	Alias    *Alias
	Tag      *Tag
	Usage    *Usage
	Ceremony *CeremonyRecord
	Epoch    *Epoch // the current one
	Proposal *Proposal
	Link     *EpochLink
	Terminal *TerminalRecord
	Event    *TerminalEvent

	KeyHost        *KeyHost
	KeySet         *KeySet
	RevocationList *RevocationList
	Injection      *Injection
	InitialKey     *InitialKey
	Range          *RangeCounter
	TerminalKey    *TerminalKey

	PINRecord *PINRecord
	PINEvent  *PINEvent

	Void *VoidRecord

	Counter *Counter
	Row     *JournalRow
}

// Tag is a tag of a key; see [Tags].
type Tag struct {
	Key   string
	Tag   string
	Value string
}

// Validate returns [ErrInvalid] for an item outside the limits; see [KeyRecord.Validate].
func (i Item) Validate() error {
	_, err := i.kind()
	return err
}

// Precedes reports whether an item comes before another in the order of [Backups.Export]. Both
// are valid.
func (i *Item) Precedes(next *Item) bool {
	kind, err := i.kind()
	after, err2 := next.kind()
	if err != nil || err2 != nil || kind != after {
		return err == nil && err2 == nil && kind < after
	}
	return bytes.Compare(i.place(), next.place()) < 0
}

// kind returns the place of an item's kind in the order.
func (i Item) kind() (kind int, err error) {
	set := 0
	take := func(at int, validate func() error) {
		set++
		if kind = at; err == nil {
			err = validate()
		}
	}
	if i.Key != nil {
		take(itemKey, i.Key.Validate)
	}
	if i.Alias != nil {
		take(itemAlias, i.Alias.Validate)
	}
	if t := i.Tag; t != nil {
		take(itemTag, func() error {
			if !validName(t.Key) {
				return fmt.Errorf("%w: a tag is of a key, whose name has 1 to %d printable ASCII characters without spaces", ErrInvalid, MaxName)
			}
			return validTag(t.Tag, t.Value)
		})
	}
	if i.Usage != nil {
		take(itemUsage, i.Usage.Validate)
	}
	if i.Ceremony != nil {
		take(itemCeremony, i.Ceremony.Validate)
	}
	if i.Epoch != nil {
		take(itemEpoch, i.Epoch.Validate)
	}
	if i.Proposal != nil {
		take(itemProposal, i.Proposal.Validate)
	}
	if i.Link != nil {
		take(itemLink, i.Link.Validate)
	}
	if i.Terminal != nil {
		take(itemTerminal, i.Terminal.Validate)
	}
	if i.Event != nil {
		take(itemEvent, i.Event.Validate)
	}
	if i.KeyHost != nil {
		take(itemKeyHost, i.KeyHost.Validate)
	}
	if i.KeySet != nil {
		take(itemKeySet, i.KeySet.Validate)
	}
	if i.RevocationList != nil {
		take(itemRevocationList, i.RevocationList.Validate)
	}
	if i.Injection != nil {
		take(itemInjection, i.Injection.Validate)
	}
	if i.InitialKey != nil {
		take(itemInitialKey, i.InitialKey.Validate)
	}
	if i.Range != nil {
		take(itemRange, i.Range.Validate)
	}
	if i.TerminalKey != nil {
		take(itemTerminalKey, i.TerminalKey.Validate)
	}
	if i.PINRecord != nil {
		take(itemPINRecord, i.PINRecord.Validate)
	}
	if i.PINEvent != nil {
		take(itemPINEvent, i.PINEvent.Validate)
	}
	if i.Void != nil {
		take(itemVoid, i.Void.Validate)
	}
	if i.Counter != nil {
		take(itemCounter, i.Counter.Validate)
	}
	if r := i.Row; r != nil {
		take(itemRow, func() error { return ValidateBatch(r.Number, r.Batch) })
	}
	if set != 1 {
		return 0, fmt.Errorf("%w: an item of a backup is one thing", ErrInvalid)
	}
	return kind, err
}

// The kinds in their order.
const (
	itemKey = iota
	itemAlias
	itemTag
	itemUsage
	itemCeremony
	itemEpoch
	itemProposal
	itemLink
	itemTerminal
	itemEvent
	itemKeyHost
	itemKeySet
	itemRevocationList
	itemInjection
	itemInitialKey
	itemRange
	itemTerminalKey
	itemPINRecord
	itemPINEvent
	itemVoid
	itemCounter
	itemRow
)
