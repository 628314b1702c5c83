package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	keydv1 "keyd/api/keyd/v1"
	"keyd/audit"
)

// TestWhoGetsIn tries every kind of certificate. What does not get through the
// handshake reaches nothing; what does is on record.
func TestWhoGetsIn(t *testing.T) {
	f := newFront(t).start()
	f.put("may.zone", "P0")
	now := time.Now()
	id := withID("spiffe://test.example/switch")
	and := func(change func(*x509.Certificate)) *tls.Config { return f.ca.client(t, id, change) }
	old := f.ca.client(t, id)
	old.MaxVersion = tls.VersionTLS12
	foreign := newAuthority(t).client(t, id)
	foreign.RootCAs = f.ca.trust().RootCAs
	entries := 0
	for _, c := range []struct {
		name   string
		config *tls.Config
		want   string // Unavailable: no connection
	}{
		{"no certificate", f.ca.trust(), "Unavailable"},
		{"TLS 1.2", old, "Unavailable"},
		{"an authority of the same name", foreign, "Unavailable"},
		{"expired", and(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }), "Unavailable"},
		{"not valid yet", and(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }), "Unavailable"},
		{"for servers only", and(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "Unavailable"},
		{"no identity", f.ca.client(t), "IDENTITY_UNKNOWN"},
		{"a name only", f.ca.client(t, func(c *x509.Certificate) { c.DNSNames = []string{"switch"} }), "IDENTITY_UNKNOWN"},
		{"two identities", f.ca.client(t, withID("spiffe://test.example/switch", "spiffe://test.example/auditor")), "IDENTITY_UNKNOWN"},
		{"the same identity twice", f.ca.client(t, withID("spiffe://test.example/switch", "spiffe://test.example/switch")), "IDENTITY_UNKNOWN"},
		{"an identity and another URI", f.ca.client(t, withID("spiffe://test.example/switch", "https://test.example/")), "IDENTITY_UNKNOWN"},
		{"another URI", f.ca.client(t, withID("https://test.example/switch")), "IDENTITY_UNKNOWN"},
		{"a trust domain", f.ca.client(t, withID("spiffe://test.example")), "IDENTITY_UNKNOWN"},
		{"a path with an empty segment", f.ca.client(t, withID("spiffe://test.example//switch")), "IDENTITY_UNKNOWN"},
		{"a path that goes up", f.ca.client(t, withID("spiffe://test.example/x/../switch")), "IDENTITY_UNKNOWN"},
		{"a port", f.ca.client(t, withID("spiffe://test.example:1/switch")), "IDENTITY_UNKNOWN"},
		{"a user", f.ca.client(t, withID("spiffe://u@test.example/switch")), "IDENTITY_UNKNOWN"},
		{"a query", f.ca.client(t, withID("spiffe://test.example/switch?x")), "IDENTITY_UNKNOWN"},
		{"escaped", f.ca.client(t, withID("spiffe://test.example/%73witch")), "IDENTITY_UNKNOWN"},
		{"an authority's", and(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), "IDENTITY_UNKNOWN"},
		{"one that signs certificates", and(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }), "IDENTITY_UNKNOWN"},
		{"one that signs revocations", and(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }), "IDENTITY_UNKNOWN"},
		{"another's", f.ca.client(t, withID("spiffe://test.example/nobody")), "POLICY_DENIED"},
		{"upper case", f.ca.client(t, withID("spiffe://test.example/SWITCH")), "POLICY_DENIED"},
		{"another trust domain", f.ca.client(t, withID("spiffe://other.example/switch")), "POLICY_DENIED"},
		{"another role", f.ca.client(t, withID("spiffe://test.example/auditor")), "POLICY_DENIED"},
		{"the right one", f.ca.client(t, id), "MODULE_UNAVAILABLE"},
	} {
		answer, err := keydv1.NewPinServiceClient(f.connect(c.config)).TranslatePinData(t.Context(), translation())
		if got := reason(err); got != c.want || answer != nil {
			t.Errorf("%s: %v, want %s (%v)", c.name, got, c.want, err)
		}
		if c.want == "Unavailable" {
			continue
		}
		entries++
		r := f.lastRecord(entries)
		decision := audit.Denied
		if c.want == "MODULE_UNAVAILABLE" {
			decision = audit.Failed
		}
		if r.Reason != c.want || r.Decision != decision || r.Detail == "" && decision == audit.Denied || (r.Identity == "") != (c.want == "IDENTITY_UNKNOWN") {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
	if len(f.records()) != entries {
		t.Errorf("%d audit entries, want %d", len(f.records()), entries)
	}
	if !strings.Contains(f.log.String(), "connection refused") {
		t.Error("the operator does not learn who was not let in")
	}
	// The switch's role does not reach the operator's method, and what the auditor may
	// see it may not do.
	if _, err := keydv1.NewStatusServiceClient(f.as("switch")).GetStatus(t.Context(), &keydv1.GetStatusRequest{}); reason(err) != "POLICY_DENIED" {
		t.Errorf("GetStatus as switch: %v", err)
	}
	if _, err := keydv1.NewStatusServiceClient(f.as("auditor")).GetStatus(t.Context(), &keydv1.GetStatusRequest{}); err != nil {
		t.Errorf("GetStatus as auditor: %v", err)
	}
}

// A connection does not outlive its certificate.
func TestCertificateExpiresDuringConnection(t *testing.T) {
	leaf := clientTemplate()
	withID("spiffe://test.example/switch")(leaf)
	ctx := peer.NewContext(context.Background(), &peer.Peer{AuthInfo: admitted{TLSInfo: credentials.TLSInfo{
		State: tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}}}})
	if id, err := identityOf(ctx, leaf.NotAfter); err != nil || id != "spiffe://test.example/switch" {
		t.Errorf("%q, %v", id, err)
	}
	if id, err := identityOf(ctx, leaf.NotAfter.Add(time.Second)); err == nil || id != "" {
		t.Errorf("%q after the certificate's end", id)
	}
}

// A certificate that was presented but not verified is none.
func TestOnlyVerifiedCertificatesCount(t *testing.T) {
	leaf := clientTemplate()
	withID("spiffe://test.example/switch")(leaf)
	for name, ctx := range map[string]context.Context{
		"no peer": context.Background(),
		"no TLS":  peer.NewContext(context.Background(), &peer.Peer{}),
		"not verified": peer.NewContext(context.Background(), &peer.Peer{AuthInfo: admitted{TLSInfo: credentials.TLSInfo{
			State: tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}}}}),
		"not let in": peer.NewContext(context.Background(), &peer.Peer{AuthInfo: credentials.TLSInfo{
			State: tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}}}),
		"a terminal's": peer.NewContext(context.Background(), &peer.Peer{AuthInfo: admitted{device: &device{}, TLSInfo: credentials.TLSInfo{
			State: tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}}}}),
		"empty chain": peer.NewContext(context.Background(), &peer.Peer{AuthInfo: admitted{TLSInfo: credentials.TLSInfo{
			State: tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{}}}}}}),
	} {
		if id, err := identityOf(ctx, time.Now()); err == nil || id != "" {
			t.Errorf("%s: %q", name, id)
		}
	}
}
