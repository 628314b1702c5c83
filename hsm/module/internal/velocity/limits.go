package velocity

import "fmt"

// MaxLimit is the highest limit of a window.
const MaxLimit = 60_000

// Limit is how many tries at one subject are allowed in any 60 seconds, 60 minutes and
// 24 hours. 0 means that the window is not limited.
type Limit struct{ Minute, Hour, Day int }

// Limits are the limits of each kind. A kind whose three limits are 0 is not counted.
type Limits struct{ Verification, Translation, Card Limit }

// limit is a Limit as it is computed with.
type limit struct {
	of    [3]uint32
	least uint32 // the smallest that is not 0: how many tries a loss of power can hide
}

type limits [3]limit

// of returns the limit of a kind, nil when there is no such kind.
func (l *limits) of(kind Kind) *limit {
	if kind < Verification || kind > Card {
		return nil
	}
	return &l[kind-Verification]
}

func newLimits(l Limits) (result limits, err error) {
	for i, l := range [...]Limit{l.Verification, l.Translation, l.Card} {
		for ring, n := range [...]int{minute: l.Minute, hour: l.Hour, day: l.Day} {
			if n < 0 || n > MaxLimit {
				return limits{}, fmt.Errorf("velocity limit of %d: limits are 0 to %d", n, MaxLimit)
			}
			r := &result[i]
			r.of[ring] = uint32(n)
			if n > 0 && (r.least == 0 || r.of[ring] < r.least) {
				r.least = r.of[ring]
			}
		}
	}
	return result, nil
}

// reached reports whether one more would be too many.
func (l *limit) reached(e estimate, p presumption) bool {
	for ring, most := range l.of {
		if most != 0 && e[ring]+p[ring]*l.least >= most {
			return true
		}
	}
	return false
}

// exceeded reports whether there are too many.
func (l *limit) exceeded(e estimate, p presumption) bool {
	for ring, most := range l.of {
		if most != 0 && e[ring]+p[ring]*l.least > most {
			return true
		}
	}
	return false
}
