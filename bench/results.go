package main

import (
	"fmt"
	"slices"
	"strings"
)

// results is everything that a run found.
type results struct {
	Machine     machine          `json:"machine"`
	Setup       setup            `json:"setup"`
	Token       tokenCosts       `json:"bare_token"`
	Derivations derivationRates  `json:"dukpt_derivations"`
	Empty       []figures        `json:"empty_calls"`
	Closed      []figures        `json:"maximum"`
	Calls       []operationCalls `json:"token_calls"`
	Paced       []figures        `json:"paced"`
	KSN         []figures        `json:"ksn_checks"`
	KSNCost     *ksnCost         `json:"ksn_cost,omitempty"`
	Compared    []comparison     `json:"compared,omitempty"`
	Terminals   []figures        `json:"terminals"`
	Keys        []figures        `json:"keys"`
	Enrolment   *enrolment       `json:"enrolment,omitempty"`
	Alone       []alone          `json:"module_alone,omitempty"`
	Records     []figures        `json:"pin_records,omitempty"`
	Voids       []voidFigures    `json:"voids,omitempty"`
	Shares      *shares          `json:"front_profile,omitempty"`
}

// setup is how it was measured.
type setup struct {
	Modules     int     `json:"modules"`
	Seconds     float64 `json:"seconds_each"`
	Calls       int     `json:"calls_under_way"`
	Connections int     `json:"connections"`
	Terminals   int     `json:"terminals"`
	Age         int     `json:"counters_up_to"`
	KSN         string  `json:"ksn"`
	Full        bool    `json:"full"`
}

// operationCalls is what the bare token is asked for an operation, and how often it can
// do that.
type operationCalls struct {
	Operation string     `json:"operation"`
	Calls     tokenCalls `json:"calls"`
	Rate      float64    `json:"bare_token_per_second"`
}

// ksnCost compares KSN checks with none, in the same service.
type ksnCost struct {
	RatePercent float64 `json:"rate_percent"` // of the rate without
	FrontUS     float64 `json:"front_us"`     // of the front's processor time, an operation
	AllUS       float64 `json:"front_and_modules_us"`
}

// find returns the figures of a scenario; nil where it was not measured.
func find(list []figures, o operation, m mode) *figures {
	for i := range list {
		if list[i].Operation == o.String() && list[i].Mode == string(m) {
			return &list[i]
		}
	}
	return nil
}

// spread returns the lowest and the highest rate of the figures that keep says.
func spread(list []figures, keep func(*figures) bool) (low, high *figures) {
	for i := range list {
		f := &list[i]
		if !keep(f) {
			continue
		}
		if low == nil || f.Rate < low.Rate {
			low = f
		}
		if high == nil || f.Rate > high.Rate {
			high = f
		}
	}
	return low, high
}

// number prints a count or a rate with a comma between thousands.
func number(v float64) string {
	digits := fmt.Sprintf("%.0f", v)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// Others is the largest share of the processors, in percent, that other programs took
// while something was measured.
func (r *results) Others() (most float64) {
	for _, f := range slices.Concat(r.Empty, r.Closed, r.Paced, r.KSN, r.compared(), r.Terminals, r.Keys, r.Records) {
		most = max(most, f.Others)
	}
	for _, f := range r.Voids {
		most = max(most, f.Others)
	}
	if r.Enrolment != nil {
		for _, s := range r.Enrolment.Steps {
			most = max(most, s.Others)
		}
	}
	return most
}

// compared are the figures of both sides of the comparisons.
func (r *results) compared() (all []figures) {
	for _, c := range r.Compared {
		all = append(all, c.This, c.Other)
	}
	return all
}
