package store

import (
	"bytes"
	"fmt"
	"math"
	"sync/atomic"
)

var errLargeNumber = fmt.Errorf("%w: the number of a journal row is not within 1 and %d", ErrInvalid, int64(math.MaxInt64))

// JournalEnding is how many bytes of a batch are its ending.
const JournalEnding = 4

// JournalRow is a row of the journal.
type JournalRow struct {
	Number uint64 // from 1 to the largest int64
	Batch  []byte // 1 to MaxBatch bytes, opaque
}

// extender carries out [Counters.ExtendJournal] where it is fastest: as long as nobody else
// adds rows, the one statement that adds the next row, if it is the next, is enough.
type extender struct{ others atomic.Bool }

// extend has quick add the row with that number, if it is the one after the newest, or slow
// take what follows known and then add what the follower's batch is, in one transaction.
func (e *extender) extend(
	known uint64, ending []byte, each func(number uint64, batch []byte) error, next func(number uint64) ([]byte, error),
	quick func(number uint64, batch []byte) (bool, error), slow func(*follower) error,
) error {
	if known > math.MaxInt64 {
		return errLargeNumber
	}
	if ending != nil && len(ending) != JournalEnding {
		return fmt.Errorf("%w: the ending of a journal row has %d bytes", ErrInvalid, JournalEnding)
	}
	f := &follower{known: known, ending: ending, each: each, next: next}
	if !e.others.Load() && known < math.MaxInt64 {
		batch, err := f.nextBatch(known)
		if err != nil {
			return err
		}
		if batch != nil {
			if added, err := quick(known+1, batch); added || err != nil {
				return err
			}
		}
	}
	err := slow(f)
	e.others.Store(f.taken)
	if f.stopped != nil {
		return f.stopped
	}
	return err
}

// follower takes what follows the row that is known: that row comes first, with the ending of
// its batch alone, unless it was trimmed.
type follower struct {
	known   uint64
	ending  []byte // of its batch; nil if anything is right
	each    func(number uint64, batch []byte) error
	next    func(number uint64) ([]byte, error)
	newest  uint64 // 0: no row came
	taken   bool   // each was called
	stopped error  // of each or next
}

// row takes the next row.
func (f *follower) row(r JournalRow) error {
	switch {
	case f.newest != 0 && r.Number != f.newest+1:
		return ErrCorrupt // rows are numbered without a gap
	case f.newest == 0 && r.Number > f.known+1:
		return ErrTrimmed
	}
	f.newest = r.Number
	if r.Number == f.known {
		if f.ending != nil && !bytes.Equal(r.Batch, f.ending) {
			return ErrRolledBack // and has grown again
		}
		return nil
	}
	if ValidateBatch(r.Number, r.Batch) != nil {
		return ErrCorrupt
	}
	f.taken = true
	f.stopped = f.each(r.Number, r.Batch)
	return f.stopped
}

// batch returns the batch of the next row, nil for none, after all rows were taken.
func (f *follower) batch() (batch []byte, err error) {
	if f.newest < f.known { // the newest row is never trimmed
		return nil, ErrRolledBack
	}
	batch, f.stopped = f.nextBatch(f.newest)
	return batch, f.stopped
}

// nextBatch returns what next makes of the row after the newest.
func (f *follower) nextBatch(newest uint64) ([]byte, error) {
	if newest == math.MaxInt64 {
		return nil, errLargeNumber
	}
	batch, err := f.next(newest + 1)
	if err != nil || batch == nil {
		return nil, err
	}
	if err := ValidateBatch(newest+1, batch); err != nil {
		return nil, err
	}
	return batch, nil
}

// scanFollowing takes the columns as they come; see scan. The batch may be an ending alone.
func scanFollowing(row scanner) (JournalRow, error) {
	column, err := columns(row, 2)
	if err != nil {
		return JournalRow{}, err
	}
	number, ok0 := column[0].(int64)
	batch, ok1 := column[1].([]byte)
	if !ok0 || !ok1 || number < 1 {
		return JournalRow{}, ErrCorrupt
	}
	return JournalRow{uint64(number), batch}, nil
}

// scanRow takes the columns as they come; see scan.
func scanRow(row scanner) (JournalRow, error) {
	r, err := scanFollowing(row)
	if err == nil && ValidateBatch(r.Number, r.Batch) != nil {
		return JournalRow{}, ErrCorrupt
	}
	return r, err
}
