package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
)

// TestWhoGetsNothing tries every kind of caller that is none of the service's.
func TestWhoGetsNothing(t *testing.T) {
	s := start(t)
	ca, caKey := readCA(t, s.dir)
	other, otherKey := makeCA(t)
	spiffe := func(path string) []*url.URL { return []*url.URL{{Scheme: "spiffe", Host: "dev.keyd", Path: path}} }
	now := time.Now()
	issue := func(by *x509.Certificate, key *ecdsa.PrivateKey, change func(*x509.Certificate)) *tls.Config {
		c := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "switch"},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), URIs: spiffe("/switch"),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		change(c)
		config := s.tlsWithout()
		config.Certificates = []tls.Certificate{signed(t, c, by, key)}
		return config
	}
	nothing := func(*x509.Certificate) {}
	old := s.tls("switch")
	old.MaxVersion = tls.VersionTLS12
	for name, c := range map[string]struct {
		config *tls.Config
		want   string // a reason of keyd's, or a gRPC code
	}{
		"no certificate":             {s.tlsWithout(), codes.Unavailable.String()},
		"TLS 1.2":                    {old, codes.Unavailable.String()},
		"foreign CA":                 {issue(other, otherKey, nothing), codes.Unavailable.String()},
		"expired":                    {issue(ca, caKey, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }), codes.Unavailable.String()},
		"not yet valid":              {issue(ca, caKey, func(c *x509.Certificate) { c.NotBefore = now.Add(30 * time.Minute) }), codes.Unavailable.String()},
		"a server's certificate":     {issue(ca, caKey, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), codes.Unavailable.String()},
		"no identity":                {issue(ca, caKey, func(c *x509.Certificate) { c.URIs = nil }), "IDENTITY_UNKNOWN"},
		"two identities":             {issue(ca, caKey, func(c *x509.Certificate) { c.URIs = append(c.URIs, spiffe("/auditor")...) }), "IDENTITY_UNKNOWN"},
		"an identity of nobody":      {issue(ca, caKey, func(c *x509.Certificate) { c.URIs = spiffe("/nobody") }), "POLICY_DENIED"},
		"another trust domain":       {issue(ca, caKey, func(c *x509.Certificate) { c.URIs[0].Host = "other.example" }), "POLICY_DENIED"},
		"an auditor's certificate":   {s.tls("auditor"), "POLICY_DENIED"},
		"a terminal's certificate":   {s.tls("terminal-1"), "POLICY_DENIED"},
		"an officer's certificate":   {s.tls("officer-1"), "POLICY_DENIED"},
		"the switch, by another key": {issue(ca, caKey, nothing), "KEY_NOT_FOUND"}, // the only one that is let in
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := keydv1.NewPinServiceClient(s.connect(c.config)).TranslatePinData(s.ctx(), &keydv1.TranslatePinDataRequest{
				Incoming: &keydv1.PinKey{KeyId: "none", Format: 1}, Outgoing: &keydv1.PinKey{KeyId: "none", Format: 1},
				PrimaryAccountNumber: "4012345678909", EncryptedPinBlock: make([]byte, 8),
			})
			got := reason(err)
			if c.want == codes.Unavailable.String() {
				got = status.Code(err).String()
			}
			if answer != nil || got != c.want {
				t.Errorf("%s (%v), want %s", got, err, c.want)
			}
		})
	}
	// A terminal's role does not reach the operator's method.
	if _, err := keydv1.NewStatusServiceClient(s.connect(s.tls("terminal-1"))).GetStatus(s.ctx(), &keydv1.GetStatusRequest{}); reason(err) != "POLICY_DENIED" {
		t.Errorf("GetStatus as terminal-1: %v", err)
	}
}

func readCA(t *testing.T, dir string) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	read := func(path string) []byte {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(b)
		return block.Bytes
	}
	c, err := x509.ParseCertificate(read(filepath.Join(dir, "certs", "ca.crt")))
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.ParsePKCS8PrivateKey(read(filepath.Join(dir, "ca.key")))
	if err != nil {
		t.Fatal(err)
	}
	return c, k.(*ecdsa.PrivateKey)
}

func makeCA(t *testing.T) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "keyd development CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed, key
}

func signed(t *testing.T, c, by *x509.Certificate, byKey *ecdsa.PrivateKey) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), byKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
