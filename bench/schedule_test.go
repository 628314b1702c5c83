package main

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestScheduleCountsWhatIsDue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := schedule{rapid.Float64Range(0.5, 100_000).Draw(t, "rate"), time.Duration(rapid.Int64Range(0, int64(5*time.Second)).Draw(t, "length"))}
		at := time.Duration(rapid.Int64Range(-1, int64(6*time.Second)).Draw(t, "at"))
		n := s.before(at)
		if n < 0 || n > s.arrivals() {
			t.Fatalf("%d of %d are due", n, s.arrivals())
		}
		if n > 0 && s.due(n-1) > at {
			t.Fatalf("request %d counts as due at %v, and is at %v", n-1, at, s.due(n-1))
		}
		if n < s.arrivals() && at >= 0 && s.due(n) <= at {
			t.Fatalf("request %d is due at %v, and does not count at %v", n, s.due(n), at)
		}
		if s.arrivals() > 0 && s.due(s.arrivals()-1) > s.length {
			t.Fatalf("the last request is due at %v of %v", s.due(s.arrivals()-1), s.length)
		}
	})
}

// Every request arrives once, in order, and none before it is due, however slowly the
// one before was taken. Those that become due during a stall keep their times, so the
// first of them is as late as the stall was long after it.
func TestScheduleRuns(t *testing.T) {
	s := schedule{2000, 100 * time.Millisecond}
	var lateness histogram
	var atLeast time.Duration
	began := time.Now()
	next := 0
	s.run(t.Context(), began, &lateness, func(i int, due time.Duration) {
		if i != next || due != s.due(i) {
			t.Fatalf("request %d arrives with %v, want request %d with %v", i, due, next, s.due(next))
		}
		if early := due - time.Since(began); early > 0 {
			t.Fatalf("request %d arrives %v early", i, early)
		}
		if next++; i != 10 {
			return
		}
		begins := time.Since(began) // may itself be late: other requests may be due already
		ends := begins
		for ends < begins+15*time.Millisecond {
			ends = time.Since(began)
		}
		if first := s.before(begins); first < s.arrivals() {
			atLeast = ends - s.due(first)
		}
	})
	if next != 200 || lateness.count() != 200 {
		t.Errorf("%d requests arrived and %d were noted, want 200", next, lateness.count())
	}
	if want := atLeast.Seconds() * 1e3; lateness.percentile(1) < want {
		t.Errorf("the generator was %v ms late at most, want at least %v ms of the stall", lateness.percentile(1), want)
	}
}

func TestScheduleEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	schedule{1000, time.Hour}.run(ctx, time.Now(), new(histogram), func(int, time.Duration) {
		if n++; n == 5 {
			cancel()
		}
	})
	if n < 5 {
		t.Errorf("%d requests arrived", n)
	}
}
