package ksn

import (
	"fmt"

	"keyd/fault"
)

// verdict is what the counters say about a request.
type verdict uint8

const (
	undecided verdict = iota // the state of a sequence has to be read from the store
	fresh                    // all counters are above the last ones
	repeated                 // all counters are the last ones: perhaps an identical retry
	replayed                 // a counter was used, or a later one was
	jumped                   // a counter is too far ahead of what is known
	mixed                    // some counters are the last ones, others are above
)

// judge compares the part of a sequence with its state; found is false for a sequence
// that was never used.
func (s span) judge(last uint32, found bool, maxJump uint32) verdict {
	switch {
	case !found:
		return fresh
	case s.first > last && s.last-last <= maxJump:
		return fresh
	case s.first > last:
		return jumped
	case s.last == last:
		return repeated
	}
	return replayed
}

// join returns the verdict on a request of which one part has v and the others have w.
func (v verdict) join(w verdict) verdict {
	if v == w {
		return v
	}
	// A request of which one part is used up is no retry and not fresh.
	switch {
	case v == undecided || w == undecided:
		return undecided
	case v == replayed || w == replayed:
		return replayed
	case v != repeated && v != mixed && w != repeated && w != mixed:
		return jumped
	}
	return mixed
}

// outdated reports whether the verdict can be another one when it is known what other
// processes have accepted: they may have used the next counter, have come nearer to this one,
// or have folded a part of a request that this process has not read yet. What was used once
// stays used; and a fresh one is judged again when it is accepted.
func (v verdict) outdated() bool { return v == repeated || v == jumped || v == mixed }

// refusal returns the error of a verdict that is one.
func (v verdict) refusal(maxJump uint32) error {
	if v == jumped {
		return fault.New(fault.KSNReplayed, fmt.Sprintf("the counter is more than %d ahead of the last one accepted", maxJump))
	}
	return fault.New(fault.KSNReplayed, "it was used before, or a later one was")
}
