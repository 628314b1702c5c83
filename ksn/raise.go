package ksn

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"time"

	"keyd/dukpt"
	"keyd/store"
)

// Exhausted is a counter that no key serial number comes after: a sequence that has it accepts
// nothing any more.
const Exhausted = math.MaxUint32

// Advances calls each for every counter that a row of the journal sets. The sequence is only
// lent. The error wraps [store.ErrCorrupt] for a row that is not what was written; each is
// called for none of it then.
func Advances(number uint64, batch []byte, each func(sequence []byte, counter uint32)) error {
	err := decodeBatch(number, batch, func(_ time.Time, _ []byte, advances []advance) {
		for i := range advances {
			each(advances[i].sequence[:], advances[i].counter)
		}
	})
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	return nil
}

// Raised are the counters of a database that is restored: those of a backup, none of which may
// be lower than what is known besides. It keeps in memory what is known besides, 60 bytes for
// each sequence; the counters of the backup only pass.
type Raised struct {
	known map[sequence]uint32
	raise func(fingerprint string, counter uint32) uint32
	at    time.Time
}

// NewRaised returns counters to which raise is applied last of all. It is told the fingerprint
// of the base derivation key, as [Use] has it, and must not lower. at is when they are raised.
func NewRaised(at time.Time, raise func(fingerprint string, counter uint32) uint32) *Raised {
	return &Raised{known: make(map[sequence]uint32), raise: raise, at: at}
}

// Least says that a sequence has had that counter.
func (r *Raised) Least(name []byte, counter uint32) error {
	if !ValidSequence(name) {
		return fmt.Errorf("%w: a sequence that is none", store.ErrInvalid)
	}
	q := sequence(name)
	r.known[q] = max(r.known[q], counter)
	return nil
}

// Used says that a key serial number was accepted for a class.
func (r *Raised) Used(u Use) error {
	q, err := u.sequence()
	if err != nil {
		return err
	}
	r.known[q] = max(r.known[q], u.KSN.Counter())
	return nil
}

// Counters returns what yields all counters in the order of their sequences: those of next,
// which come in that order and end with io.EOF, and those that are known besides. The receipts
// are gone. An error of next is returned as it is.
func (r *Raised) Counters(next func() (store.Counter, error)) func() (store.Counter, error) {
	besides := slices.SortedFunc(maps.Keys(r.known), compare)
	var held *store.Counter
	var ended error
	return func() (store.Counter, error) {
		if held == nil && ended == nil {
			c, err := next()
			switch {
			case err == io.EOF: //nolint:errorlint // as io.Reader has it
				ended = err
			case err != nil:
				return c, err
			case !ValidSequence(c.Sequence):
				return c, fmt.Errorf("%w: a sequence that is none", store.ErrInvalid)
			default:
				held = &c
			}
		}
		var q sequence
		var counter uint32
		at := r.at
		switch {
		case held != nil && (len(besides) == 0 || bytes.Compare(held.Sequence, besides[0][:]) <= 0):
			q, counter = sequence(held.Sequence), held.Counter
			at = held.AcceptedAt
			held = nil
			if len(besides) > 0 && besides[0] == q {
				if more := r.known[q]; more > counter {
					counter, at = more, r.at
				}
				besides = besides[1:]
			}
		case len(besides) > 0:
			q, counter = besides[0], r.known[besides[0]]
			besides = besides[1:]
		default:
			return store.Counter{}, ended
		}
		if raised := r.raise(q.fingerprint(), counter); raised > counter {
			counter, at = raised, r.at
		}
		return store.Counter{Sequence: bytes.Clone(q[:]), Counter: counter, Receipt: []byte{}, AcceptedAt: at}, nil
	}
}

// ValidSequence reports whether a name is that of a sequence.
func ValidSequence(name []byte) bool {
	return len(name) == sequenceSize && Class(name[0]).valid()
}

// Margin returns a counter so many transactions of a terminal later; [Exhausted] where there is
// none.
func Margin(scheme dukpt.Scheme, counter uint32, transactions uint64) uint32 {
	if later, ok := scheme.Advance(counter, transactions); ok {
		return later
	}
	return Exhausted
}
