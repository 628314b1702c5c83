package velocity

import "time"

// Stats is what an operator wants to know of the table.
type Stats struct {
	Entries       int       // how many subjects it has places for
	InUse         int       // how many have one and were counted within a day, about
	Refusals      uint64    // by this process
	Crowded       uint64    // how often this process took a place that was still in use: the table is too small
	PresumedUntil time.Time // when all that a loss of power may have hidden is forgotten; zero: there was none
	Stale         bool      // nothing is allowed, as the table has not been written to the disk for a minute
	SyncError     error     // why this process could not write it the last time
}

// sampled is how many sets Stats looks at.
const sampled = 1024

// Stats returns the state of the table. It looks at up to 8,192 places.
func (t *Table) Stats() Stats {
	tick := t.now()
	s := Stats{
		Entries:       len(t.sets) * places,
		Refusals:      t.refusals.Load(),
		Crowded:       t.crowded.Load(),
		PresumedUntil: t.presumedUntil(tick),
		Stale:         t.stale(tick),
	}
	if err := t.failure.Load(); err != nil {
		s.SyncError = *err
	}
	step := max(1, len(t.sets)/sampled)
	for i := 0; i < len(t.sets); i += step {
		for place := range places {
			holder, counts := t.sets[i].at(place)
			if holder.Load()&stateMask == settled && counts.estimate(tick)[day] > 0 {
				s.InUse += step
			}
		}
	}
	return s
}
