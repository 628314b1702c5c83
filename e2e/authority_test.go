package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
)

// root is an authority that makes certificates of terminals.
type root struct {
	certificate *x509.Certificate
	der         []byte
	key         *ecdsa.PrivateKey
}

func newRoot(t *testing.T, name string) *root {
	t.Helper()
	r := &root{key: newECKey(t)}
	r.certificate = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	r.der = r.sign(t, r.certificate, r.key)
	return r
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (r *root) sign(t *testing.T, template *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, r.certificate, key.Public(), r.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// deviceFile writes the certificate of a new device to a file, in PEM.
func deviceFile(t *testing.T, by *root) string {
	t.Helper()
	return pemFile(t, by.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "device"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(5, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
	}, newECKey(t)))
}

func pemFile(t *testing.T, der []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "certificate.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestOfficersDecideWhomTheyBelieve from the command line: two trust, one alone distrusts,
// and all of it is kept over a restart.
func TestOfficersDecideWhomTheyBelieve(t *testing.T) {
	s := start(t)
	as := func(n int, args ...string) []string {
		return append(args, "--dir", s.dir, "--as", fmt.Sprintf("officer-%d", n))
	}
	run := func(args ...string) string {
		t.Helper()
		said, err := s.command("", args...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, said)
		}
		return said
	}
	if said := run(as(1, "authority", "list")...); !strings.Contains(said, "no authority is believed") {
		t.Error(said)
	}
	root := newRoot(t, "Maker of Terminals")
	file, fingerprint := pemFile(t, root.der), ceremony.Digest(root.der)
	var begun keydv1.Ceremony
	if err := protojson.Unmarshal([]byte(run(as(1, "authority", "trust", file, "--use", "terminals", "--yes", "-o", "json")...)), &begun); err != nil {
		t.Fatal(err)
	}
	if begun.State != keydv1.Ceremony_OPEN || begun.ApprovalsMissing != 1 {
		t.Errorf("%v, %d approvals are missing", begun.State, begun.ApprovalsMissing)
	}
	shown := run(as(2, "ceremony", "show", begun.CeremonyId)...)
	for _, want := range []string{"CN=Maker of Terminals", ceremony.FormatFingerprint(fingerprint), "terminals", "P-256"} {
		if !strings.Contains(shown, want) {
			t.Errorf("the other officer does not see %q:\n%s", want, shown)
		}
	}
	run(as(2, "ceremony", "approve", begun.CeremonyId, "--yes")...)
	listed := func() []*keydv1.Authority {
		t.Helper()
		var r keydv1.ListAuthoritiesResponse
		if err := protojson.Unmarshal([]byte(run(as(3, "authority", "list", "-o", "json")...)), &r); err != nil {
			t.Fatal(err)
		}
		return r.Authorities
	}
	if l := listed(); len(l) != 1 || l[0].Fingerprint != fingerprint || l[0].Subject != "CN=Maker of Terminals" || l[0].Uses[0] != "terminals" {
		t.Errorf("%v", l)
	}
	// A terminal of that maker can be registered from then on, and no other's.
	device, stranger := deviceFile(t, root), deviceFile(t, newRoot(t, "Maker of Terminals"))
	run(as(1, "terminal", "register", "t-1", "--owner", "shop-1", "--model", "X1", "--serial", "4711", "--certificate", device)...)
	if said, err := s.command("", as(1, "terminal", "register", "t-2", "--owner", "shop-1", "--model", "X1", "--serial", "4712", "--certificate", stranger)...); err == nil {
		t.Errorf("another maker's is registered:\n%s", said)
	}
	s.stop()
	s = startIn(t, s.dir)
	if l := listed(); len(l) != 1 {
		t.Errorf("after a restart: %v", l)
	}
	if _, err := s.command("", as(1, "authority", "trust", file, "--yes")...); err == nil {
		t.Error("it was trusted without a use")
	}
	run(as(3, "authority", "distrust", ceremony.FormatFingerprint(fingerprint), "--reason", "INC-1", "--yes")...)
	if l := listed(); len(l) != 0 {
		t.Errorf("still believed: %v", l)
	}
}
