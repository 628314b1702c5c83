package batch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// lanes is how many rows are asked about at once.
const lanes = 8

// Outcome is what became of a row.
type Outcome string

// The outcomes.
const (
	Registered Outcome = "registered" // or would be, in a dry run
	Unchanged  Outcome = "unchanged"  // it was registered with the same content already
	Failed     Outcome = "failed"
)

// Result is what became of one row.
type Result struct {
	Line    int     `json:"line"`
	ID      string  `json:"id"`
	Outcome Outcome `json:"outcome"`
	Problem string  `json:"problem,omitempty"` // of what failed
}

// Counts is how many rows had which outcome.
type Counts struct {
	Registered int `json:"registered"`
	Unchanged  int `json:"unchanged"`
	Failed     int `json:"failed"`
}

// Refused is the error of a row that the service refuses, and of nothing else: the next row is
// tried all the same.
type Refused struct{ Why string }

func (r Refused) Error() string { return r.Why }

// Run has every row of a file registered, some at once, and reports each in the order of the
// file. register is called by several goroutines, and says whether the row was registered
// already; any error of it but [Refused] ends the run, as does one of the file. What was
// reported until then has happened. Run with the same file again, rows that are registered are
// unchanged.
func Run(ctx context.Context, r *Reader, register func(context.Context, *Row) (unchanged bool, err error), report func(Result)) (Counts, error) {
	var counts Counts
	for {
		var rows []*Row
		var ended error
		for len(rows) < lanes && ended == nil {
			var row *Row
			if row, ended = r.Next(); ended == nil {
				rows = append(rows, row)
			}
		}
		results, errs := make([]Result, len(rows)), make([]error, len(rows))
		var wait sync.WaitGroup
		for i, row := range rows {
			wait.Go(func() { results[i], errs[i] = one(ctx, row, register) })
		}
		wait.Wait()
		for i, result := range results {
			if errs[i] != nil {
				return counts, fmt.Errorf("line %d: %w", rows[i].Line, errs[i])
			}
			counts.add(result.Outcome)
			report(result)
		}
		switch {
		case errors.Is(ended, io.EOF):
			return counts, nil
		case ended != nil:
			return counts, ended
		}
	}
}

func one(ctx context.Context, row *Row, register func(context.Context, *Row) (bool, error)) (Result, error) {
	result := Result{Line: row.Line, ID: row.ID, Outcome: Failed, Problem: row.Problem}
	if row.Problem != "" {
		return result, nil
	}
	unchanged, err := register(ctx, row)
	var refused Refused
	switch {
	case errors.As(err, &refused):
		result.Problem = refused.Why
	case err != nil:
		return result, err
	case unchanged:
		result.Outcome = Unchanged
	default:
		result.Outcome = Registered
	}
	return result, nil
}

func (c *Counts) add(o Outcome) {
	switch o {
	case Registered:
		c.Registered++
	case Unchanged:
		c.Unchanged++
	case Failed:
		c.Failed++
	}
}
