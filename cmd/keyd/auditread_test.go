package main

import (
	"strings"
	"testing"
)

func TestWhatIsWantedIsPossible(t *testing.T) {
	for _, w := range []wanted{
		{}, {first: 3, last: 3}, {first: 3}, {last: 3}, {reason: "PIN_BLOCK_INVALID"}, {reason: "CANCELLED"}, {reason: "INTERNAL"},
		{since: "2026-01-31", until: "2026-02-01"},
	} {
		if err := w.check(); err != nil {
			t.Errorf("%+v: %v", w, err)
		}
	}
	for says, w := range map[string]wanted{
		"--from is after --to":         {first: 4, last: 3},
		`there is no reason "NOPE"`:    {reason: "NOPE"},
		"--decision is":                {decision: "nope"},
		"--until is not after --since": {since: "2026-02-01", until: "2026-01-31"},
	} {
		if err := w.check(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v; it should say %q", w, err, says)
		}
	}
}
