package server

import (
	"context"
	"crypto/rand"
	"strings"
	"time"

	"keyd/audit"
	"keyd/policies"
)

// call is what the front knows of one request. One goroutine at a time uses it.
type call struct {
	id      string // of the request, for the caller, the log and the audit log
	method  string // "PinService/TranslatePinData"; the whole name outside keyd's contract
	exempt  bool   // from identity, policy and audit: health and reflection
	started time.Time

	identity string             // SPIFFE ID, or that of a terminal, once it is known
	terminal *standing          // of a terminal that asks for itself, nil for others
	policy   *policies.Policy   // by which it is judged, from its beginning to its end
	client   *client            // what is remembered of the identity, once it is known
	asked    bool               // the policy was asked
	about    *policies.Terminal // about which terminal, nil for none
	allowed  bool               // and never denied
	barred   bool               // a terminal that is out of service, or whose certificates do not count any more
	demand   policies.Demand    // of the rule that allowed it

	whose *policies.Terminal // about which terminal a request is that names keys too, nil for none

	entry      audit.Entry
	unrecorded bool // a refusal that was counted instead of recorded
}

// contract is what the full names of keyd's methods begin with.
const contract = "/keyd.v1."

// exemptServices are those that any valid certificate may use.
var exemptServices = []string{
	"/grpc.health.v1.Health/",
	"/grpc.reflection.v1.ServerReflection/",
	"/grpc.reflection.v1alpha.ServerReflection/",
}

func newCall(fullMethod string) *call {
	c := &call{id: rand.Text(), method: fullMethod, started: time.Now()}
	if own, ok := strings.CutPrefix(fullMethod, contract); ok {
		c.method = own
	}
	for _, service := range exemptServices {
		c.exempt = c.exempt || strings.HasPrefix(fullMethod, service)
	}
	return c
}

type callKey struct{}

func (c *call) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// callOf returns the request in ctx, nil if there is none.
func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}
