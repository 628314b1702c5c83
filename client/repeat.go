package client

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
)

// Pauses between attempts at the same keyd: the first, how they grow, and the longest.
const (
	firstPause   = 25 * time.Millisecond
	pauseGrowth  = 3
	longestPause = time.Second
)

// unary applies the policy to every call of the connection that is not a stream.
func (c *Client) unary(ctx context.Context, method string, request, answer any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
	return c.repeat(ctx, method, request, func(ctx context.Context) error {
		return invoke(ctx, method, request, answer, cc, o...)
	})
}

// withDeadline gives a call that has no deadline the configured one.
func (c *Client) withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.config.Timeout)
}

// repeat makes attempts until one is answered, or another is not allowed or would come
// too late. It returns the last attempt's error.
func (c *Client) repeat(ctx context.Context, method string, request any, attempt func(context.Context) error) error {
	ctx, cancel := c.withDeadline(ctx)
	defer cancel()
	r := newRoute(request)
	allowed := methods[method]
	costs := 0 // repeats that may have cost a try
	for n := 1; ; {
		more := n < c.config.Attempts && c.mayRepeat(allowed, costs)
		cut, err := c.attempt(ctx, r, more, attempt)
		if err == nil {
			c.budget.earn()
			return nil
		}
		v, pause := judge(err, cut)
		if cut && v == unsure && r.reached() == "" {
			continue // it waited for a keyd, in vain so far: no attempt
		}
		switch v {
		case final:
			if reason, _ := ReasonOf(err); reason != "" {
				c.budget.earn()
			}
			return err
		case later:
			if n >= c.config.Attempts || !c.budget.spend() {
				return err
			}
			pause += jitter(min(max(pause/4, firstPause), longestPause))
		case unsure, unrecorded:
			if !more || !c.budget.spend() {
				return err
			}
			costs++
			// The first repeat about a terminal goes to its home, which may have
			// stored the answer; if the home is gone, the next keyd gets it.
			if r.terminal == 0 || n > 1 || v == unrecorded {
				r.leave()
			}
			if pause = pauseAfter(n); c.another(r) {
				pause = 0
			}
		}
		if !sleep(ctx, pause) {
			return err
		}
		n++
	}
}

// mayRepeat reports whether a call may be sent again that may have been carried out.
func (c *Client) mayRepeat(allowed repeatable, costs int) bool {
	switch allowed {
	case freely:
		return true
	case costly:
		return costs < c.config.TryRepeats
	}
	return false
}

// attempt makes one. If there can be another after it, its time is cut; cut says that this
// time is over, and the caller's is not.
func (c *Client) attempt(ctx context.Context, r *route, more bool, attempt func(context.Context) error) (cut bool, err error) {
	r.begin()
	ctx = r.in(ctx)
	whole, _ := ctx.Deadline()
	if !more || time.Until(whole) <= c.config.AttemptTimeout {
		return false, attempt(ctx)
	}
	part, cancel := context.WithTimeout(ctx, c.config.AttemptTimeout)
	defer cancel()
	err = attempt(part)
	end, _ := part.Deadline()
	return time.Until(end) < endMargin && ctx.Err() == nil, err
}

// endMargin is how long before the end of its time an attempt may be given up: keyd takes
// 20 ms off a deadline, to be able to say so.
const endMargin = 100 * time.Millisecond

// another reports whether there is a healthy keyd that has not failed the call.
func (c *Client) another(r *route) bool {
	ready, _ := c.view.get()
	avoid := r.avoided()
	return len(avoid) > 0 && !ready.allAvoided(avoid)
}

// pauseAfter is the pause after the nth attempt.
func pauseAfter(n int) time.Duration {
	p := firstPause
	for ; n > 1 && p < longestPause; n-- {
		p *= pauseGrowth
	}
	return jitter(min(p, longestPause))
}

// jitter is half of a time to the whole of it, so that callers who failed together do not
// come again together.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// leastTime is what an attempt needs: with less, the caller would learn only that the time
// is over. keyd takes 20 ms of it off.
const leastTime = 50 * time.Millisecond

// sleep returns false, at once, if there would be no time left for an attempt.
func sleep(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d+leastTime {
		return false
	}
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
