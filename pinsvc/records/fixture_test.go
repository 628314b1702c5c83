package records

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"keyd/audit"
	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/keyuse"
	"keyd/ksn"
	"keyd/passkey"
	"keyd/pinrecord"
	"keyd/pinsvc"
	"keyd/policies"
	"keyd/store"
	"keyd/store/postgrestest"
	"keyd/trust"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const actor = "spiffe://bank.example/switch"

// modules stand for modules of one host: they decipher nothing, since a block here is the PIN itself,
// but keep the promises on which a front relies. What they have not sealed they refuse, what is dead
// stays dead, an approval is used up once. They count what they are asked and what they compare.
type modules struct {
	mu       sync.Mutex
	begun    map[[32]byte]uint32 // latest version by subject
	by       map[[32]byte]string // what has begun it: an approval, a record or a revocation
	used     map[string]bool
	pins     map[string]string // by record
	asked    int
	compared int

	fail func() error // after the comparison; nil: never
	away bool
}

func newModules() *modules {
	return &modules{begun: map[[32]byte]uint32{}, by: map[[32]byte]string{}, used: map[string]bool{}, pins: map[string]string{}}
}

var mac = bytes.Repeat([]byte{7}, pinrecord.MACSize)

const theCode = "12345678"

func (m *modules) Attached() int {
	if m.away {
		return 0
	}
	return 1
}

func typed(pin string) []byte { return append([]byte(pin), make([]byte, 16-len(pin))...) }

func read(b hsm.RecordBlock) string { return strings.TrimRight(string(b.Block), "\x00") }

// request begins an operation that ends where it returns.
func (m *modules) request() func() {
	m.mu.Lock()
	m.asked++
	return m.mu.Unlock
}

func (m *modules) BeginPIN(_ context.Context, r hsm.BeginPIN) (b hsm.BegunPIN, err error) {
	defer m.request()()
	a, err := pinrecord.ParseApproval(r.Approvals[0].Document)
	if err != nil {
		return b, err
	}
	digest := sha256.Sum256(r.Approvals[0].Document)
	if m.begun[a.Subject.Digest()] > a.Version || m.begun[a.Subject.Digest()] == a.Version && m.by[a.Subject.Digest()] != string(digest[:]) {
		return b, fault.New(fault.PINRecordEnded, "")
	}
	m.begun[a.Subject.Digest()], m.by[a.Subject.Digest()] = a.Version, string(digest[:])
	p := pinrecord.Pending{
		Subject: a.Subject, Version: a.Version, Approval: hex.EncodeToString(digest[:]), Code: strings.Repeat("0a", 16), NotAfter: a.NotAfter,
		Key: pinrecord.DatumKey{Name: r.DatumKey.Name, Version: 1, Fingerprint: strings.Repeat("0A", 16)},
	}
	body, err := p.Encode()
	code := make([]byte, 64)
	_, _ = rand.Read(code)
	return hsm.BegunPIN{Pending: append(body, mac...), Code: code}, err
}

func (m *modules) seal(s pinrecord.Subject, k pinrecord.DatumKey, version uint32, pin string) ([]byte, error) {
	sum := sha256.Sum256(fmt.Append(nil, s, version, pin))
	r := pinrecord.Record{Subject: s, Version: version, Key: k, Length: uint8(len(pin)), Datum: hex.EncodeToString(sum[:16])}
	body, err := r.Encode()
	sealed := append(body, mac...)
	m.pins[string(sealed)] = pin
	return sealed, err
}

func (m *modules) SetPIN(_ context.Context, r hsm.SetPIN) (a hsm.SetRecord, err error) {
	defer m.request()()
	p, _, sealed, err := pinrecord.ParsePending(r.Pending)
	if err != nil || !bytes.Equal(sealed, mac) {
		return a, fault.New(fault.KeySealInvalid, "")
	}
	if m.begun[p.Subject.Digest()] != p.Version {
		return a, fault.New(fault.PINRecordEnded, "")
	}
	m.compared++
	if read(r.Code) != theCode {
		return a, nil
	}
	if read(r.PIN) == "123456" {
		return a, fault.New(fault.PINWeak, "")
	}
	a.Verified = true
	a.Record, err = m.seal(p.Subject, p.Key, p.Version, read(r.PIN))
	return a, err
}

func (m *modules) SetPasskey(_ context.Context, r hsm.SetPasskey) (a hsm.SetRecord, err error) {
	defer m.request()()
	p, _, sealed, err := pinrecord.ParsePending(r.Pending)
	if err != nil || !bytes.Equal(sealed, mac) {
		return a, fault.New(fault.KeySealInvalid, "")
	}
	approval, _ := hex.DecodeString(p.Approval)
	credential, err := passkey.Register(r.ClientData, r.AuthenticatorData, pinrecord.PasskeyChallenge([32]byte(approval), &p.Subject), r.Origin)
	if err != nil {
		return a, fault.New(fault.RequestInvalid, "no passkey")
	}
	if m.begun[p.Subject.Digest()] != p.Version {
		return a, fault.New(fault.PINRecordEnded, "")
	}
	m.compared++
	if read(r.Code) != theCode {
		return a, nil
	}
	record := pinrecord.PasskeyRecord{Subject: p.Subject, Version: p.Version, Credential: credential}
	body, err := record.Encode()
	a.Verified, a.Record = err == nil, append(body, mac...)
	return a, err
}

func (m *modules) compare(sealed []byte, pin hsm.RecordBlock) (*pinrecord.Record, bool, error) {
	r, _, with, err := pinrecord.Parse(sealed)
	if err != nil || !bytes.Equal(with, mac) {
		return nil, false, fault.New(fault.KeySealInvalid, "")
	}
	if m.begun[r.Subject.Digest()] != r.Version {
		return nil, false, fault.New(fault.PINRecordEnded, "")
	}
	m.compared++
	if m.fail != nil {
		if err := m.fail(); err != nil {
			return nil, false, err
		}
	}
	return r, m.pins[string(sealed)] == read(pin), nil
}

func (m *modules) VerifyRecord(_ context.Context, r hsm.VerifyRecord) (bool, error) {
	defer m.request()()
	_, verified, err := m.compare(r.Record, r.PIN)
	return verified, err
}

func (m *modules) ChangeRecord(_ context.Context, r hsm.ChangeRecord) (a hsm.SetRecord, err error) {
	defer m.request()()
	record, verified, err := m.compare(r.Record, r.Current)
	if err != nil || !verified {
		return a, err
	}
	if read(r.New) == "123456" {
		return a, fault.New(fault.PINWeak, "")
	}
	m.begun[record.Subject.Digest()]++
	a.Verified = true
	a.Record, err = m.seal(record.Subject, record.Key, record.Version+1, read(r.New))
	return a, err
}

func (m *modules) RevokeRecord(_ context.Context, sealed []byte) error {
	defer m.request()()
	subject, version := pinrecord.Subject{}, uint32(0)
	if r, _, _, err := pinrecord.Parse(sealed); err == nil {
		subject, version = r.Subject, r.Version
	} else if p, _, _, err := pinrecord.ParsePending(sealed); err == nil {
		subject, version = p.Subject, p.Version
	} else if k, _, _, err := pinrecord.ParsePasskey(sealed); err == nil {
		subject, version = k.Subject, k.Version
	} else {
		return fault.New(fault.KeySealInvalid, "")
	}
	if m.begun[subject.Digest()] == version {
		m.begun[subject.Digest()], m.by[subject.Digest()] = version+1, "revoked"
	}
	return nil
}

func (m *modules) UnblockRecord(_ context.Context, _ []byte, two []hsm.Approval) error {
	defer m.request()()
	if m.used[string(two[0].Document)] {
		return fault.New(fault.RequestReplayed, "")
	}
	m.used[string(two[0].Document)] = true
	return nil
}

// everybody may do everything.
type everybody struct{}

func (everybody) Authorize(context.Context, string, []policies.Key) error { return nil }
func (everybody) Demand(context.Context) policies.Demand                  { return policies.Demand{} }
func (everybody) Entry(context.Context) *audit.Entry                      { return new(audit.Entry) }

// office is two fronts on one database, modules, and people.
type office struct {
	testing.TB
	modules *modules
	fronts  [2]*Service
	stores  [2]store.Store
	now     time.Time
	root    *person
	anna    *person
	bert    *person
}

type person struct {
	key  crypto.Signer
	cert *x509.Certificate
}

// Anchors implements [Authorities].
func (o *office) Anchors(use string) (trust.Anchors, error) {
	if use != ceremony.UseApprovers {
		return trust.Anchors{}, nil
	}
	return trust.Anchors{Certificates: []*x509.Certificate{o.root.cert}}, nil
}

func (o *office) must(err error) {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
}

// onBoth runs a test on both databases.
func onBoth(t *testing.T, test func(o *office)) {
	t.Run("SQLite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "keys.db")
		test(newOffice(t, func() (store.Store, error) { return store.OpenSQLite(context.Background(), path) }))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		server, err := postgrestest.Start()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		})
		database, err := server.Create(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		options := store.PostgresOptions{Hosts: []string{server.SocketDir}, Database: database, User: postgrestest.User}
		test(newOffice(t, func() (store.Store, error) { return store.OpenPostgres(context.Background(), options) }))
	})
}

func newOffice(t *testing.T, open func() (store.Store, error)) *office {
	o := &office{TB: t, modules: newModules(), now: time.Now().UTC().Truncate(time.Microsecond)}
	o.root = o.issue(nil, "", func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
	o.anna, o.bert = o.issue(o.root, "spiffe://bank.example/merchants/merchant-8/anna"), o.issue(o.root, "spiffe://bank.example/approvers/bert")
	for n := range o.fronts {
		s, err := open()
		o.must(err)
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		if n == 0 {
			record := func(h *hsm.Header) { h.PINKind, h.Formats = hsm.PINRecord, []hsm.Format{hsm.Format4} }
			o.must(s.Put(t.Context(), o.key(DatumKey, "V0"), o.key("zone", "P0", record), o.key("cards", "P0")))
		}
		serials, err := ksn.Open(context.Background(), s, ksn.Options{})
		o.must(err)
		t.Cleanup(func() {
			if err := serials.Close(); err != nil {
				t.Error(err)
			}
		})
		inventory := keys.New(s)
		o.stores[n], o.fronts[n] = s, New(s, keyuse.New(inventory, serials, everybody{}), inventory, o, o.modules)
		o.fronts[n].clock = func() time.Time { return o.now }
	}
	return o
}

func (o *office) key(name, usage string, change ...func(*hsm.Header)) store.KeyRecord {
	h := &hsm.Header{
		Name: name, Version: 1, Generation: 1, Usage: usage, Algorithm: "A", Length: 16, Mode: "B", Exportability: "N", CheckValue: "08D7B4", Fingerprint: strings.Repeat("0A", 16),
		Custody: hsm.CustodyToken, Direction: hsm.DirectionBoth,
	}
	for _, c := range change {
		c(h)
	}
	body, err := hsm.SealedBody(h, [][]byte{make([]byte, 24)})
	o.must(err)
	return store.KeyRecord{Name: name, Version: 1, State: store.Enabled, CreatedAt: time.Now(), Sealed: append(body, make([]byte, hsm.MACSize)...)}
}

func (o *office) issue(by *person, id string, change ...func(*x509.Certificate)) *person {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	o.must(err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	o.must(err)
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "somebody"}, NotBefore: o.now.Add(-time.Hour), NotAfter: o.now.Add(48 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if id != "" {
		u, err := url.Parse(id)
		o.must(err)
		c.URIs = []*url.URL{u}
	}
	for _, f := range change {
		f(c)
	}
	p, issuer, signer := &person{key: key}, c, crypto.Signer(key)
	if by != nil {
		issuer, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, key.Public(), signer)
	o.must(err)
	p.cert, err = x509.ParseCertificate(der)
	o.must(err)
	return p
}

func supervisor(name string) *pinrecord.Subject {
	return &pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "merchant-8", Name: name}
}

// approvals are anna's and bert's.
func (o *office) approvals(action pinrecord.Action, s *pinrecord.Subject, version uint32) []pinrecord.Signed {
	o.Helper()
	a := &pinrecord.Approval{Action: action, Subject: *s, Version: version, Request: strings.ToLower(hex.EncodeToString([]byte(rand.Text()[:16]))), NotAfter: o.now.Add(time.Hour).Unix()}
	if action != pinrecord.Unblock {
		der, err := x509.MarshalPKIXPublicKey(o.anna.key.Public())
		o.must(err)
		a.DeliverTo = der
	}
	encoded, err := a.Encode()
	o.must(err)
	var two []pinrecord.Signed
	for _, p := range []*person{o.anna, o.bert} {
		signed, err := pinrecord.Sign(p.key, [][]byte{p.cert.Raw}, encoded)
		o.must(err)
		two = append(two, signed)
	}
	return two
}

func entry(pin string) Entry {
	return Entry{Key: pinsvc.PINKey{KeyID: "zone", Format: 5}, Block: typed(pin)}
}

func (o *office) begin(two []pinrecord.Signed) *Begun {
	o.Helper()
	b, err := o.fronts[0].Begin(o.Context(), actor, two, time.Time{})
	o.must(err)
	return b
}

func (o *office) enrolled(name, pin string) *pinrecord.Subject {
	o.Helper()
	s := supervisor(name)
	o.begin(o.approvals(pinrecord.Enrol, s, 1))
	verified, r, err := o.fronts[0].Set(o.Context(), actor, s, entry(theCode), entry(pin))
	if err != nil || !verified || r.State != Active {
		o.Fatalf("%v, %+v, %v", verified, r, err)
	}
	return s
}

// tries verifies on the second front.
func (o *office) tries(s *pinrecord.Subject, pin string, want bool) {
	o.Helper()
	if verified, err := o.fronts[1].Verify(o.Context(), actor, s, entry(pin)); err != nil || verified != want {
		o.Errorf("%s: %v, %v, want %v", pin, verified, err, want)
	}
}

func (o *office) is(s *pinrecord.Subject, state State, version uint32) *Record {
	o.Helper()
	r, err := o.fronts[1].Get(o.Context(), s)
	if err != nil || r.State != state || r.Version != version {
		o.Fatalf("%+v, %v, want %s version %d", r, err, state, version)
	}
	return r
}

func (o *office) refused(what string, err error, want fault.Reason) {
	o.Helper()
	if err == nil || fault.Of(err).Reason != want {
		o.Errorf("%s: %v, want %v", what, err, want)
	}
}
