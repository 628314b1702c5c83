package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	keydv1 "keyd/api/keyd/v1"
)

// schedule says when requests are due: at a fixed rate, whatever becomes of them.
type schedule struct {
	rate   float64 // a second
	length time.Duration
}

// arrivals is how many requests are due in all.
func (s schedule) arrivals() int { return int(s.rate * s.length.Seconds()) }

// due is when request i is, counted from the beginning.
func (s schedule) due(i int) time.Duration {
	return time.Duration(float64(i) / s.rate * float64(time.Second))
}

// before is how many requests are due at or before a time.
func (s schedule) before(t time.Duration) int {
	if t < 0 {
		return 0
	}
	n := min(s.arrivals(), int(t.Seconds()*s.rate)+1)
	for n < s.arrivals() && s.due(n) <= t { // rounding
		n++
	}
	for n > 0 && s.due(n-1) > t {
		n--
	}
	return n
}

// tick is how long the generator sleeps at least: what is due meanwhile is late by as
// much, and its latency longer. The lateness is measured and reported.
const tick = 500 * time.Microsecond

// run calls arrive for each request when it is due, in order, and the load's lateness
// gets by how much it was late. It sleeps in the kernel: the runtime's timers are a
// millisecond coarse.
func (s schedule) run(ctx context.Context, began time.Time, lateness *histogram, arrive func(i int, due time.Duration)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for next := 0; next < s.arrivals() && ctx.Err() == nil; {
		now := time.Since(began)
		for end := s.before(now); next < end; next++ {
			due := s.due(next)
			lateness.add(now - due)
			arrive(next, due)
		}
		if next == s.arrivals() {
			return
		}
		pause := unix.NsecToTimespec(int64(max(tick, s.due(next)-time.Since(began))))
		_ = unix.Nanosleep(&pause, nil) // interrupted: the loop looks at the clock
	}
}

// paced drives the load at a fixed rate: request i belongs to caller i modulo their
// number, and waits there while the caller's call before it is under way. Latencies
// count from when a request was due. It returns how long it took until all were
// answered.
func (l *load) paced(ctx context.Context, s schedule) (time.Duration, error) {
	parent := ctx
	if s.arrivals() < 1 {
		return 0, errors.New("paced load: nothing is due in this time")
	}
	if err := l.generate(ctx, s.arrivals()/len(l.callers)+1); err != nil {
		return 0, err
	}
	ctx = l.begin(ctx, s.length)
	defer l.stop()
	var wait sync.WaitGroup
	var began time.Time
	if l.mode == unary {
		began = time.Now()
		l.pacedUnary(ctx, s, began, &wait)
	} else {
		streams, err := l.openStreams(ctx)
		if err != nil {
			return 0, err
		}
		began = time.Now()
		l.pacedStream(ctx, s, streams, began, &wait)
	}
	wait.Wait()
	if parent.Err() != nil {
		return 0, context.Cause(parent)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch answered := l.answered.Load(); {
	case l.failure != nil:
		return 0, l.failure
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case answered != uint64(s.arrivals()):
		return 0, fmt.Errorf("%d requests were due and %d answered", s.arrivals(), answered)
	}
	return time.Since(began), nil
}

func (l *load) pacedUnary(ctx context.Context, s schedule, began time.Time, wait *sync.WaitGroup) {
	due := make([]chan time.Duration, len(l.callers))
	for i, c := range l.callers {
		due[i] = make(chan time.Duration, s.arrivals()/len(l.callers)+1) // room for all: the schedule waits for nobody
		wait.Go(func() {
			conn := l.connOf(c)
			for at := range due[i] {
				if err := c.call(ctx, conn); err != nil {
					l.fail(err)
					return
				}
				l.done(began.Add(at))
			}
		})
	}
	s.run(ctx, began, l.lateness, func(i int, at time.Duration) { due[i%len(due)] <- at })
	for _, d := range due {
		close(d)
	}
}

// pacedItems is a stream of a paced load.
type pacedItems struct {
	load   *load
	number int
	stream pinStream
	began  time.Time

	mu sync.Mutex // of sending, and of the callers' due and busy
}

func (l *load) openStreams(ctx context.Context) ([]*pacedItems, error) {
	var all []*pacedItems
	for i, conn := range l.conns[:min(len(l.conns), len(l.callers))] {
		s, err := keydv1.NewPinServiceClient(conn).TranslatePinDataStream(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, &pacedItems{load: l, number: i, stream: s})
	}
	return all, nil
}

func (l *load) pacedStream(ctx context.Context, s schedule, streams []*pacedItems, began time.Time, wait *sync.WaitGroup) {
	for _, c := range l.callers {
		c.due, c.busy = c.due[:0], false
	}
	for _, p := range streams {
		p.began = began
		answers := 0
		for c := p.number; c < len(l.callers); c += len(l.conns) {
			answers += (s.arrivals() - c + len(l.callers) - 1) / len(l.callers)
		}
		wait.Go(func() {
			if err := p.receiveAll(answers); err != nil {
				l.fail(err)
			}
		})
	}
	s.run(ctx, began, l.lateness, func(i int, at time.Duration) {
		c := l.callers[i%len(l.callers)]
		if err := streams[c.number%len(l.conns)].arrive(c, at); err != nil {
			l.fail(err)
		}
	})
}

// arrive sends a caller's next request, or lets it wait for the one under way.
func (p *pacedItems) arrive(c *caller, at time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.busy {
		c.due = append(c.due, at)
		return nil
	}
	return p.send(c, at)
}

func (p *pacedItems) send(c *caller, at time.Duration) error {
	c.busy, c.sent = true, p.began.Add(at)
	c.fill(&c.plan[c.next])
	c.next++
	if err := p.stream.Send(c.item); err != nil && !errors.Is(err, io.EOF) { // EOF: receiving tells why
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

func (p *pacedItems) receiveAll(n int) error {
	answer := new(keydv1.TranslatePinDataStreamResponse)
	for range n {
		c, err := p.load.receive(p.stream, answer, p.number)
		if err != nil {
			return err
		}
		if err := p.answered(c, answer); err != nil {
			return err
		}
	}
	return finish(p.stream)
}

// answered takes an answer and sends the caller's next request, if one is due.
func (p *pacedItems) answered(c *caller, answer *keydv1.TranslatePinDataStreamResponse) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.load.take(c, answer); err != nil {
		return err
	}
	c.busy = false
	if len(c.due) == 0 {
		return nil
	}
	at := c.due[0]
	c.due = c.due[1:]
	return p.send(c, at)
}

// finish ends a stream on which nothing is under way, and waits until the server has too.
func finish(s pinStream) error {
	if err := s.CloseSend(); err != nil {
		return err
	}
	switch _, err := s.Recv(); {
	case err == nil:
		return errors.New("wrong answer: one more than was asked")
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("end of the stream: %w", err)
	}
	return nil
}
