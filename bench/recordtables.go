package main

import (
	"fmt"
	"strings"
)

// RecordPINs shows PINs of PIN records beside PVVs, and what a module takes by itself.
func (r *results) RecordPINs() table {
	t := table{
		Title:  "PINs of PIN records, whose tries are counted on the disk first, beside PVVs, on both databases in turns",
		Header: []string{"operation", "database", "under way", "ops/s", "of the PVV's %", "p50 ms", "p99 ms", "p99.9 ms", "front µs", "modules µs", "client µs"},
		Note: "Each right PIN takes a try and gives it back. Every answer counts, with the time until the last. One subject has two calls under way at most, as many as wrong ones would leave a try. A module alone: its own benchmark, one operation after the other, on a token " +
			"without front, network and database. PostgreSQL runs on the same machine and disk; its processor time counts as other programs'.",
	}
	if len(r.Records) == 0 {
		return t
	}
	for i := range r.Records {
		f := &r.Records[i]
		share := ""
		if plain := r.plain(f); plain != nil && plain != f {
			share = us(100 * f.Rate / plain.Rate)
		}
		t.Rows = append(t.Rows, []string{f.Name, f.Database, fmt.Sprint(f.UnderWay), number(f.Rate), share, ms(f.P50), ms(f.P99), ms(f.P999), us(sum(f.CPU, "front")), us(sum(f.CPU, "module")), us(f.CPU["client"])})
	}
	for _, a := range r.Alone {
		t.Rows = append(t.Rows, []string{a.Name + ", a module alone", "none", "1", number(1e6 / a.US), "", ms(a.US / 1e3), "", "", "", us(a.US), ""})
	}
	return t
}

// plain returns the PVVs that the figures of a PIN record are compared with: of the same scheme, on
// the same database; nil where there are none.
func (r *results) plain(f *figures) *figures {
	scheme, _, _ := strings.Cut(f.Operation, ",")
	for i := range r.Records {
		if p := &r.Records[i]; p.Database == f.Database && p.Operation == scheme+", "+verifyPVV.String() {
			return p
		}
	}
	return nil
}

// VoidFlows shows voids, from the code to the switch's word.
func (r *results) VoidFlows() table {
	t := table{
		Title:  "Voids, the whole way, on both databases in turns: p50 / p99 in ms of each step",
		Header: append(append([]string{"authorised by", "database", "at once", "voids/s", "whole"}, voidSteps...), "front µs", "modules µs", "client µs"),
		Note:   "Each shop has a supervisor and voids one payment after the other. PINs and their MACs are AES DUKPT's. The token is verified by the load generator with package voidtoken. µs: processor time a void.",
	}
	pair := func(p50, p99 float64) string { return ms(p50) + " / " + ms(p99) }
	for i := range r.Voids {
		f := &r.Voids[i]
		row := []string{strings.TrimPrefix(f.Name, "voids, "), f.Database, fmt.Sprint(f.UnderWay), us(f.Rate), pair(f.P50, f.P99)}
		for _, s := range f.Steps {
			row = append(row, pair(s.P50, s.P99))
		}
		t.Rows = append(t.Rows, append(row, us(sum(f.CPU, "front")), us(sum(f.CPU, "module")), us(f.CPU["client"])))
	}
	return t
}
