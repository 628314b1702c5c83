package velocity

// Kind is what is counted. Each kind has its own limits.
type Kind uint8

// The kinds.
const (
	Verification Kind = 1
	Translation  Kind = 2
	Card         Kind = 3 // of card verification values
)

// Count counts a try at a subject and reports whether it is within the limits. It is
// called before the try is made. What is refused is not counted, unless it raced with
// others for the last place.
//
// It is safe for concurrent use, in any number of processes, and does not allocate.
func (t *Table) Count(kind Kind, subject []byte) bool {
	limit := t.limits.of(kind)
	if limit == nil {
		return false // no kind of this package's
	}
	if limit.least == 0 {
		return true
	}
	if !t.count(limit, t.identify(kind, subject)) {
		t.refusals.Add(1)
		return false
	}
	return true
}

func (t *Table) count(limit *limit, id identity) bool {
	s := t.set(id)
	for range attempts {
		tick := t.now()
		if t.stale(tick) {
			return false
		}
		presumed := t.presumed(tick)
		place, ok := s.find(id.who)
		if !ok {
			// Who would be refused anyway takes nobody's place.
			if limit.reached(ofBoth(&s[0].remainder, &s[1].remainder, tick), presumed) {
				return false
			}
			if place, ok = t.claim(s, id.who, tick); !ok {
				continue
			}
		}
		reached := limit.reached(place.counts.estimate(tick), presumed)
		if place.lost() {
			continue
		}
		if reached {
			return false
		}
		if !t.add(place.counts, tick) || place.lost() {
			continue
		}
		if t.header.latest.Load() > tick+window {
			continue // this process slept, and others may have begun windows that it does not see
		}
		// Others may have counted meanwhile. Of all that count up to here, no more than
		// the limit see no more than the limit.
		return !limit.exceeded(place.counts.estimate(tick), presumed)
	}
	return false
}

// Reset clears the counts of a subject: the way back for somebody who was locked out,
// when it is authorised. What is presumed of every subject after a loss of power
// remains. It reports whether it succeeded; only a crowd of others can prevent it.
func (t *Table) Reset(kind Kind, subject []byte) bool {
	if t.limits.of(kind) == nil {
		return false
	}
	return t.reset(t.identify(kind, subject))
}

func (t *Table) reset(id identity) bool {
	s := t.set(id)
	for range attempts {
		tick := t.now()
		place, ok := s.find(id.who)
		if !ok {
			// It may have left counts in the remainder, which others must keep: so it
			// takes a place, and that is cleared.
			if place, ok = t.claim(s, id.who, tick); !ok {
				continue
			}
		}
		if place.clear() {
			return true
		}
		// The place has become another's, who must not lose what it began with.
		for !t.inherit(s, place.counts, t.now()) {
		}
	}
	return false
}

// clear sets all counts to 0, those of the day first: after that the others no longer
// count. It returns false when the place was lost meanwhile.
func (s *seat) clear() bool {
	for ring := day; ring >= minute; ring-- {
		for i := range s.counts[ring] {
			bucket := &s.counts[ring][i]
			for b := bucket.Load(); b&maxCount != 0; b = bucket.Load() {
				if s.lost() {
					return false
				}
				bucket.CompareAndSwap(b, b&^maxCount)
			}
		}
	}
	return !s.lost()
}
