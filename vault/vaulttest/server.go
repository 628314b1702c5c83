// Package vaulttest runs a real Vault server for tests: on a loopback port, over TLS with an
// authority of its own, initialised and unsealed, with a KV engine, AppRole and PKI. Storage
// is a directory, so that it can be stopped and started again.
//
// The binary comes from scripts/vault.sh, which make test runs.
package vaulttest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Names of what [Start] sets up.
const (
	Role       = "keyd"        // of AppRole
	Policy     = "keyd"        // of its tokens
	ServerRole = "keyd-server" // of the PKI: server certificates for localhost and 127.0.0.1
	ClientRole = "keyd-client" // of the PKI: client certificates for spiffe://test.keyd/*
)

// The policy that docs/vault.md gives to keyd.
const policyText = `
path "secret/data/keyd/*"   { capabilities = ["read"] }
path "pki/sign/keyd-server" { capabilities = ["update"] }
path "pki/sign/keyd-client" { capabilities = ["update"] }
`

// Server is a running Vault.
type Server struct {
	Address string // https://127.0.0.1:PORT
	CA      string // PEM file of the authority of its certificate
	PKI     string // PEM file of the authority that its PKI signs with
	RoleID  string // of Role
	Root    string // root token
	Unseal  string // key

	t      testing.TB
	dir    string
	binary string
	client *http.Client
	cmd    *exec.Cmd
	ended  chan struct{}
	log    lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Start runs a Vault until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, dir: directory(t), binary: binary(t)}
	port := freePort(t)
	s.Address = fmt.Sprintf("https://127.0.0.1:%d", port)
	s.CA = filepath.Join(s.dir, "ca.crt")
	s.identity()
	s.write("vault.hcl", fmt.Sprintf(`
disable_mlock = true
storage "file" { path = %q }
listener "tcp" {
  address       = "127.0.0.1:%d"
  tls_cert_file = %q
  tls_key_file  = %q
}
`, filepath.Join(s.dir, "data"), port, filepath.Join(s.dir, "vault.crt"), filepath.Join(s.dir, "vault.key")))
	s.Run()
	t.Cleanup(s.Kill)
	var made struct {
		Keys  []string `json:"keys"`
		Token string   `json:"root_token"`
	}
	s.decode(s.call("PUT", "sys/init", map[string]any{"secret_shares": 1, "secret_threshold": 1}), &made)
	s.Unseal, s.Root = made.Keys[0], made.Token
	s.Open()
	s.setUp()
	return s
}

// directory is one that other users may pass through.
func directory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "keyd-vault-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func binary(t testing.TB) string {
	t.Helper()
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "keyd").Output()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(strings.TrimSpace(string(root)), "scripts", "vault.sh"), "--path")
	cmd.Stderr = os.Stderr
	path, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(path))
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // only its number matters
	return l.Addr().(*net.TCPAddr).Port
}

// Run starts the process. It is sealed then, unless it has never been initialised.
func (s *Server) Run() {
	s.t.Helper()
	s.cmd = exec.Command(s.binary, "server", "-config", filepath.Join(s.dir, "vault.hcl"))
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.Env = []string{"HOME=" + s.dir}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.ended = make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) { _ = cmd.Wait(); close(ended) }(s.cmd, s.ended)
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		response, err := s.client.Get(s.Address + "/v1/sys/seal-status")
		if err == nil {
			_ = response.Body.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.t.Fatalf("Vault does not answer after a minute:\n%s", s.log.String())
}

// Kill ends the process.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.ended
	s.client.CloseIdleConnections()
	s.cmd = nil
}

// Open unseals it, and waits until it serves.
func (s *Server) Open() {
	s.t.Helper()
	s.call("PUT", "sys/unseal", map[string]any{"key": s.Unseal})
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		response, err := s.client.Get(s.Address + "/v1/sys/health")
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.t.Fatalf("Vault does not serve after a minute:\n%s", s.log.String())
}

// Seal seals it.
func (s *Server) Seal() {
	s.t.Helper()
	s.call("PUT", "sys/seal", nil)
}

// setUp mounts and configures.
func (s *Server) setUp() {
	s.t.Helper()
	s.call("POST", "sys/mounts/secret", map[string]any{"type": "kv", "options": map[string]string{"version": "2"}})
	s.call("POST", "sys/mounts/pki", map[string]any{"type": "pki", "config": map[string]string{"max_lease_ttl": "87600h"}})
	s.call("POST", "sys/auth/approle", map[string]any{"type": "approle"})
	s.call("PUT", "sys/policies/acl/"+Policy, map[string]any{"policy": policyText})
	var ca struct{ Data struct{ Certificate string } }
	s.decode(s.call("POST", "pki/root/generate/internal", map[string]any{"common_name": "keyd test PKI", "ttl": "8760h", "key_type": "ec", "key_bits": 256}), &ca)
	s.PKI = s.write("pki.crt", ca.Data.Certificate)
	common := map[string]any{
		"key_type": "any", "max_ttl": "72h", "require_cn": false, "key_usage": []string{"DigitalSignature"},
		"allow_ip_sans": true, "allow_localhost": false, "enforce_hostnames": true, "not_before_duration": "1s",
	}
	with := func(more map[string]any) map[string]any {
		m := map[string]any{}
		for k, v := range common {
			m[k] = v
		}
		for k, v := range more {
			m[k] = v
		}
		return m
	}
	s.call("POST", "pki/roles/"+ServerRole, with(map[string]any{
		"allowed_domains": []string{"localhost"}, "allow_bare_domains": true, "server_flag": true, "client_flag": false,
	}))
	s.call("POST", "pki/roles/"+ClientRole, with(map[string]any{
		"allowed_uri_sans": []string{"spiffe://test.keyd/*"}, "server_flag": false, "client_flag": true, "allow_any_name": true,
	}))
	s.SetRole(map[string]any{})
	var role struct {
		Data struct {
			RoleID string `json:"role_id"`
		}
	}
	s.decode(s.call("GET", "auth/approle/role/"+Role+"/role-id", nil), &role)
	s.RoleID = role.Data.RoleID
}

// SetRole changes the AppRole.
func (s *Server) SetRole(more map[string]any) {
	s.t.Helper()
	role := map[string]any{"token_policies": []string{Policy}, "token_ttl": "1h", "token_max_ttl": "4h", "secret_id_ttl": "24h", "secret_id_num_uses": 0}
	for k, v := range more {
		role[k] = v
	}
	s.call("POST", "auth/approle/role/"+Role, role)
}

// PutPIN writes a PIN, as the next version.
func (s *Server) PutPIN(pin string) {
	s.t.Helper()
	s.call("POST", "secret/data/keyd/token", map[string]any{"data": map[string]string{"pin": pin}})
}

// SecretID makes a secret-id.
func (s *Server) SecretID() string {
	s.t.Helper()
	var made struct {
		Data struct {
			SecretID string `json:"secret_id"`
		}
	}
	s.decode(s.call("POST", "auth/approle/role/"+Role+"/secret-id", nil), &made)
	return made.Data.SecretID
}

// Wrapped makes a wrapped secret-id. It returns the token and the whole answer, as Vault's
// command line puts it out with -format=json.
func (s *Server) Wrapped(ttl string) (token, answer string) {
	s.t.Helper()
	b := s.request("POST", "auth/approle/role/"+Role+"/secret-id", nil, http.Header{"X-Vault-Wrap-Ttl": {ttl}})
	var made struct {
		WrapInfo struct{ Token string } `json:"wrap_info"`
	}
	s.decode(b, &made)
	return made.WrapInfo.Token, string(b)
}

// Unwrap is what a thief does.
func (s *Server) UnwrapAs(token string) {
	s.t.Helper()
	s.request("POST", "sys/wrapping/unwrap", map[string]any{"token": token}, nil)
}

// Token makes a token with the policy.
func (s *Server) Token(more map[string]any) string {
	s.t.Helper()
	body := map[string]any{"policies": []string{Policy}, "ttl": "1h"}
	for k, v := range more {
		body[k] = v
	}
	var made struct {
		Auth struct {
			Token string `json:"client_token"`
		}
	}
	s.decode(s.call("POST", "auth/token/create", body), &made)
	return made.Auth.Token
}

// Call is a request with the root token. It fails the test if Vault refuses.
func (s *Server) Call(method, path string, body map[string]any) []byte {
	s.t.Helper()
	return s.call(method, path, body)
}

func (s *Server) call(method, path string, body map[string]any) []byte {
	s.t.Helper()
	return s.request(method, path, body, nil)
}

func (s *Server) request(method, path string, body map[string]any, header http.Header) []byte {
	s.t.Helper()
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			s.t.Fatal(err)
		}
		content = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, s.Address+"/v1/"+path, content)
	if err != nil {
		s.t.Fatal(err)
	}
	if header != nil {
		r.Header = header
	}
	r.Header.Set("X-Vault-Token", s.Root)
	response, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // read to its end
	b, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if response.StatusCode >= 300 {
		s.t.Fatalf("Vault: %s %s: %d: %s", method, path, response.StatusCode, b)
	}
	return b
}

func (s *Server) decode(b []byte, out any) {
	s.t.Helper()
	if err := json.Unmarshal(b, out); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// identity makes Vault's certificate, and a client that trusts it.
func (s *Server) identity() {
	s.t.Helper()
	a, err := NewAuthority("the test's authority of Vault")
	if err != nil {
		s.t.Fatal(err)
	}
	certificate, err := a.Issue(&x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("ca.crt", string(a.PEM()))
	s.write("vault.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})))
	der, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("vault.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	pool := x509.NewCertPool()
	pool.AddCert(a.Certificate)
	s.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
}

// Authority is one for tests.
type Authority struct {
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority makes one.
func NewAuthority(name string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a := &Authority{key: key}
	own, err := a.Issue(&x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(24 * time.Hour)}, key)
	if err != nil {
		return nil, err
	}
	a.Certificate, err = x509.ParseCertificate(own.Certificate[0])
	return a, err
}

// PEM is the authority's certificate.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate.Raw})
}

// Issue signs a certificate for a key, an *ecdsa.PrivateKey or *ecdsa.PublicKey; for a new one
// where it is nil. Times that are not set are an hour around now.
func (a *Authority) Issue(template *x509.Certificate, key any) (*tls.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Minute)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	out := &tls.Certificate{}
	var public any
	switch k := key.(type) {
	case nil:
		made, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		public, out.PrivateKey = &made.PublicKey, made
	case *ecdsa.PrivateKey:
		public, out.PrivateKey = &k.PublicKey, k
	case *ecdsa.PublicKey:
		public = k
	default:
		return nil, errors.New("a key of another kind")
	}
	parent := a.Certificate
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	if err != nil {
		return nil, err
	}
	out.Certificate = [][]byte{der}
	return out, nil
}
