package audit

import (
	"errors"
	"fmt"
)

var (
	// ErrUnwritable says that the log could not be written. No entry is accepted until it can
	// be written again, so nothing happens unrecorded.
	ErrUnwritable = errors.New("the audit log cannot be written")
	// ErrClosed says that the log was closed before the entry came.
	ErrClosed = errors.New("the audit log is closed")
	// ErrSlow says that an entry was not durable in time. It may or may not be in the log.
	ErrSlow = errors.New("the audit log is too slow")
	// ErrLocked says that another process has the log open for writing.
	ErrLocked = errors.New("the audit log is in use by another process")
	// ErrEntry says that an entry holds what no entry may hold. The log is unharmed.
	ErrEntry = errors.New("not an audit entry")
	// ErrChain says that a log is not what was written. See [ChainError].
	ErrChain = errors.New("the audit log was altered or damaged")
	// ErrCut says that a log has fewer entries than it had, or others: it was cut, put back to
	// an older state, or exchanged.
	ErrCut = errors.New("the audit log is not the one that it was")
	// ErrTorn says that the last line has no end: the log was cut, or its writer lost
	// power before the entry was acknowledged. It comes in a [ChainError].
	ErrTorn = errors.New("the last line is incomplete")
)

// ChainError is where and how a log breaks. It is [ErrChain], and [ErrTorn] as well
// when only the last line is incomplete.
type ChainError struct {
	Line    int    // counted from 1 in what was read; 0 when only the end was read
	Seq     uint64 // the sequence number that is expected there; 0 if unknown
	Problem string // what is wrong
	torn    bool
}

// Error returns place and problem.
func (e *ChainError) Error() string {
	switch {
	case e.Line > 0 && e.Seq > 0:
		return fmt.Sprintf("%v: line %d (entry %d): %s", ErrChain, e.Line, e.Seq, e.Problem)
	case e.Line > 0:
		return fmt.Sprintf("%v: line %d: %s", ErrChain, e.Line, e.Problem)
	case e.Seq > 0:
		return fmt.Sprintf("%v: entry %d: %s", ErrChain, e.Seq, e.Problem)
	}
	return fmt.Sprintf("%v: %s", ErrChain, e.Problem)
}

// Is reports whether target is one of the errors that e stands for.
func (e *ChainError) Is(target error) bool {
	return target == ErrChain || e.torn && target == ErrTorn
}
