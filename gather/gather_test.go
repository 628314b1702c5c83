package gather_test

import (
	"testing"
	"testing/synctest"
	"time"

	"keyd/gather"
)

func TestNothingWaitsThatIsAlone(t *testing.T) {
	g := gather.NewGate()
	if g.Worthwhile(1) {
		t.Error("a writer that knows of nothing waits")
	}
	end := g.Begin()
	if g.Worthwhile(1) || g.Worthwhile(0) {
		t.Error("it waits for one request")
	}
	end()
}

// TestWaitEndsWithTheLast by the test's own clock.
func TestWaitEndsWithTheLast(t *testing.T) {
	for name, c := range map[string]struct {
		come int // of ten, one after each 50 µs
		want time.Duration
	}{
		"all come":   {10, 450 * time.Microsecond},
		"some do":    {7, gather.Limit},
		"none comes": {0, gather.Limit},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := gather.NewGate()
			for range 10 {
				defer g.Begin()()
			}
			if !g.Worthwhile(0) {
				t.Fatalf("%s: it does not wait", name)
			}
			go func() {
				for n := range c.come {
					g.Came(n + 1)
					time.Sleep(50 * time.Microsecond)
				}
			}()
			began := time.Now()
			g.Wait(gather.Limit, nil)
			if took := time.Since(began); took != c.want {
				t.Errorf("%s: it waited %v, want %v", name, took, c.want)
			}
			time.Sleep(time.Millisecond) // for those that come afterwards
			// What has been left behind by this wait does not end the next.
			g.Came(10)
			if !g.Worthwhile(2) {
				t.Fatalf("%s: it does not wait again", name)
			}
			began = time.Now()
			g.Wait(gather.Limit, nil)
			if took := time.Since(began); took != gather.Limit {
				t.Errorf("%s: the next one waited %v", name, took)
			}
		})
	}
}

func TestWaitEndsWithTheWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gather.NewGate()
		stop := make(chan struct{})
		close(stop)
		began := time.Now()
		g.Wait(time.Hour, stop)
		if took := time.Since(began); took != 0 {
			t.Errorf("it waited %v", took)
		}
	})
}

// Who waits for many waits longer.
func TestLimit(t *testing.T) {
	g := gather.NewGate()
	var ends []func()
	for range gather.Many - 1 {
		ends = append(ends, g.Begin())
	}
	if got := g.Limit(); got != gather.Limit {
		t.Errorf("%v for %d", got, gather.Many-1)
	}
	ends = append(ends, g.Begin())
	if got := g.Limit(); got != gather.LongLimit {
		t.Errorf("%v for %d", got, gather.Many)
	}
	for _, end := range ends {
		end()
	}
	if got := g.Limit(); got != gather.Limit {
		t.Errorf("%v for none", got)
	}
}
