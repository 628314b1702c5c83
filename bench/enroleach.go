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

// perTerminal is how long one terminal may take for a step.
const perTerminal = time.Minute

// each has terminals do something, a number of them at once, and measures it where it says so.
// The first error ends the step.
func (e *enrolling) each(name string, of []*enrolled, measured bool, do func(context.Context, *enrolled) error) error {
	ctx, cancel := context.WithCancelCause(e.ctx)
	defer cancel(nil)
	took := new(histogram)
	var next, done atomic.Int64
	bar := newBar(e.progress, name, len(of), &done)
	before, err := readCPU(e.processes)
	if err != nil {
		return err
	}
	began := time.Now()
	var workers sync.WaitGroup
	for range min(e.out.AtOnce, len(of)) {
		workers.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(len(of)) || ctx.Err() != nil {
					return
				}
				one, stop := context.WithTimeout(ctx, perTerminal)
				start := time.Now()
				err := do(one, of[i])
				stop()
				if err != nil {
					cancel(fmt.Errorf("%s, terminal %s: %w", name, of[i].id, err))
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
		return err
	}
	if int(done.Load()) != len(of) {
		return errors.New(name + ": not every terminal had its turn")
	}
	after, err := readCPU(e.processes)
	if err != nil {
		return err
	}
	var used usage
	used.add(before, after)
	rate := float64(len(of)) / seconds
	e.say("    %s: %s in %.1f s, %.1f/s", name, number(float64(len(of))), seconds, rate)
	if measured {
		e.out.Steps = append(e.out.Steps, step{
			Name: name, Count: len(of), Seconds: seconds, Rate: rate, P50: took.percentile(0.5), P99: took.percentile(0.99), Others: used.others(),
		})
	}
	return nil
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
