package turns

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// One at a time has a turn, in whichever order two are named; who gives up leaves nothing.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(Turns)
		var having, most atomic.Int64
		var all sync.WaitGroup
		for i := range 20 {
			pair := [][]string{{"one", "two"}, {"two", "one"}, {"one"}, {"one", "one"}}[i%4]
			all.Go(func() {
				end, err := s.Take(t.Context(), pair...)
				if err != nil {
					t.Error(err)
					return
				}
				most.Store(max(most.Load(), having.Add(1)))
				time.Sleep(time.Second)
				having.Add(-1)
				end()
			})
		}
		all.Wait()
		if most.Load() != 1 {
			t.Errorf("%d had the turn at once", most.Load())
		}
		end, err := s.Take(t.Context(), "one")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Take(ctx, "two", "one"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while another has it: %v", err)
		}
		free, err := s.Take(t.Context(), "two")
		if err != nil {
			t.Fatal(err)
		}
		free()
		end()
		if len(s.of) != 0 {
			t.Errorf("%d turns are left", len(s.of))
		}
	})
}
