package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"keyd/fault"
)

// identify finds out who asks, see [identityOf].
func identify(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := identifyCall(ctx); err != nil {
		return nil, err
	}
	return next(ctx, request)
}

func identifyCall(ctx context.Context) error {
	c := callOf(ctx)
	if c == nil || c.exempt {
		return nil // a request without a call cannot succeed: see requireAuthorization
	}
	identity, err := identityOf(ctx, time.Now())
	if err != nil {
		return fault.Wrap(fault.IdentityUnknown, err)
	}
	c.identity = identity
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
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
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
