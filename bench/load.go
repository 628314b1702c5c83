package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
)

// mode is how requests are sent.
type mode string

const (
	unary  mode = "unary"
	stream mode = "stream"
)

// caller sends requests, one at a time. Each terminal belongs to one caller, so it has
// one call under way at most.
type caller struct {
	number int
	maker  *maker
	turn   int       // of its terminals
	plan   []request // made and not answered, in the order of sending
	next   int       // in plan
	*message

	sent time.Time       // stream: when the request under way was due
	due  []time.Duration // stream: arrivals that wait for the request under way
	busy bool            // stream: a request is under way
}

// load is a workload in one mode on some connections.
type load struct {
	w       *workload
	mode    mode
	conns   []*grpc.ClientConn
	callers []*caller

	// drains has every answer count, with the time until the last: for what may take longer than a
	// measurement.
	drains bool

	halted  atomic.Bool
	mu      sync.Mutex
	ended   time.Time // when the measurement did: what is answered later is not counted in the rate
	failure error
	stop    context.CancelFunc // breaks off all calls

	latencies *histogram
	lateness  *histogram // paced: of the generator
	counted   atomic.Uint64
	answered  atomic.Uint64
}

// newLoad returns a load of up to most callers: with fewer terminals there are fewer.
func newLoad(w *workload, m mode, conns []*grpc.ClientConn, most int) (*load, error) {
	l := &load{w: w, mode: m, conns: conns}
	n := most
	if w.dukpt() {
		n = min(n, len(w.counters))
	}
	for i := range n {
		maker, err := w.newMaker(uint64(i))
		if err != nil {
			return nil, err
		}
		l.callers = append(l.callers, &caller{number: i, maker: maker, message: newMessage(w, uint64(i))})
	}
	return l, nil
}

// generate makes requests until each caller has n that it has not sent.
func (l *load) generate(ctx context.Context, n int) error {
	callers := make(chan *caller, len(l.callers))
	for _, c := range l.callers {
		callers <- c
	}
	close(callers)
	errs := make([]error, runtime.NumCPU())
	var wait sync.WaitGroup
	for i := range errs {
		wait.Go(func() {
			for c := range callers {
				if errs[i] == nil && ctx.Err() == nil {
					errs[i] = l.extend(c, n)
				}
			}
		})
	}
	wait.Wait()
	runtime.GC() // now rather than while measuring
	return errors.Join(append(errs, context.Cause(ctx))...)
}

func (l *load) extend(c *caller, n int) error {
	c.plan = append(c.plan[:0], c.plan[c.next:]...)
	c.next = 0
	for len(c.plan) < n {
		terminal := 0
		if terminals := len(l.w.counters); terminals > 0 {
			terminal = c.number + c.turn%l.terminalsOf(c)*len(l.callers)
			c.turn++
		}
		r, err := c.maker.make(uint32(terminal))
		if err != nil {
			return err
		}
		c.plan = append(c.plan, r)
	}
	return nil
}

// terminalsOf is how many terminals belong to a caller: every len(callers)th.
func (l *load) terminalsOf(c *caller) int {
	return (len(l.w.counters) - c.number + len(l.callers) - 1) / len(l.callers)
}

// usedAll tells whether each terminal has sent a request, if there are any.
func (l *load) usedAll() bool {
	if len(l.w.counters) == 0 {
		return true
	}
	for _, c := range l.callers {
		if sent := c.turn - (len(c.plan) - c.next); sent < l.terminalsOf(c) {
			return false
		}
	}
	return true
}

// giveBack makes the terminals forget what was made and not sent.
func (l *load) giveBack() {
	for _, c := range l.callers {
		for i := len(c.plan) - 1; i >= c.next; i-- {
			l.w.giveBack(c.plan[i])
		}
		c.plan = c.plan[:c.next]
	}
}

// patience is how long an answer may take before the run fails.
const patience = 30 * time.Second

// begin starts a measurement with empty figures. The context it returns ends when an
// error ends the measurement, or when what is under way takes too long.
func (l *load) begin(ctx context.Context, length time.Duration) context.Context {
	l.latencies, l.lateness = new(histogram), new(histogram)
	l.counted.Store(0)
	l.answered.Store(0)
	l.halted.Store(false)
	l.ended, l.failure = time.Time{}, nil
	ctx, l.stop = context.WithTimeoutCause(ctx, length+patience, fmt.Errorf("no answer within %v", patience))
	return ctx
}

// halt ends the time in which answers count. Calls under way go on.
func (l *load) halt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.halted.Swap(true) {
		l.ended = time.Now()
	}
}

// fail ends the measurement. The first error is the one that is told: others follow from it.
func (l *load) fail(err error) {
	l.halt()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure == nil {
		l.failure = err
	}
	l.stop()
}

// done counts an answer that was due, or sent, at began.
func (l *load) done(began time.Time) {
	l.latencies.add(time.Since(began))
	l.answered.Add(1)
	if l.drains || !l.halted.Load() {
		l.counted.Add(1)
	}
}

func (l *load) connOf(c *caller) *grpc.ClientConn { return l.conns[c.number%len(l.conns)] }

// call sends one request and waits for its answer.
func (c *caller) call(ctx context.Context, conn *grpc.ClientConn) error {
	r := &c.plan[c.next]
	c.next++
	c.fill(r)
	var err error
	switch {
	case c.w.operation == emptyCall:
		err = conn.Invoke(ctx, keydv1.StatusService_GetStatus_FullMethodName, c.status, c.nothing)
	case c.w.operation.records():
		err = conn.Invoke(ctx, keydv1.PinRecordService_VerifyPin_FullMethodName, c.record, c.tried)
	case c.w.operation.verifies():
		err = conn.Invoke(ctx, keydv1.PinService_VerifyPinData_FullMethodName, c.message.verify, c.verified)
	default:
		err = conn.Invoke(ctx, keydv1.PinService_TranslatePinData_FullMethodName, c.translate, c.translated)
	}
	if err != nil {
		return err
	}
	return c.check(r, c.translated)
}
