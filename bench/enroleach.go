package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"
)

// perTerminal is how long one terminal, or one subject of a PIN, may take for a step.
const perTerminal = time.Minute

// each has terminals do something, a number of them at once, and measures it where it says so.
// The first error ends the step.
func (e *enrolling) each(name string, of []*enrolled, measured bool, do func(context.Context, *enrolled) error) error {
	s, err := e.together(name, len(of), e.out.AtOnce, e.processes, func(ctx context.Context, i int) error {
		if err := do(ctx, of[i]); err != nil {
			return fmt.Errorf("terminal %s: %w", of[i].id, err)
		}
		return nil
	})
	if err == nil && measured {
		e.out.Steps = append(e.out.Steps, s)
	}
	return err
}

// together does something n times, a number of them at once, shows how far it is and measures it. The
// first error ends it.
func (r *runner) together(name string, n, atOnce int, list []process, do func(ctx context.Context, i int) error) (s step, err error) {
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	took := new(histogram)
	var next, done atomic.Int64
	bar := newBar(r.progress, name, n, &done)
	before, err := readCPU(list)
	if err != nil {
		bar.end()
		return s, err
	}
	began := time.Now()
	var workers sync.WaitGroup
	for range min(atOnce, n) {
		workers.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(n) || ctx.Err() != nil {
					return
				}
				one, stop := context.WithTimeout(ctx, perTerminal)
				start := time.Now()
				err := do(one, int(i))
				stop()
				if err != nil {
					cancel(fmt.Errorf("%s: %w", name, err))
					return
				}
				took.add(time.Since(start))
				done.Add(1)
			}
		})
	}
	workers.Wait()
	seconds := time.Since(began).Seconds()
	bar.end()
	if err := context.Cause(ctx); err != nil {
		return s, err
	}
	if int(done.Load()) != n {
		return s, errors.New(name + ": not all had their turn")
	}
	after, err := readCPU(list)
	if err != nil {
		return s, err
	}
	var used usage
	used.add(before, after)
	rate := float64(n) / seconds
	r.say("    %s: %s in %.1f s, %.1f/s", name, number(float64(n)), seconds, rate)
	return step{Name: name, Count: n, Seconds: seconds, Rate: rate, P50: took.percentile(0.5), P99: took.percentile(0.99), Others: used.others()}, nil
}

// bar shows how far a step is: on a terminal as a bar that moves, elsewhere as a line now and
// then.
type bar struct {
	out   io.Writer
	name  string
	of    int
	done  *atomic.Int64
	moves bool
	stop  chan struct{}
	ended chan struct{}
}

const (
	barWidth = 40
	barMoves = 100 * time.Millisecond
	barSays  = 10 * time.Second
)

func newBar(out io.Writer, name string, of int, done *atomic.Int64) *bar {
	b := &bar{out: out, name: name, of: of, done: done, stop: make(chan struct{}), ended: make(chan struct{})}
	if f, ok := out.(*os.File); ok {
		b.moves = term.IsTerminal(int(f.Fd()))
	}
	go b.run()
	return b
}

func (b *bar) run() {
	defer close(b.ended)
	every := barSays
	if b.moves {
		every = barMoves
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if b.moves {
				fmt.Fprint(b.out, "\r"+b.line()) //nolint:errcheck // progress only
			} else {
				fmt.Fprintln(b.out, b.line()) //nolint:errcheck // progress only
			}
		case <-b.stop:
			if b.moves {
				fmt.Fprint(b.out, "\r\x1b[K") //nolint:errcheck // progress only
			}
			return
		}
	}
}

// line is the bar as it is now.
func (b *bar) line() string {
	done := int(b.done.Load())
	full := barWidth
	if b.of > 0 {
		full = min(barWidth, barWidth*done/b.of)
	}
	return fmt.Sprintf("    %-20s [%s%s] %s of %s", b.name, strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), number(float64(done)), number(float64(b.of)))
}

// end takes the bar away.
func (b *bar) end() {
	close(b.stop)
	<-b.ended
}
