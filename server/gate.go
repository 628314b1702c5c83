package server

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"

	"keyd/audit"
	"keyd/fault"
	"keyd/keyuse"
	"keyd/policies"
)

// gate asks the policy for every domain, and keeps in the request that it did.
type gate struct{ policy *policies.Policy }

var _ keyuse.Authorizer = gate{}

// Authorize implements [keyuse.Authorizer]. Why a request was denied is for the audit
// log and the operator, never for the caller.
func (g gate) Authorize(ctx context.Context, action string, named []policies.Key) error {
	c := callOf(ctx)
	if c == nil || c.identity == "" {
		return fault.Wrap(fault.Internal, fmt.Errorf("%s: authorisation was asked without a request or an identity", action))
	}
	if action != c.method {
		c.asked, c.allowed = true, false
		return fault.Wrap(fault.Internal, fmt.Errorf("%s asked for authorisation of %s", c.method, action))
	}
	d := g.policy.Authorize(policies.Request{Identity: c.identity, Method: action, Keys: named})
	c.allowed = d.Allowed && (c.allowed || !c.asked)
	c.asked = true
	c.entry.Rule = d.Rule
	if !d.Allowed {
		return fault.Wrap(fault.PolicyDenied, errors.New(d.Why))
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

// requireAuthorization denies methods that the policies' table does not know before
// they begin, and fails every success for which the policy was not asked, or which it
// did not allow: a binding that forgets it answers nobody.
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
	return answer, nil
}

func knownMethod(c *call) error {
	if _, ok := policies.LookupMethod(c.method); !ok {
		return fault.Wrap(fault.PolicyDenied, fmt.Errorf("%s has no row in the policies' table of methods", c.method))
	}
	return nil
}
