package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"keyd/audit"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keyuse"
	"keyd/policies"
)

// gate asks the policy of the request for every domain, and keeps in the request that it
// did.
type gate struct{}

var _ keyuse.Authorizer = gate{}

// Authorize implements [keyuse.Authorizer]. Why a request was denied is for the audit
// log and the operator, never for the caller.
func (g gate) Authorize(ctx context.Context, action string, named []policies.Key) error {
	var terminal *policies.Terminal
	if c := callOf(ctx); c != nil {
		terminal = c.whose
	}
	return g.about(ctx, action, named, terminal)
}

// about is Authorize of what is about a terminal.
func (g gate) about(ctx context.Context, action string, named []policies.Key, terminal *policies.Terminal) error {
	return g.ask(ctx, action, policies.Request{Keys: named, Terminal: terminal})
}

// legacy is about of a request that was allowed, whose keys would go in the legacy form.
func (g gate) legacy(ctx context.Context) error {
	c := callOf(ctx)
	if c == nil || !c.allowed {
		return fault.Wrap(fault.Internal, errors.New("the legacy form was asked for before the request was allowed"))
	}
	return g.ask(ctx, c.method, policies.Request{Terminal: c.about, Legacy: true})
}

// ask asks the policy by what the request is about.
func (gate) ask(ctx context.Context, action string, about policies.Request) error {
	c := callOf(ctx)
	if c == nil || c.identity == "" {
		return fault.Wrap(fault.Internal, fmt.Errorf("%s: authorisation was asked without a request or an identity", action))
	}
	if action != c.method {
		c.asked, c.allowed = true, false
		return fault.Wrap(fault.Internal, fmt.Errorf("%s asked for authorisation of %s", c.method, action))
	}
	about.Identity, about.Method, about.Address, about.At = c.identity, action, addressOf(ctx), c.started
	d := c.policy.Authorize(about)
	c.about = about.Terminal
	c.allowed = d.Allowed && (c.allowed || !c.asked)
	c.asked = true
	c.entry.Rule = d.Rule
	c.demand.Custody = max(c.demand.Custody, d.Demand.Custody)
	if !d.Allowed {
		return fault.Wrap(fault.PolicyDenied, errors.New(d.Why))
	}
	if c.terminal == nil {
		return nil
	}
	if err := c.terminal.mayAsk(ctx); err != nil {
		c.allowed = false
		c.barred = contextError(err) == nil && fault.Of(err).Reason != fault.StoreUnavailable
		return err
	}
	return nil
}

// Entry implements [keyuse.Authorizer].
func (gate) Entry(ctx context.Context) *audit.Entry {
	if c := callOf(ctx); c != nil {
		return &c.entry
	}
	return new(audit.Entry)
}

// Demand implements [keyuse.Authorizer].
func (gate) Demand(ctx context.Context) policies.Demand {
	if c := callOf(ctx); c != nil {
		return c.demand
	}
	return policies.Demand{Custody: policies.TokenCustody} // of nobody, so the strictest
}

// addressOf returns the address of the connection's other end, the zero value if that is
// none of TCP.
func addressOf(ctx context.Context) netip.Addr {
	if p, ok := peer.FromContext(ctx); ok {
		if a, ok := p.Addr.(*net.TCPAddr); ok {
			return a.AddrPort().Addr().Unmap()
		}
	}
	return netip.Addr{}
}

// inForce is the policy that is in force. A request takes it once, and keeps it.
type inForce struct {
	policy atomic.Pointer[policies.Policy]
}

// begin is the step that gives a request its policy.
func (f *inForce) begin(ctx context.Context, request any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if c := callOf(ctx); c != nil {
		c.policy = f.policy.Load()
	}
	return next(ctx, request)
}

// requireAuthorization denies methods that the policies' table does not know before
// they begin, and fails every success for which the policy was not asked, or which it
// did not allow: a binding that forgets it answers nobody. An operation that forgets what
// the rule demands of it answers nobody either.
func requireAuthorization(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	c := callOf(ctx)
	if c == nil {
		return nil, fault.Wrap(fault.Internal, fmt.Errorf("%s: a request without its record", info.FullMethod))
	}
	if c.exempt {
		return next(ctx, request)
	}
	if err := knownMethod(c); err != nil {
		return nil, err
	}
	answer, err := next(ctx, request)
	if err != nil {
		return nil, err
	}
	if !c.asked || !c.allowed {
		return nil, fault.Wrap(fault.Internal, fmt.Errorf("%s answered without authorisation", c.method))
	}
	if c.demand.Custody == policies.TokenCustody && c.entry.Custody != hsm.InToken.String() {
		return nil, fault.Wrap(fault.Internal, fmt.Errorf("%s answered with %s although rule %s demands custody of the token", c.method, c.entry.Custody, c.entry.Rule))
	}
	return answer, nil
}

func knownMethod(c *call) error {
	if _, ok := policies.LookupMethod(c.method); !ok {
		return fault.Wrap(fault.PolicyDenied, fmt.Errorf("%s has no row in the policies' table of methods", c.method))
	}
	return nil
}
