package ksn

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"keyd/gather"
	"keyd/store"
)

// limits say when the journal is folded and how much it may hold at most. They are
// options for tests only.
type limits struct {
	foldSequences int   // fold from so many sequences, or
	foldRows      int   // so many rows of the journal, or
	foldBytes     int64 // so many bytes of it
	maxSequences  int   // refuse from so many: folding does not work
	maxRows       int
	maxBytes      int64

	foldChunk int // sequences in one transaction
	trimChunk int // rows that are deleted in one transaction
	foldRetry time.Duration
	gather    time.Duration // how long a commit waits at least for requests that are under way; 0: not at all
}

// An unfolded sequence takes some 250 bytes of memory, so that the first limits are 30
// and 130 MB. The more sequences are folded at once, the more of them share a page: with
// a million terminals in no order that decides whether folding keeps up.
//
// Waiting a millisecond saves half of the processor time at 5,000 and more uses a second.
var defaultLimits = limits{
	foldSequences: 1 << 17, foldRows: 1 << 16, foldBytes: 64 << 20,
	maxSequences: 1 << 19, maxRows: 1 << 18, maxBytes: 256 << 20,
	foldChunk: 256, trimChunk: 256, foldRetry: time.Second, gather: gather.Limit,
}

// errJournalFull is the cause when nothing is accepted because folding fails.
var errJournalFull = errors.New("ksn: the journal of KSNs has reached its limit, since it cannot be folded")

// foldDue tells whether the journal should be folded. The caller has the lock.
func (l *Ledger) foldDue() bool {
	return len(l.memory.recent) >= l.limits.foldSequences || len(l.rows.sizes) >= l.limits.foldRows || l.rows.bytes >= l.limits.foldBytes
}

// full returns an error if the journal may not grow by more than that number of
// sequences. The caller has the lock.
func (l *Ledger) full(more int) error {
	if l.memory.unfolded()+more < l.limits.maxSequences && len(l.rows.sizes) < l.limits.maxRows && l.rows.bytes < l.limits.maxBytes {
		return nil
	}
	wake(l.foldNow)
	if l.fold.err != nil {
		return fmt.Errorf("%w: %w", errJournalFull, l.fold.err)
	}
	return errJournalFull
}

// foldAll folds whenever there is enough, and tries again after a failure.
func (l *Ledger) foldAll() {
	for {
		var again <-chan time.Time
		if l.foldError() != nil {
			again = time.After(l.limits.foldRetry)
		}
		select {
		case <-l.closing:
			return
		case <-l.foldNow:
			if again != nil { // no faster for being asked more often
				select {
				case <-l.closing:
					return
				case <-again:
				}
			}
		case <-again:
		}
		err := l.foldJournal(context.Background())
		l.mu.Lock()
		before := l.fold.err
		l.fold.err = err
		if err == nil {
			l.fold.at = l.clock()
		}
		l.mu.Unlock()
		switch {
		case err != nil && before == nil:
			l.log.Error("the KSN journal cannot be folded; KSNs are accepted until it is full", "error", err)
		case err == nil && before != nil:
			l.log.Info("the KSN journal is folded again")
		}
	}
}

func (l *Ledger) foldError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fold.err
}

// foldJournal moves what the journal says into the states of the sequences, and
// deletes its rows, in small transactions between which others commit. It can stop
// anywhere: as long as the rows are there, they count.
func (l *Ledger) foldJournal(ctx context.Context) error {
	f := l.freeze()
	if f == nil {
		return nil
	}
	keys := slices.SortedFunc(maps.Keys(f.states), compare) // each page is written once
	counters := make([]store.Counter, 0, l.limits.foldChunk)
	for chunk := range slices.Chunk(keys, l.limits.foldChunk) {
		if l.isClosing() {
			return nil
		}
		counters = counters[:0]
		for i := range chunk {
			s := f.states[chunk[i]]
			c := store.Counter{Sequence: chunk[i][:], Counter: s.counter, Receipt: s.receipt, AcceptedAt: s.at}
			if l.receipts.expired(l.clock(), s.at) {
				c.Receipt = nil // nobody can read it
			}
			counters = append(counters, c)
		}
		if err := l.store.Fold(ctx, counters...); err != nil {
			return fmt.Errorf("ksn: fold the journal: %w", err)
		}
	}
	for through := uint64(0); through < f.through; {
		l.mu.Lock()
		through = min(f.through, max(through+1, l.rows.first)+uint64(l.limits.trimChunk)-1)
		l.mu.Unlock()
		if l.isClosing() {
			return nil
		}
		if err := l.store.TrimJournal(ctx, through); err != nil {
			return fmt.Errorf("ksn: trim the journal: %w", err)
		}
		l.mu.Lock()
		l.rows.trim(through)
		l.mu.Unlock()
	}
	l.thaw(f, keys)
	return nil
}

// freeze begins a fold, or goes on with one that failed. It returns nil if there is
// nothing to fold.
func (l *Ledger) freeze() *frozen {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := &l.memory
	if m.frozen == nil && len(m.recent) > 0 {
		m.frozen = &frozen{states: m.recent, through: l.newest}
		m.recent = make(map[sequence]state, len(m.frozen.states))
	}
	return m.frozen
}

// thaw moves what was folded into the cache, a part at a time so that nobody waits
// long for the lock.
func (l *Ledger) thaw(f *frozen, keys []sequence) {
	const part = 512
	for chunk := range slices.Chunk(keys, part) {
		l.mu.Lock()
		if l.memory.frozen != f { // all was dropped meanwhile
			l.mu.Unlock()
			return
		}
		for _, q := range chunk {
			l.memory.keep(q, f.states[q].counter)
		}
		l.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.memory.frozen == f {
		l.memory.frozen = nil
	}
	l.fold.folds++
	if l.foldDue() {
		wake(l.foldNow)
	}
}

func (l *Ledger) isClosing() bool {
	select {
	case <-l.closing:
		return true
	default:
		return false
	}
}

// rowSizes are the sizes of the journal's rows, which are numbered without a gap.
type rowSizes struct {
	first uint64 // number of the first row, if there is one
	sizes []uint32
	bytes int64
}

func (r *rowSizes) push(number uint64, size int) {
	if len(r.sizes) == 0 {
		r.first = number
	}
	r.sizes = append(r.sizes, uint32(size))
	r.bytes += int64(size)
}

// trim forgets the rows up to that number, but never the newest, as the store does.
func (r *rowSizes) trim(through uint64) {
	for len(r.sizes) > 1 && r.first <= through {
		r.bytes -= int64(r.sizes[0])
		r.sizes = r.sizes[1:]
		r.first++
	}
}
