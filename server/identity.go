package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"keyd/fault"
	"keyd/policies"
	"keyd/terminals"
)

// identifier finds out who asks.
type identifier struct{ terminals *terminals.Inventory }

// unary is the step of that name, see [identityOf] and [identifier.terminal].
func (i identifier) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := i.call(ctx); err != nil {
		return nil, err
	}
	return next(ctx, request)
}

func (i identifier) call(ctx context.Context) error {
	c := callOf(ctx)
	if c == nil || c.exempt {
		return nil // a request without a call cannot succeed: see requireAuthorization
	}
	if d := deviceOf(ctx); d != nil {
		return i.terminal(ctx, c, d)
	}
	identity, err := identityOf(ctx, time.Now())
	if err != nil {
		return fault.Wrap(fault.IdentityUnknown, err)
	}
	c.identity = identity
	return nil
}

// terminal has a request be one of the terminal of the inventory whose public key the device
// has proven to be its own. Nothing else of its certificate says who it is: a SPIFFE ID that a
// maker has signed least of all.
func (i identifier) terminal(ctx context.Context, c *call, d *device) error {
	if err := d.believe(time.Now()); err != nil {
		return fault.Wrap(fault.IdentityUnknown, err)
	}
	t, err := i.terminals.OfKey(ctx, d.publicKey())
	if fault.Of(err).Reason == fault.TerminalNotFound {
		return fault.Wrap(fault.IdentityUnknown, errors.New("no terminal of the inventory has the public key of this device: register it with its certificate"))
	}
	if err != nil {
		return err
	}
	c.identity, c.terminal = policies.TerminalIdentity(t.ID), &standing{t, d, i.terminals}
	return nil
}

// deviceOf returns the device of a terminal's connection, nil for a client's.
func deviceOf(ctx context.Context) *device {
	if p, ok := peer.FromContext(ctx); ok {
		if a, ok := p.AuthInfo.(admitted); ok {
			return a.device
		}
	}
	return nil
}

// identityOf returns the SPIFFE ID of the client's certificate (SPIFFE X509-SVID §2,
// §4, §5): exactly one URI SAN, which is the SPIFFE ID of a workload, in a certificate
// that is no authority's. The TLS handshake has verified the chain; the time is looked
// at again because a connection may outlive the certificate.
func identityOf(ctx context.Context, now time.Time) (string, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", errors.New("the request has no peer")
	}
	info, ok := p.AuthInfo.(admitted)
	if !ok || info.device != nil || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return "", errors.New("the connection has no verified client certificate")
	}
	leaf := info.State.VerifiedChains[0][0]
	switch {
	case now.After(leaf.NotAfter):
		return "", fmt.Errorf("the client certificate expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case leaf.IsCA || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return "", errors.New("the client certificate is one of an authority")
	}
	id, err := x509svid.IDFromCert(leaf)
	if err != nil {
		return "", fmt.Errorf("the client certificate has no SPIFFE ID: %w", err)
	}
	if id.Path() == "" {
		return "", errors.New("the client certificate names a trust domain, not a workload")
	}
	return id.String(), nil
}
