package flow

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"keyd/voidtoken"
)

// ErrRules is wrapped in an error that says what is wrong with rules.
var ErrRules = errors.New("rules of voids")

// Bounds of [Limits].
const (
	MaxTries   = 10
	MaxLife    = 3600          // seconds
	MaxConfirm = 2 * 24 * 3600 // seconds
	MaxAge     = 24 * 3600     // seconds; a void is of the same day
	day        = 24 * 3600
)

// Rules say which payments may be voided. A merchant for whom there are no limits may void
// nothing.
type Rules struct {
	Default   *Limits           // for merchants without limits of their own; none when nil
	Merchants map[string]Limits // take the place of the default as a whole
}

// Limits are one merchant's.
type Limits struct {
	Currency voidtoken.Currency
	Tiers    []Tier // by rising amount; above the last one nothing is voided
	PerDay   int    // voids of the merchant in a business day, 1 or more
	Age      int64  // seconds since the payment, at most, 1 to MaxAge

	// DayBegins is how many seconds the business day is ahead of UTC: 28800 where it begins at
	// midnight in China, 32400 where it is cut off there at 23:00. -86399 to 86399.
	DayBegins int64

	Tries   int   // verifications that may fail before the request is declined, 1 to MaxTries
	Life    int64 // seconds until a request that was not authorised expires, 1 to MaxLife
	Confirm int64 // seconds from authorisation until the switch has answered, 1 to MaxConfirm; longer than a token lives
}

// Tier says by which methods voids up to an amount are authorised.
type Tier struct {
	UpTo    int64                // minor units, this amount included
	Methods [][]voidtoken.Method // the sets that suffice, at least one
}

// Validate checks rules. The error wraps [ErrRules].
func (r *Rules) Validate() error {
	if r.Default != nil {
		if problem := r.Default.problem(); problem != "" {
			return fmt.Errorf("%w: default: %s", ErrRules, problem)
		}
	}
	for _, merchant := range slices.Sorted(maps.Keys(r.Merchants)) {
		if !voidtoken.ValidName(merchant) {
			return fmt.Errorf("%w: %q is no merchant's identifier: 1 to 64 letters, digits and ._-, the first a letter or a digit", ErrRules, merchant)
		}
		limits := r.Merchants[merchant]
		if problem := limits.problem(); problem != "" {
			return fmt.Errorf("%w: merchant %s: %s", ErrRules, merchant, problem)
		}
	}
	return nil
}

func (l *Limits) problem() string {
	switch {
	case !l.Currency.Valid():
		return "currency is the number of a currency in use (ISO 4217)"
	case len(l.Tiers) == 0:
		return "there is at least one tier"
	case l.PerDay < 1:
		return "the number per day is 1 or more: remove the merchant instead"
	case l.Age < 1 || l.Age > MaxAge:
		return "the age of a payment is 1 second to 24 hours"
	case l.DayBegins <= -day || l.DayBegins >= day:
		return "the business day is less than 24 hours ahead of UTC or behind it"
	case l.Tries < 1 || l.Tries > MaxTries:
		return "tries are 1 to 10"
	case l.Life < 1 || l.Life > MaxLife:
		return "a request lives 1 second to 1 hour"
	case l.Confirm < 1 || l.Confirm > MaxConfirm:
		return "the switch has 1 second to 48 hours to answer"
	}
	for i, tier := range l.Tiers {
		if tier.UpTo <= 0 || i > 0 && tier.UpTo <= l.Tiers[i-1].UpTo {
			return "tiers have rising amounts, more than 0"
		}
		if len(tier.Methods) == 0 {
			return "a tier has at least one set of methods"
		}
		for _, set := range tier.Methods {
			if !validSet(set) {
				return "a set has at least one method, each once, none that is unknown, and that of a phone by itself"
			}
		}
	}
	return ""
}

func validSet(set []voidtoken.Method) bool {
	for i, m := range set {
		if !m.Valid() || slices.Contains(set[:i], m) || m.OnPhone() && len(set) > 1 {
			return false
		}
	}
	return len(set) > 0
}

// of returns the limits of a merchant, or nil.
func (r *Rules) of(merchant string) *Limits {
	if r == nil {
		return nil
	}
	if l, ok := r.Merchants[merchant]; ok {
		return &l
	}
	return r.Default
}
