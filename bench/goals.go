package main

import "fmt"

// Goals compares what was measured with what keyd is to reach on two processors that it
// shares with the load generator. Goals whose scenarios were not measured are left out.
func (r *results) Goals() table {
	t := table{Title: "Goals", Header: []string{"goal", "measured", "reached"}}
	row := func(goal, measured string, reached bool) {
		t.Rows = append(t.Rows, []string{goal, measured, map[bool]string{true: "yes", false: "no"}[reached]})
	}
	for _, g := range []struct {
		m    mode
		rate float64
	}{{unary, 10_000}, {stream, 20_000}} {
		if f := find(r.Closed, tdesToZone, g.m); f != nil {
			row(fmt.Sprintf("TDES DUKPT → zone, %s: above %s/s", g.m, number(g.rate)), number(f.Rate)+"/s", f.Rate > g.rate)
		}
		if f := r.pacedAt(g.m, g.rate*3/4); f != nil {
			row(fmt.Sprintf("p99 at %s/s, %s: under 10 ms", number(g.rate*3/4), g.m), ms(f.P99)+" ms", f.P99 < 10)
		} else if f := find(r.Closed, tdesToZone, g.m); f != nil {
			row(fmt.Sprintf("p99 at %s/s, %s: under 10 ms", number(g.rate*3/4), g.m), "not reached", false)
		}
	}
	for _, m := range []mode{unary, stream} {
		if f := find(r.Closed, aesToZone, m); f != nil {
			row(fmt.Sprintf("AES DUKPT → zone, %s: at least 60 %% of the bare token for the calls made", m), fmt.Sprintf("%.0f %%", 100*f.MadeRatio), f.MadeRatio >= 0.6)
		}
	}
	if c := r.KSNCost; c != nil && r.Shares != nil {
		cost := r.auditCost()
		row("audit and KSN checks together: less than 15 %", fmt.Sprintf("%.1f %%", cost), cost < 15)
	} else if c != nil {
		row("KSN checks alone: less than 15 % (with -profile also the audit log)", fmt.Sprintf("%.1f %%", c.RatePercent), c.RatePercent < 15)
	}
	for _, c := range r.Compared {
		if c.With != theOther {
			row(fmt.Sprintf("%s, audit log against %s: less than 10 %%", c.This.Operation, c.With), fmt.Sprintf("%.1f %%", c.RatePercent), c.RatePercent < 10)
		}
	}
	for _, o := range []operation{tdesToZone, aesToZone} {
		low, high := spread(r.Terminals, func(f *figures) bool { return f.Operation == o.String() && f.UnderWay == r.Setup.Calls })
		if low != high {
			row(fmt.Sprintf("%s: rate flat over the number of terminals", o), fmt.Sprintf("lowest is %.0f %% of highest", 100*low.Rate/high.Rate), low.Rate >= flat*high.Rate)
		}
	}
	if low, high := spread(r.Keys, func(*figures) bool { return true }); low != high {
		row("zone → zone: rate flat over the number of keys", fmt.Sprintf("lowest is %.0f %% of highest", 100*low.Rate/high.Rate), low.Rate >= flat*high.Rate)
	}
	return t
}

// flat is what part of the highest rate the lowest must be to count as flat: two
// measurements of the same differ by as much on a shared machine.
const flat = 0.85

// pacedAt returns the TDES DUKPT figures that were paced at a rate.
func (r *results) pacedAt(m mode, rate float64) *figures {
	for i := range r.Paced {
		f := &r.Paced[i]
		if f.Operation == tdesToZone.String() && f.Mode == string(m) && f.Target == rate {
			return f
		}
	}
	return nil
}

// auditCost is what audit log and KSN checks cost together, in percent: the share of the
// rate that KSN checks take, and the share of all processor time of a TDES DUKPT
// translation that the front spends in package audit.
func (r *results) auditCost() float64 {
	on := r.KSN[0]
	all := sum(on.CPU, "")
	return r.KSNCost.RatePercent + r.Shares.Audit*sum(on.CPU, "front")/all
}
