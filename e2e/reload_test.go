package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
)

// replace puts a file in the place of another, as tools that write files whole do: by
// renaming it. Owner and mode stay.
func (s *service) replace(path string, content []byte) {
	s.t.Helper()
	old, err := os.Stat(path)
	if err != nil {
		s.t.Fatal(err)
	}
	owner := old.Sys().(*syscall.Stat_t)
	next := path + ".next"
	if err := os.WriteFile(next, content, old.Mode().Perm()); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chown(next, int(owner.Uid), int(owner.Gid)); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		s.t.Fatal(err)
	}
}

func (s *service) file(name ...string) string {
	return filepath.Join(append([]string{s.dir}, name...)...)
}

func (s *service) read(path string) []byte {
	s.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// What the supervisor says at the end of a reload.
const (
	loaded = `"msg":"reload done"`
	kept   = `"msg":"reload: the front keeps what it had`
)

// reload sends SIGHUP and waits for its end.
func (s *service) reload(want string) {
	s.t.Helper()
	before := strings.Count(s.logged(), want)
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
	waitUntil(s.t, want, func() bool { return strings.Count(s.logged(), want) > before })
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func TestReloadOfPolicy(t *testing.T) {
	s := start(t)
	path := s.file("config", "policy.yaml")
	first := s.read(path)
	before := s.status()
	if before.Policy.Digest != digestOf(first) || before.Policy.LoadedAt == nil || before.Policy.LastFailure != nil {
		t.Errorf("policy: %v", before.Policy)
	}

	// A policy that lets nobody in but the auditor, in the place of the file: a new inode.
	second := []byte("version: 1\nidentities:\n  - id: spiffe://dev.keyd/auditor\n    roles: [monitor]\nroles:\n  monitor:\n    - methods: [StatusService/GetStatus]\n")
	s.replace(path, second)
	s.reload(loaded)
	after := s.status()
	if after.Policy.Digest != digestOf(second) {
		t.Errorf("policy in use: %v", after.Policy)
	}
	if front := processes(after, "front"); len(front) != 1 || front[0].Pid != processes(before, "front")[0].Pid || front[0].Restarts != 0 {
		t.Errorf("the front was started again: %v", front)
	}
	if _, err := s.pins().VerifyPinData(s.ctx(), verification()); reason(err) != "POLICY_DENIED" {
		t.Errorf("what the policy does not allow any more: %v", err)
	}

	// What is wrong changes nothing, and is said.
	for name, bad := range map[string][]byte{
		"not YAML": []byte("version: ["), "unknown role": []byte("version: 1\nidentities:\n  - id: spiffe://dev.keyd/auditor\n    roles: [king]\nroles: {}\n"), "empty": nil,
	} {
		s.replace(path, bad)
		s.reload(kept)
		got := s.status()
		if got.Policy.Digest != digestOf(second) || got.Policy.LastFailure.GetWhy() == "" || got.Tls.LastFailure != nil {
			t.Errorf("%s: %v, %v", name, got.Policy, got.Tls)
		}
		if len(got.Problems) == 0 || got.Problems[0].Severity != keydv1.Problem_WARNING || !strings.Contains(got.Problems[0].Text, "policy.yaml") {
			t.Errorf("%s: problems %v", name, got.Problems)
		}
	}
	s.replace(path, second)
	if err := os.Chmod(path, 0o666); err != nil { // anyone could give permissions
		t.Fatal(err)
	}
	s.reload(kept)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.reload(kept)
	if got := s.status(); got.Policy.Digest != digestOf(second) || !strings.Contains(got.Policy.LastFailure.GetWhy(), "no such file") {
		t.Errorf("without a file: %v", got.Policy)
	}

	// And back.
	if err := os.WriteFile(path, first, 0o644); err != nil {
		t.Fatal(err)
	}
	s.reload(loaded)
	if got := s.status(); got.Policy.Digest != digestOf(first) || got.Policy.LastFailure != nil {
		t.Errorf("after mending: %v", got.Policy)
	}
	if _, err := s.pins().VerifyPinData(s.ctx(), verification()); reason(err) == "POLICY_DENIED" {
		t.Errorf("what the policy allows again: %v", err)
	}
	log := string(s.read(s.file("front", "audit", "audit-0000000000000001.log")))
	for _, want := range []string{"policy " + digestOf(second)[:11] + " takes the place of " + digestOf(first)[:11], "reload: the policy stay"} {
		if !strings.Contains(log, want) {
			t.Errorf("%q is not in the audit log", want)
		}
	}
}

func verification() *keydv1.VerifyPinDataRequest {
	return &keydv1.VerifyPinDataRequest{
		Incoming:             &keydv1.PinKey{KeyId: "no-such-key", Format: keydv1.PinBlockFormat_ISO_FORMAT_0},
		VerificationKeyId:    "no-such-key",
		EncryptedPinBlock:    make([]byte, 8),
		Expected:             &keydv1.PinMethod{Method: &keydv1.PinMethod_VisaPvv{VisaPvv: &keydv1.VisaPvv{KeyIndex: 1, Pvv: "1234"}}},
		PrimaryAccountNumber: "4012345678909",
	}
}

// testAuthority is a CA that is not the development service's.
type testAuthority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) *testAuthority {
	t.Helper()
	a := &testAuthority{key: newKey(t)}
	a.certificate = a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, a.key)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign makes a certificate; the authority's own if it has none yet.
func (a *testAuthority) sign(t testing.TB, c *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore = serial, time.Now().Add(-time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(90 * 24 * time.Hour)
	}
	parent := a.certificate
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// server makes a server certificate with its key, in PEM.
func (a *testAuthority) server(t testing.TB, until time.Time) (parsed *x509.Certificate, certificate, key []byte) {
	t.Helper()
	k := newKey(t)
	parsed = a.sign(t, &x509.Certificate{
		NotAfter: until, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, k)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return parsed, pemOf(parsed), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// client makes the client side of TLS for an identity.
func (a *testAuthority) client(t testing.TB, name string, servers ...*x509.Certificate) *tls.Config {
	t.Helper()
	k := newKey(t)
	c := a.sign(t, &x509.Certificate{
		URIs:     []*url.URL{{Scheme: "spiffe", Host: "dev.keyd", Path: "/" + name}},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, k)
	roots := x509.NewCertPool()
	for _, s := range servers {
		roots.AddCert(s)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{{Certificate: [][]byte{c.Raw}, PrivateKey: k}}}
}

// shown returns the serial number of the certificate that new connections meet.
func (s *service) shown(c *tls.Config) string {
	s.t.Helper()
	c = c.Clone()
	c.InsecureSkipVerify = true // whose it is, is the question
	c.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", s.address, c)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Text(16)
}

func statusOver(ctx context.Context, conn grpc.ClientConnInterface) error {
	_, err := keydv1.NewStatusServiceClient(conn).GetStatus(ctx, &keydv1.GetStatusRequest{})
	return err
}

func TestRotationOfCertificates(t *testing.T) {
	s := start(t)
	certificate, key, clients := s.file("config", "server.crt"), s.file("config", "server.key"), s.file("certs", "ca.crt")
	other := newAuthority(t, "another CA")
	auditor := s.tls("auditor")
	auditor.RootCAs.AddCert(other.certificate)
	first := s.shown(auditor)
	if got := s.status().Tls; got.Serial != first || got.ClientAuthorities != 1 {
		t.Errorf("TLS: %v, connections meet %s", got, first)
	}
	open := s.connect(auditor)
	if err := statusOver(s.ctx(), open); err != nil {
		t.Fatal(err)
	}

	// All or nothing: a key that does not belong to the certificate keeps the authorities
	// out, too.
	oldClients := s.read(clients)
	parsed, newCertificate, newKey := other.server(t, time.Time{})
	both := append(append([]byte{}, oldClients...), pemOf(other.certificate)...)
	s.replace(certificate, newCertificate)
	s.replace(clients, both)
	s.reload(kept)
	if got := s.status(); got.Tls.Serial != first || got.Tls.ClientAuthorities != 1 || got.Tls.LastFailure == nil || got.Policy.LastFailure != nil {
		t.Errorf("after a certificate without its key: %v", got.Tls)
	}
	// Neither a key that others may read, nor one that the front could not read again.
	s.replace(key, newKey)
	for name, spoil := range map[string]func() error{
		"readable for all":           func() error { return os.Chmod(key, 0o644) },
		"not readable for the front": func() error { return os.Chmod(key, 0o000) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		s.reload(kept)
		if got := s.status(); got.Tls.Serial != first || got.Tls.LastFailure == nil {
			t.Errorf("%s: %v", name, got.Tls)
		}
	}
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	// Nor one that has expired.
	_, expired, expiredKey := other.server(t, time.Now().Add(-time.Minute))
	s.replace(certificate, expired)
	s.replace(key, expiredKey)
	s.reload(kept)
	s.replace(certificate, newCertificate)
	s.replace(key, newKey)
	s.reload(loaded)

	second := parsed.SerialNumber.Text(16)
	if got := s.shown(auditor); got != second {
		t.Errorf("new connections meet %s, want %s", got, second)
	}
	if err := statusOver(s.ctx(), open); err != nil {
		t.Errorf("a connection from before: %v", err)
	}
	stranger := s.connect(other.client(t, "auditor", other.certificate))
	if err := statusOver(s.ctx(), stranger); err != nil {
		t.Errorf("a client of the new authority: %v", err)
	}

	// A front that starts again starts with what is there now.
	pid := processes(s.status(), "front")[0]
	kill(pid)
	waitUntil(t, "another front", func() bool {
		return statusOver(s.ctx(), stranger) == nil && s.shown(auditor) == second
	})

	// The first authority goes: its clients get no further, those of the other stay.
	if err := statusOver(s.ctx(), open); err != nil {
		t.Fatal(err)
	}
	s.replace(clients, pemOf(other.certificate))
	s.reload(loaded)
	if !strings.Contains(s.logged(), `"client_authorities":1,"connections_closed":1`) {
		t.Errorf("no connection was closed")
	}
	if err := statusOver(s.ctx(), open); status.Code(err) != codes.Unavailable {
		t.Errorf("a client whose authority has gone: %v", err)
	}
	if err := statusOver(s.ctx(), stranger); err != nil {
		t.Errorf("a client whose authority has stayed: %v", err)
	}
}

// A reload that meets a front which is just being started again is not lost: the next
// front reads the files, or is handed them.
func TestReloadWhileTheFrontStartsAgain(t *testing.T) {
	s := start(t)
	path := s.file("config", "policy.yaml")
	first := s.read(path)
	for round := range 4 {
		want := append(append([]byte{}, first...), []byte(strings.Repeat("# again\n", round+1))...)
		front := processes(s.status(), "front")[0]
		if round%2 == 0 {
			s.replace(path, want)
			kill(front)
		} else {
			kill(front)
			s.replace(path, want)
		}
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "the newest policy in a new front", func() bool {
			conn := s.connect(s.tls("auditor"))
			got, err := keydv1.NewStatusServiceClient(conn).GetStatus(s.ctx(), &keydv1.GetStatusRequest{})
			return err == nil && got.Policy.Digest == digestOf(want) && processes(got, "front")[0].Pid != front.Pid
		})
	}
}

// A front that starts again beside a bad file does not serve, is tried again, and serves
// as soon as the file is mended: nobody has to restart keyd.
func TestFrontStartsAgainWhenTheFileIsMended(t *testing.T) {
	s := start(t)
	path := s.file("config", "policy.yaml")
	good := s.read(path)
	front := processes(s.status(), "front")[0]
	s.replace(path, []byte("nonsense"))
	kill(front)
	refused := `"child":"front","how":"exit status 78"`
	waitUntil(t, "the next front refuses the file", func() bool { return strings.Count(s.logged(), refused) > 0 })
	s.replace(path, good)
	waitUntil(t, "a front serves again", func() bool {
		return statusOver(s.ctx(), s.connect(s.tls("auditor"))) == nil
	})
	if got := s.status(); got.Policy.Digest != digestOf(good) {
		t.Errorf("policy: %v", got.Policy)
	}
}
