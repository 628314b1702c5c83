package store

import (
	"context"
	"fmt"
	"math"
	"time"
)

// Limits of what [Counters] keeps.
const (
	MaxBatch       = 1 << 20 // bytes of one row of the journal
	MaxSequence    = 64      // bytes of a sequence's name
	MaxReceipt     = 256     // bytes of a receipt
	MaxFold        = 1000    // counters of one [Counters.Fold]
	MaxReceiptKeys = 1000    // receipt keys that are kept at once
	ReceiptKeySize = 32      // bytes of a receipt key
)

// Counter is the last accepted counter of a sequence.
type Counter struct {
	Sequence   []byte    // 1 to MaxSequence bytes, opaque
	Counter    uint32    // only ever rises
	Receipt    []byte    // at most MaxReceipt bytes, opaque
	AcceptedAt time.Time // years 1970 to 9999; kept in UTC, cut to the microsecond
}

// ReceiptKey is a secret: whoever has it and the request can read the request's
// receipt.
type ReceiptKey struct {
	ID        uint64 // from 1 to the largest int64
	Key       [ReceiptKeySize]byte
	CreatedAt time.Time // as Counter.AcceptedAt
}

// Counters keeps counters that only rise, in two places: a journal, whose rows are
// written one after the other and hold a batch of many changes each, and the state of
// each sequence, into which the journal is folded from time to time. What a batch says
// is opaque here, so the caller folds.
//
// Its methods may be called concurrently, and by several processes on one database.
// An error wraps one of the package's errors or, when the context ends first, the
// context's: then, as after every error but [ErrConflict] and [ErrInvalid], a write
// may have happened.
type Counters interface {
	// ExtendJournal adds the next row to the journal, durably. Each is called for every row
	// after the one with the number known, whose batch ends with ending ([JournalEnding]
	// bytes; nil where that does not matter), in their order; the batch is only lent. Then
	// next is called with the number that the new row will have, and returns its batch, or
	// nil to add none. Nobody can add a row between the last one that each was given and
	// the one that next made: where somebody had, next is called again after each was, and
	// what it returned before is dropped. An error of either is returned as it is, and
	// nothing is added. Neither may call the store's writing methods.
	//
	// [ErrTrimmed] when rows after known are gone that others wrote: what they said was
	// folded, so the whole journal is read again. [ErrRolledBack] when the newest row is
	// older than known, or the row known ends otherwise. [ErrInvalid] for a number above the largest int64, and for a batch
	// that is empty or has more than [MaxBatch] bytes.
	ExtendJournal(ctx context.Context, known uint64, ending []byte, each func(number uint64, batch []byte) error, next func(number uint64) (batch []byte, err error)) error

	// ReadJournal calls each for every row, in the order of their numbers and as of
	// one moment. The batch is only lent. An error of each ends the reading and is
	// returned as it is.
	ReadJournal(ctx context.Context, each func(number uint64, batch []byte) error) error

	// TrimJournal deletes the rows up to that number, but never the newest one.
	TrimJournal(ctx context.Context, through uint64) error

	// Fold sets the counters, at most [MaxFold] and each sequence once (otherwise
	// [ErrInvalid]), in one transaction: all or none. One that is kept with a higher
	// counter stays as it is, and so does one with the same counter and receipt, so that
	// several may fold the same journal.
	Fold(ctx context.Context, counters ...Counter) error

	// Counter returns the state of a sequence as far as it was folded.
	// [ErrNotFound] when there is none. The caller owns the result.
	Counter(ctx context.Context, sequence []byte) (Counter, error)

	// AddReceiptKey keeps a receipt key durably. [ErrExists] when the ID is taken,
	// [ErrInvalid] for an ID or a time outside the limits.
	AddReceiptKey(ctx context.Context, key ReceiptKey) error

	// ReceiptKeys returns the receipt keys by ascending ID, at most
	// [MaxReceiptKeys].
	ReceiptKeys(ctx context.Context) ([]ReceiptKey, error)

	// DeleteReceiptKeys deletes receipt keys, those that are not there included, and
	// overwrites what the database's files held of them, as far as the database does
	// that: SQLite does, and PostgreSQL holds them in its write-ahead log, and where that
	// is copied to, until it is recycled. After an error something may be left: calling
	// again completes it.
	DeleteReceiptKeys(ctx context.Context, ids ...uint64) error
}

// Validate returns [ErrInvalid] for a counter outside the limits; see
// [KeyRecord.Validate].
func (c Counter) Validate() error {
	switch {
	case len(c.Sequence) == 0 || len(c.Sequence) > MaxSequence:
		return fmt.Errorf("%w: a sequence has 1 to %d bytes", ErrInvalid, MaxSequence)
	case len(c.Receipt) > MaxReceipt:
		return fmt.Errorf("%w: a receipt has at most %d bytes", ErrInvalid, MaxReceipt)
	case !validTime(c.AcceptedAt):
		return fmt.Errorf("%w: the time of a counter is not within the years 1970 to 9999", ErrInvalid)
	}
	return nil
}

// Validate returns [ErrInvalid] for a receipt key outside the limits.
func (k *ReceiptKey) Validate() error {
	switch {
	case !validNumber(k.ID):
		return fmt.Errorf("%w: the ID of a receipt key is not within 1 and %d", ErrInvalid, int64(math.MaxInt64))
	case !validTime(k.CreatedAt):
		return fmt.Errorf("%w: the creation time of a receipt key is not within the years 1970 to 9999", ErrInvalid)
	}
	return nil
}

// ValidateBatch returns [ErrInvalid] for a row that the journal does not take.
func ValidateBatch(number uint64, batch []byte) error {
	switch {
	case !validNumber(number):
		return fmt.Errorf("%w: the number of a journal row is not within 1 and %d", ErrInvalid, int64(math.MaxInt64))
	case len(batch) == 0 || len(batch) > MaxBatch:
		return fmt.Errorf("%w: a batch has 1 to %d bytes", ErrInvalid, MaxBatch)
	}
	return nil
}

// ValidateFold returns [ErrInvalid] for counters that cannot be folded together.
func ValidateFold(counters []Counter) error {
	if len(counters) > MaxFold {
		return fmt.Errorf("%w: at most %d counters are folded at once", ErrInvalid, MaxFold)
	}
	seen := make(map[string]bool, len(counters))
	for _, c := range counters {
		if err := c.Validate(); err != nil {
			return err
		}
		if seen[string(c.Sequence)] {
			return fmt.Errorf("%w: a sequence comes twice", ErrInvalid)
		}
		seen[string(c.Sequence)] = true
	}
	return nil
}

func validNumber(n uint64) bool { return n >= 1 && n <= math.MaxInt64 }

func validTime(t time.Time) bool {
	year := t.UTC().Year()
	return year >= 1970 && year <= 9999
}
