package server

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"

	"keyd/audit"
	"keyd/fault"
	"keyd/policies"
)

const (
	// maxClients bounds the identities whose use is remembered. With identities of the
	// usual length it stays below 20 MB. One that is forgotten begins anew: to be so, it
	// must have been silent while half as many others came.
	maxClients = 1 << 15

	// leftOutAfter is when entries that were left out are reported, if no entry of the
	// same identity has come in between that could say so.
	leftOutAfter = 10 * time.Second
)

// clients bounds what one identity may take of the service: requests, and lines of the
// audit log about what it was denied. The limits are the policy's.
type clients struct {
	log   *slog.Logger
	write func(audit.Entry) error // into the audit log

	mu         sync.Mutex
	young, old map[string]*client // by identity; see package keys for the two halves
	nobody     *client            // all those whose certificate has no identity

	owing   []*client   // have entries that were left out
	reports *time.Timer // not nil: will report them
}

// client is what is remembered of one identity.
type client struct {
	identity string
	policy   atomic.Pointer[policies.Policy] // whose limits these are
	requests *rate.Limiter
	denials  *rate.Limiter
	leftOut  atomic.Int64 // entries since the last one
}

func newClients(log *slog.Logger, write func(audit.Entry) error) *clients {
	return &clients{log: log, write: write, nobody: newClient("", nil)}
}

func newClient(identity string, p *policies.Policy) *client {
	c := &client{identity: identity, requests: limiter(p.Limit(identity)), denials: limiter(p.Denials())}
	c.policy.Store(p)
	return c
}

func limiter(l policies.Limit) *rate.Limiter { return rate.NewLimiter(perSecond(l), burst(l)) }

// burst is never 0: what was unlimited must not begin with nothing when a new policy limits
// it.
func burst(l policies.Limit) int {
	if l.Unlimited() {
		return math.MaxInt32
	}
	return l.Burst
}

func perSecond(l policies.Limit) rate.Limit {
	if l.Unlimited() {
		return rate.Inf
	}
	return rate.Limit(l.PerSecond)
}

// admit is the step that counts a request and refuses what is too much. It comes after
// the identity is known and before anything is done for it.
func (t *clients) admit(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	c := callOf(ctx)
	if c == nil || c.exempt {
		return next(ctx, request) // a request without a call cannot succeed: see requireAuthorization
	}
	c.client = t.of(c.identity, c.policy)
	if wait, ok := take(c.client.requests, time.Now()); !ok {
		return nil, tooMany("requests of this identity", wait)
	}
	return next(ctx, request)
}

// of returns what is remembered of an identity, with the limits of the policy.
func (t *clients) of(identity string, p *policies.Policy) *client {
	c := t.remembered(identity, p)
	if c.policy.Load() != p { // a new one was loaded; what is used up stays used up
		requests, denials := p.Limit(identity), p.Denials()
		c.requests.SetLimit(perSecond(requests))
		c.requests.SetBurst(burst(requests))
		c.denials.SetLimit(perSecond(denials))
		c.denials.SetBurst(burst(denials))
		c.policy.Store(p)
	}
	return c
}

func (t *clients) remembered(identity string, p *policies.Policy) *client {
	t.mu.Lock()
	defer t.mu.Unlock()
	if identity == "" {
		return t.nobody
	}
	c, ok := t.young[identity]
	if ok {
		return c
	}
	if c, ok = t.old[identity]; !ok {
		c = newClient(identity, p)
	}
	delete(t.old, identity)
	if t.young == nil || len(t.young) >= maxClients/2 {
		t.old, t.young = t.young, make(map[string]*client, 64)
	}
	t.young[identity] = c
	return c
}

// take takes one from a limiter, or says how long it is until there is one.
func take(l *rate.Limiter, now time.Time) (wait time.Duration, ok bool) {
	if l.AllowN(now, 1) {
		return 0, true
	}
	missing := max(1-l.TokensAt(now), 0)
	seconds := missing / float64(l.Limit())
	wait = time.Duration(math.Ceil(seconds*1000)) * time.Millisecond
	return max(wait, time.Millisecond), false
}

// tooManyError is a refusal that says when to try again.
type tooManyError struct {
	refusal *fault.Error
	wait    time.Duration
}

// Error returns what the caller may read.
func (e *tooManyError) Error() string { return e.refusal.Error() }

// Unwrap returns the refusal.
func (e *tooManyError) Unwrap() error { return e.refusal }

func tooMany(of string, wait time.Duration) error {
	return &tooManyError{refusal: fault.New(fault.RateLimited, of), wait: wait}
}

// recordable decides whether a refusal gets an entry of its own in the audit log. If not
// it is counted, and the caller gets another one, which says when to try again.
func (t *clients) recordable(c *call) (instead error) {
	if c.client == nil {
		c.client = t.of("", c.policy)
	}
	wait, ok := take(c.client.denials, time.Now())
	if ok {
		return nil
	}
	c.unrecorded = true
	if c.client.leftOut.Add(1) == 1 {
		t.owe(c.client)
	}
	return tooMany("denied requests of this identity", wait)
}

// stream is [clients.recordable] for streams that are denied, which leave no entry but a
// line in the log: whoever has a certificate can cause those, too.
func (t *clients) stream(policy *inForce, who identifier) grpc.StreamServerInterceptor {
	return func(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		err := next(server, stream)
		c := callOf(stream.Context())
		if c == nil || !bounded(err) {
			return err
		}
		c.policy = policy.policy.Load()
		if who.call(stream.Context()) == nil && c.identity != "" {
			c.client = t.of(c.identity, c.policy)
		}
		if instead := t.recordable(c); instead != nil {
			return instead
		}
		return err
	}
}

// takeLeftOut returns how many entries of the caller were left out since its last one. They
// are reported with the entry that the caller of this is about to write.
func (c *client) takeLeftOut() int64 {
	if c == nil || c.leftOut.Load() == 0 {
		return 0
	}
	return c.leftOut.Swap(0)
}

// sayLeftOut puts it before the detail of an entry, where it is never cut off.
func sayLeftOut(n int64, detail string) string {
	said := fmt.Sprintf("%d refusals of this identity were left out before", n)
	if detail == "" {
		return said
	}
	return said + "; " + detail
}

// owe has what was left out reported, if nothing else does.
func (t *clients) owe(c *client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.owing = append(t.owing, c)
	if t.reports == nil {
		t.reports = time.AfterFunc(leftOutAfter, t.report)
	}
}

// report writes an entry for every identity that still has some left out.
func (t *clients) report() {
	t.mu.Lock()
	owing := t.owing
	t.owing = nil
	if t.reports != nil {
		t.reports.Stop()
		t.reports = nil
	}
	t.mu.Unlock()
	for _, c := range owing {
		n := c.takeLeftOut()
		if n == 0 {
			continue
		}
		err := t.write(audit.Entry{
			Identity: c.identity, Decision: audit.Event, Reason: fault.RateLimited.String(), Detail: sayLeftOut(n, ""),
		})
		if err != nil {
			t.log.Error("refusals were left out of the audit log, and so was their number", "identity", c.identity, "left_out", n, "cause", err.Error())
			continue
		}
		t.log.Warn("refusals were left out of the audit log and of this one", "identity", c.identity, "left_out", n)
	}
}
