package policies

import (
	"fmt"
	"strconv"
)

// Limit bounds how often something may happen: on average PerSecond times a second, and
// at most Burst times at once after a pause. PerSecond 0 is no limit.
type Limit struct {
	PerSecond int `json:"per_second"`
	Burst     int `json:"burst"`
}

// Limits for a file that says nothing.
var (
	// DefaultLimit is for the requests of one identity that may do something. It is above
	// what the largest switch sends, and below what would starve the others.
	DefaultLimit = Limit{PerSecond: 10_000, Burst: 20_000}

	// IdleLimit is for the requests of an identity that may do nothing: it has an entry
	// without a rule, or none. A limit of its own entry takes its place, limits.default
	// does not.
	IdleLimit = Limit{PerSecond: 10, Burst: 100}

	// DefaultDenials is for the entries that denied requests of one identity leave in the
	// audit log.
	DefaultDenials = Limit{PerSecond: 1, Burst: 100}
)

// maxPerSecond is the highest limit that can be written, per second and at once.
const maxPerSecond = 1_000_000

// Unlimited reports whether there is no limit.
func (l Limit) Unlimited() bool { return l.PerSecond == 0 }

// String returns the limit in words.
func (l Limit) String() string {
	if l.Unlimited() {
		return "unlimited"
	}
	return fmt.Sprintf("%d per second, %d at once", l.PerSecond, l.Burst)
}

// limits are those of a file.
type limits struct {
	requests Limit // of an identity whose entry has none
	denials  Limit
}

// Limit returns how many requests the identity may make. Its own entry's limit comes
// before that of its fleet, which holds for each member, and that before the default of
// the file. Without a policy it is [IdleLimit].
func (p *Policy) Limit(identity string) Limit {
	own, fleet := p.entries(identity)
	idle := true
	for _, g := range []*grants{own, fleet} {
		if g == nil {
			continue
		}
		if g.limit != nil {
			return *g.limit
		}
		idle = idle && g.all == 0
	}
	if idle {
		return IdleLimit
	}
	return p.limits.requests
}

// Denials returns how many entries the denied requests of one identity may leave in the
// audit log. It is always bounded.
func (p *Policy) Denials() Limit {
	if p == nil || p.limits.denials.Unlimited() {
		return DefaultDenials
	}
	return p.limits.denials
}

// parseLimits reads the top level's limits.
func parseLimits(n node) (limits, error) {
	l := limits{DefaultLimit, DefaultDenials}
	fields, err := n.fields("default", "denials")
	if err != nil {
		return l, err
	}
	if f, ok := fields["default"]; ok {
		if l.requests, err = parseLimit(f.node); err != nil {
			return l, err
		}
	}
	if f, ok := fields["denials"]; ok {
		if l.denials, err = parseLimit(f.node); err != nil {
			return l, err
		}
		if l.denials.Unlimited() {
			return l, f.fault("denials have to be limited: each leaves an entry in the audit log, and one client could fill the disk")
		}
	}
	return l, nil
}

// parseLimit reads {per_second: 100, burst: 200}, or unlimited.
func parseLimit(n node) (Limit, error) {
	if text, err := n.text(); err == nil {
		if text != "unlimited" {
			return Limit{}, n.fault("%q is no limit; write {per_second: 100, burst: 200} or unlimited", text)
		}
		return Limit{}, nil
	}
	fields, err := n.fields("per_second", "burst")
	if err != nil {
		return Limit{}, err
	}
	perSecond, err := fields.need("per_second", "write how many are allowed per second on average")
	if err != nil {
		return Limit{}, err
	}
	burst, err := fields.need("burst", "write how many are allowed at once after a pause, for example twice per_second")
	if err != nil {
		return Limit{}, err
	}
	var l Limit
	if l.PerSecond, err = perSecond.count(); err != nil {
		return Limit{}, err
	}
	if l.Burst, err = burst.count(); err != nil {
		return Limit{}, err
	}
	return l, nil
}

// count returns a number from 1 to [maxPerSecond].
func (n node) count() (int, error) {
	digits, err := n.integer()
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || v < 1 || v > maxPerSecond || digits[0] == '0' {
		return 0, n.fault("%s is out of range; write a number from 1 to %d", digits, maxPerSecond)
	}
	return int(v), nil
}
