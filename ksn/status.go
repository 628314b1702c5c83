package ksn

import (
	"context"
	"time"
)

// Stats is what an operator may want to know of a ledger.
type Stats struct {
	Sequences    int       // in memory
	Unfolded     int       // of these, sequences that only the journal has in their last state
	JournalRows  int       // rows of the journal
	JournalBytes int64     // and their bytes
	Batches      uint64    // commits since Open
	Requests     uint64    // accepted requests since Open
	Folds        uint64    // completed folds since Open
	LastFold     time.Time // when the journal was last folded since Open, or zero
	Failing      error     // why the journal cannot be read or folded, or old receipt keys cannot be deleted; nil if all is well
}

// Stats returns the ledger's state.
func (l *Ledger) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{
		Sequences: l.memory.size(), Unfolded: l.memory.unfolded(),
		JournalRows: len(l.rows.sizes), JournalBytes: l.rows.bytes,
		Batches: l.commits.Batches, Requests: l.commits.Requests,
		Folds: l.fold.folds, LastFold: l.fold.at,
	}
	switch {
	case l.failing != nil:
		s.Failing = l.failing
	case l.fold.err != nil:
		s.Failing = l.fold.err
	case l.tending != nil:
		s.Failing = l.tending
	}
	return s
}

// Len returns the number of sequences in memory.
func (l *Ledger) Len() int { return l.Stats().Sequences }

type foldStatus struct {
	err   error // of the last attempt
	at    time.Time
	folds uint64
}

type commitStatus struct{ Batches, Requests uint64 }

// tendAll looks after the receipt keys. A key is deleted not much later than it should
// be, while nobody comes too.
func (l *Ledger) tendAll() {
	ticker := time.NewTicker(max(l.receipts.window/8, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-l.closing:
			return
		case <-ticker.C:
			l.tend(context.Background())
		}
	}
}

func (l *Ledger) tend(ctx context.Context) {
	err := l.receipts.tend(ctx)
	l.mu.Lock()
	before := l.tending
	l.tending = err
	l.mu.Unlock()
	switch {
	case err != nil && before == nil:
		l.log.Error("receipt keys are not replaced or deleted in time", "error", err)
	case err == nil && before != nil:
		l.log.Info("receipt keys are replaced and deleted again")
	}
}
