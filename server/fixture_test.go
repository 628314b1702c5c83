package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
	"keyd/audit"
	"keyd/ceremony"
	"keyd/hsm"
	"keyd/keys"
	"keyd/ksn"
	"keyd/policies"
	"keyd/store"
	"keyd/terminals"
	"keyd/trust"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testPolicy = `version: 1
identities:
  - id: spiffe://test.example/switch
    roles: [switch]
  - id: spiffe://test.example/auditor
    roles: [auditor]
  - id: spiffe://test.example/officer-1
    roles: [officer]
  - id: spiffe://test.example/officer-2
    roles: [officer]
  - id: spiffe://test.example/m-1
    roles: [merchant]
voids:
  token_key: may.token
  code_key: may.code
  token_life: 300
  code_life: 120
  default:
    currency: 156
    per_day: 100
    age: 43200
    tries: 3
    life: 600
    confirm: 3600
    tiers:
      - {up_to: 50000, methods: [[SUPERVISOR_PIN]]}
roles:
  merchant:
    - methods: ["TerminalService/*", "PinRecordService/*", "VoidService/*"]
      keys: ["may.*"]
      usages: ["*"]
      when: 'terminal.owner == identity.last'
  switch:
    - methods: ["PinService/*"]
      keys: ["may.*"]
      usages: [P0, B0, V2]
  auditor:
    - methods: ["StatusService/GetStatus"]
  officer:
    - methods: ["CeremonyService/*", "KeyService/*"]
      keys: ["may.*"]
      usages: [P0]
    - methods: ["TerminalService/*"]
      keys: ["may.*"]
      usages: ["*"]
    - methods: ["PinRecordService/*"]
      keys: ["may.*"]
      usages: ["*"]
    - methods: ["VoidService/*"]
      keys: ["may.*"]
      usages: ["*"]
`

// front is everything a server needs, real and on loopback.
type front struct {
	t       *testing.T
	config  Config
	store   *store.SQLite
	path    string // of the audit log
	ca      *authority
	roots   *roots // for terminals
	rsaHost *x509.Certificate
	log     *logged
	address string
	server  *Server
}

// newFront prepares a server that does not listen yet.
func newFront(t *testing.T) *front {
	t.Helper()
	dir := t.TempDir()
	ca := newAuthority(t)
	f := &front{t: t, ca: ca, roots: &roots{}, log: &logged{}, path: filepath.Join(dir, "audit")}
	var err error
	if f.store, err = store.OpenSQLite(context.Background(), filepath.Join(dir, "keys.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.store.Close() })
	if f.config.Audit, err = audit.Open(f.path, audit.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.config.Audit.Close() })
	if f.config.Policy, err = policies.Parse([]byte(testPolicy)); err != nil {
		t.Fatal(err)
	}
	identity, err := LoadTLS(ca.serverFiles(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	f.config.TLS = identity.Config
	f.config.Log = slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	f.config.Keys = keys.New(f.store)
	if f.config.Serials, err = ksn.Open(context.Background(), f.store, ksn.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.config.Serials.Close(); err != nil {
			t.Error(err)
		}
	})
	f.config.Backups, f.config.PINRecords, f.config.Voids = f.store, f.store, f.store
	f.config.Terminals = terminals.New(f.store, f.roots)
	f.config.Modules = hsm.NewClient(time.Minute, f.config.Log)
	t.Cleanup(f.config.Modules.Close)
	f.config.Distribution = terminals.NewDistribution(f.config.Terminals, f.store, f.config.Keys, f.config.Modules)
	f.config.Officers = keys.NewCeremonies(f.store, f.config.Keys, f.config.Modules)
	return f
}

// withOfficers puts a register with two officers in force, officer-1 and officer-2, as a
// module would have made it.
func (f *front) withOfficers() *front {
	f.t.Helper()
	e := &ceremony.Epoch{Version: 1, Clock: time.Now().Unix(), Generation: 1, Oldest: 1,
		Roster: ceremony.Roster{Quorum: ceremony.Quorum{Components: 2, Approvals: 2, Roster: 2}}}
	for _, name := range []string{"officer-1", "officer-2"} {
		der, err := x509.MarshalPKIXPublicKey(newKey(f.t).Public())
		if err != nil {
			f.t.Fatal(err)
		}
		e.Roster.Officers = append(e.Roster.Officers, ceremony.Officer{Name: name, Identity: "spiffe://test.example/" + name, Key: der})
	}
	sealed, err := ceremony.Encode(e)
	if err == nil {
		err = f.store.AdoptEpoch(context.Background(), e.Version, append(sealed, make([]byte, ceremony.EpochMACSize)...))
	}
	if err == nil {
		err = f.config.Officers.Settle(context.Background())
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return f
}

// paper is a statement of an officer. Only a module looks at the signature.
func paper(t *testing.T, officer string) *keydv1.SignedDocument {
	t.Helper()
	document, err := ceremony.Encode(&ceremony.Statement{Action: ceremony.Approve, Officer: officer})
	if err != nil {
		t.Fatal(err)
	}
	return &keydv1.SignedDocument{Document: document, Signature: []byte("signature")}
}

// putCeremony keeps a ceremony that stops may.zone and waits for one approval.
func (f *front) putCeremony(id string, state store.CeremonyState, expires time.Time) {
	f.t.Helper()
	opening, err := ceremony.Encode(&ceremony.Opening{ID: id, Kind: ceremony.Stop, Need: ceremony.Need{Approvals: 1}})
	if err != nil {
		f.t.Fatal(err)
	}
	definition, err := ceremony.Encode(&ceremony.Definition{Kind: ceremony.Stop, Target: &ceremony.KeyRef{Name: "may.zone", Version: 1}, ValidFor: 3600})
	if err != nil {
		f.t.Fatal(err)
	}
	papers, err := ceremony.Encode(&ceremony.Proceedings{Opening: ceremony.Signed{Document: opening, Signature: []byte("signature")}, Definition: definition})
	if err == nil {
		err = f.store.AddCeremony(context.Background(), store.CeremonyRecord{
			ID: id, Kind: string(ceremony.Stop), Subject: "may.zone?version=1", State: state, Papers: papers, OpenedAt: expires.Add(-time.Hour), ExpiresAt: expires,
		})
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// start lets the whole server listen.
func (f *front) start() *front {
	f.t.Helper()
	s, err := New(f.config)
	if err != nil {
		f.t.Fatal(err)
	}
	return f.serve(s)
}

// startWith lets a server with every step but only the given services listen.
func (f *front) startWith(register func(grpc.ServiceRegistrar)) *front {
	f.t.Helper()
	s := newServer(f.config)
	register(s.grpc)
	return f.serve(s)
}

func (f *front) serve(s *Server) *front {
	f.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	f.server, f.address = s, l.Addr().String()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	f.t.Cleanup(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Drain(now)
		if err := <-ended; err != nil {
			f.t.Errorf("Serve: %v", err)
		}
	})
	return f
}

// attach attaches a module that takes the register, and other requests, which it never
// answers. Each of these is told on the channel.
func (f *front) attach() (module net.Conn, heard <-chan struct{}) {
	f.t.Helper()
	ours, theirs := net.Pipe()
	f.t.Cleanup(func() { _ = theirs.Close() })
	c := make(chan struct{}, 1)
	go func() {
		// Frames of hsm: length of what follows (4 bytes), identifier (8), operation, message.
		const loadEpoch, answered = 32, 128
		for {
			head := make([]byte, 13)
			if _, err := io.ReadFull(theirs, head); err != nil {
				return
			}
			if _, err := io.CopyN(io.Discard, theirs, int64(binary.BigEndian.Uint32(head))-9); err != nil {
				return
			}
			if head[12] == loadEpoch {
				binary.BigEndian.PutUint32(head, 9)
				head[12] = answered
				if _, err := theirs.Write(head); err != nil {
					return
				}
				continue
			}
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}()
	f.config.Modules.Attach(0, ours)
	return theirs, c
}

func (f *front) put(name, usage string, change ...func(*store.KeyRecord, *hsm.Header)) {
	f.t.Helper()
	r := store.KeyRecord{Name: name, Version: 1, State: store.Enabled, CreatedAt: time.Now()}
	h := &hsm.Header{Name: name, Version: 1, Generation: 1, Usage: usage, Algorithm: "T", Length: 16, Mode: "B", Exportability: "N",
		CheckValue: "08D7B4", Custody: hsm.CustodyToken, Direction: hsm.DirectionBoth, Formats: []hsm.Format{0}}
	for _, c := range change {
		c(&r, h)
	}
	body, err := hsm.SealedBody(h, [][]byte{make([]byte, 24)})
	if err != nil {
		f.t.Fatal(err)
	}
	r.Sealed = append(body, make([]byte, hsm.MACSize)...)
	if err := f.store.Put(context.Background(), r); err != nil {
		f.t.Fatal(err)
	}
}

// as returns a connection with the certificate of an identity of the trust domain.
func (f *front) as(name string) *grpc.ClientConn {
	return f.connect(f.ca.client(f.t, withID("spiffe://test.example/"+name)))
}

func (f *front) connect(c *tls.Config) *grpc.ClientConn {
	f.t.Helper()
	conn, err := grpc.NewClient(f.address, grpc.WithTransportCredentials(credentials.NewTLS(c)))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// records returns the audit log without the entry with which it begins.
func (f *front) records() []audit.Record {
	f.t.Helper()
	all, err := audit.Tail(f.path, 1<<20)
	if err != nil {
		f.t.Fatal(err)
	}
	return all[1:]
}

// segment is the file that the log's entries are in.
func (f *front) segment() string { return filepath.Join(f.path, "audit-0000000000000001.log") }

// roots are those for terminals.
type roots struct{ list []*x509.Certificate }

// Anchors implements [terminals.Authorities].
func (r *roots) Anchors(use string) (trust.Anchors, error) {
	if use != ceremony.UseTerminals {
		return trust.Anchors{}, nil
	}
	return trust.Anchors{Certificates: r.list}, nil
}

// lastRecord expects n entries in the audit log and returns the newest.
func (f *front) lastRecord(n int) audit.Record {
	f.t.Helper()
	all := f.records()
	if len(all) != n || n == 0 {
		f.t.Fatalf("%d audit entries, want %d: %+v", len(all), n, all)
	}
	return all[n-1]
}

// logged is a log to look at.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var _ io.Writer = (*logged)(nil)

// reason returns keyd's reason in a status, or the name of its code if there is none.
func reason(err error) string {
	s := status.Convert(err)
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.Domain == ErrorDomain {
			return info.Reason
		}
	}
	return s.Code().String()
}

func translation() *keydv1.TranslatePinDataRequest {
	return &keydv1.TranslatePinDataRequest{
		Incoming:             &keydv1.PinKey{KeyId: "may.zone", Format: keydv1.PinBlockFormat_ISO_FORMAT_0},
		Outgoing:             &keydv1.PinKey{KeyId: "may.zone", Format: keydv1.PinBlockFormat_ISO_FORMAT_0},
		PrimaryAccountNumber: testPAN,
		EncryptedPinBlock:    []byte(testBlock),
	}
}

const (
	testPAN   = "4012345678909"
	testBlock = "\x1b\x9c\x18\x45\xeb\x99\x3a\x7a"
)

// authority issues certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key := newKey(t)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{parsed, key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(t *testing.T, c *x509.Certificate) tls.Certificate {
	t.Helper()
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, c, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// clientTemplate is a good client certificate but for its identity.
func clientTemplate() *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "client"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}

func withID(ids ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.URIs = nil
		for _, id := range ids {
			u, err := url.Parse(id)
			if err != nil {
				panic(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

// client returns the client's side of TLS with a certificate of this authority.
func (a *authority) client(t *testing.T, change ...func(*x509.Certificate)) *tls.Config {
	t.Helper()
	c := clientTemplate()
	for _, ch := range change {
		ch(c)
	}
	config := a.trust()
	config.Certificates = []tls.Certificate{a.sign(t, c)}
	return config
}

// trust returns the client's side of TLS without a certificate.
func (a *authority) trust() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
}

// serverFiles writes the server's files.
func (a *authority) serverFiles(t *testing.T, dir string, change ...func(*x509.Certificate)) TLSFiles {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(3), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, f := range change {
		f(c)
	}
	pair := a.sign(t, c)
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	files := TLSFiles{Certificate: filepath.Join(dir, "server.crt"), Key: filepath.Join(dir, "server.key"), ClientCA: filepath.Join(dir, "ca.crt")}
	for path, block := range map[string]*pem.Block{
		files.Certificate: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]},
		files.Key:         {Type: "PRIVATE KEY", Bytes: key},
		files.ClientCA:    {Type: "CERTIFICATE", Bytes: a.certificate.Raw},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}
