package velocity

import "sync/atomic"

// A holder is 48 bits of the subject's HMAC, a serial number of 14 bits that every
// change of hands increases, and a state of 2 bits. The serial number tells a process
// that was asleep that the place has been somebody else's meanwhile.
const (
	free    = iota // nobody's; there is no subject
	joining        // being taken; nothing is counted here yet
	settled        // the subject's place; the only one that it has
	leaving        // being given up; what is counted now is counted again elsewhere

	stateMask  = 3
	serialStep = 4
	serialMask = 1<<16 - serialStep
	whoMask    = ^uint64(1<<16 - 1)
)

// attempts is how often something is tried again because others were quicker. Each
// time somebody got further, so that the end of it is hardly ever seen; the answer is
// then a refusal.
const attempts = 64

// become returns the next holder of a place: its subject, 0 for none, and state.
func become(old, who, state uint64) uint64 {
	return who | (old+serialStep)&serialMask | state
}

// seat is a place that a subject had when it was looked at.
type seat struct {
	holder *atomic.Uint64
	counts *rings
	was    uint64
}

// lost reports whether the subject has lost the place since.
func (s *seat) lost() bool { return s.holder.Load() != s.was }

// find returns the place of a subject, if it has one.
func (s *set) find(who uint64) (seat, bool) {
	for half := range s {
		for i := range s[half].holders {
			w := s[half].holders[i].Load()
			if w&whoMask == who && w&stateMask == settled {
				return seat{&s[half].holders[i], &s[half].counts[i], w}, true
			}
		}
	}
	return seat{}, false
}

// claim takes a place for a subject that had none. It returns false when somebody else
// was quicker or the tick is over: look again.
//
// Two processes that claim places for one subject must not both get one, or each would
// count to the limit. So a place is taken in two steps: joining, then a look at all
// other places, then settled. Of two that join at the same time at least one sees the
// other there, and throws it out; the other's last step then fails.
func (t *Table) claim(s *set, who, tick uint64) (seat, bool) {
	place, w := s.cheapest(tick)
	holder, counts := s.at(place)
	if w&stateMask == settled {
		next := w&^stateMask | leaving
		if !holder.CompareAndSwap(w, next) {
			return seat{}, false
		}
		w = next
		if counts.estimate(tick)[day] > 0 {
			t.crowded.Add(1)
		}
	}
	// Whoever goes on with a place that is given up saves its counts first.
	if w&stateMask == leaving && !t.raise(s.remainderOf(place), counts, tick) {
		return seat{}, false
	}
	mine := become(w, who, joining)
	if !holder.CompareAndSwap(w, mine) {
		return seat{}, false
	}
	if !t.alone(s, place, who, tick) || !t.inherit(s, counts, tick) {
		holder.CompareAndSwap(mine, become(mine, 0, free))
		return seat{}, false
	}
	now := mine&^stateMask | settled
	return seat{holder, counts, now}, holder.CompareAndSwap(mine, now)
}

// inherit makes the counts of a place at least what is left of those who lost theirs.
func (t *Table) inherit(s *set, counts *rings, tick uint64) bool {
	return t.raise(counts, &s[0].remainder, tick) && t.raise(counts, &s[1].remainder, tick)
}

// alone makes sure that a subject joins at one place only. It returns false when the
// subject has settled elsewhere.
func (t *Table) alone(s *set, place int, who, tick uint64) bool {
	for other := range places {
		if other == place {
			continue
		}
		holder, counts := s.at(other)
		for w := holder.Load(); w&whoMask == who; w = holder.Load() {
			if w&stateMask == settled {
				return false
			}
			if w&stateMask == leaving { // its counts must be among what is inherited
				if !t.raise(s.remainderOf(other), counts, tick) {
					return false
				}
				break
			}
			holder.CompareAndSwap(w, become(w, 0, free))
		}
	}
	return true
}

// cheapest returns the place whose loss costs least, and its holder: a free one, or
// the one with the smallest count of the day, which is 0 when it has grown old.
func (s *set) cheapest(tick uint64) (best int, w uint64) {
	least := ^uint64(0)
	for place := range places {
		holder, counts := s.at(place)
		h := holder.Load()
		if h&stateMask == free {
			return place, h
		}
		cost := uint64(counts.estimate(tick)[day]) << 1
		if h&stateMask == joining {
			cost++ // somebody is about to use it
		}
		if cost < least {
			best, w, least = place, h, cost
		}
	}
	return best, w
}
