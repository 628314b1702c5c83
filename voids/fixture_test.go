package voids

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyd/audit"
	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/keyuse"
	"keyd/ksn"
	"keyd/pinrecord"
	"keyd/policies"
	"keyd/store"
	"keyd/store/postgrestest"
	"keyd/trust"
	"keyd/voids/code"
	"keyd/voids/flow"
	"keyd/voidtoken"
)

const (
	switchID = "spiffe://bank.example/switch"
	right    = 1 // the first byte of a block with the right PIN
	wrong    = 2
)

// policyText is the policy of the tests.
const policyText = `version: 1
identities: []
roles: {}
voids:
  token_key: token
  code_key: code
  token_life: 300
  code_life: 120
  slip_life: 7200
  code_host: void.example.com
  default:
    currency: 156
    per_day: 3
    age: 43200
    tries: 3
    life: 600
    confirm: 3600
    tiers:
      - {up_to: 50000, methods: [[SUPERVISOR_PIN], [REMOTE_APPROVAL]]}
      - {up_to: 90000, methods: [[SUPERVISOR_PIN, CARDHOLDER_PIN]]}
  fees:
    currency: 156
    categories:
      standard: {rate: 0.60%}
      debit: {rate: 0.50%, cap: 2500}
`

// access allows everything: who may ask is tried in package server.
type access struct{}

func (access) Authorize(context.Context, string, []policies.Key) error { return nil }
func (access) Demand(context.Context) policies.Demand                  { return policies.Demand{} }
func (access) Entry(ctx context.Context) *audit.Entry {
	if e, ok := ctx.Value(entryKey{}).(*audit.Entry); ok {
		return e
	}
	return new(audit.Entry)
}

type entryKey struct{}

// boundary stands for modules: it verifies and signs as they do, with keys of its own, and keeps the
// promise on which the front relies: a token is of the fields that PIN and MAC were bound to.
type boundary struct {
	token, code, page *ecdsa.PrivateKey
	now               func() time.Time
	pageKeys          atomic.Int32 // that were signed
	forgePage         bool

	asked, signed atomic.Int32

	mu     sync.Mutex
	before func() error                   // instead of doing anything
	after  func(hsm.AuthorizedVoid) error // when everything is done
	alter  func(*voidtoken.Token)         // of a module that is not to be trusted
	seen   []string                       // tokens that were signed
	fields []voidtoken.Fields             // of which
}

// macOf is a terminal's MAC here.
func macOf(digest [32]byte, block []byte, isDUKPT bool) []byte {
	sum := sha256.Sum256(append([]byte("terminal"), pinrecord.Bound(digest, block, isDUKPT)...))
	return sum[:16]
}

func (b *boundary) AuthorizeVoid(_ context.Context, r hsm.AuthorizeVoid) (hsm.AuthorizedVoid, error) {
	b.asked.Add(1)
	b.mu.Lock()
	before, after, alter := b.before, b.after, b.alter
	b.mu.Unlock()
	if before != nil {
		if err := before(); err != nil {
			return hsm.AuthorizedVoid{}, err
		}
	}
	digest, err := r.Fields.Digest()
	if err != nil {
		return hsm.AuthorizedVoid{}, err
	}
	token := voidtoken.Token{Fields: r.Fields, AuthorizedAt: b.now().Unix(), ExpiresAt: r.ExpiresAt}
	for i := range r.PINs {
		p := &r.PINs[i]
		by := voidtoken.Authorization{Method: voidtoken.CardholderPIN, Subject: "cardholder"}
		if p.Record != nil {
			if !bytes.HasPrefix(p.Record.Record, []byte("sealed ")) {
				return hsm.AuthorizedVoid{}, fault.New(fault.KeySealInvalid, "")
			}
			by = voidtoken.Authorization{Method: voidtoken.SupervisorPIN, Subject: string(p.Record.Record[len("sealed "):])}
		}
		if p.Phone != nil {
			by.Method, p.MAC = voidtoken.PhonePIN, macOf(digest, p.Block, false) // the key is bound to the void
		}
		if p.Block[0] != right || !bytes.Equal(p.MAC, macOf(digest, p.Block, p.Key.KSN != (dukpt.KSN{}))) {
			return hsm.AuthorizedVoid{}, nil
		}
		if token.Authorizations = append(token.Authorizations, by); i == 1 && by.Method == voidtoken.SupervisorPIN {
			token.Authorizations[0], token.Authorizations[1] = token.Authorizations[1], token.Authorizations[0]
		}
	}
	if alter != nil {
		alter(&token)
	}
	text, err := b.sign(token)
	answer := hsm.AuthorizedVoid{Verified: err == nil, Token: text}
	if err == nil && after != nil {
		err = after(answer)
	}
	return answer, err
}

func (b *boundary) sign(token voidtoken.Token) (string, error) {
	text, err := voidtoken.Sign(b.token, token)
	if err == nil {
		b.signed.Add(1)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.seen, b.fields = append(b.seen, text), append(b.fields, token.Fields)
	}
	return text, err
}

func (b *boundary) ApproveVoid(_ context.Context, r hsm.ApproveVoid) (string, error) {
	b.asked.Add(1)
	return b.sign(voidtoken.Token{
		Fields: r.Fields, AuthorizedAt: b.now().Unix(), ExpiresAt: r.ExpiresAt, Authorizations: []voidtoken.Authorization{{Method: voidtoken.RemoteApproval, Subject: "rita"}},
	})
}

func (b *boundary) SignCode(_ context.Context, r hsm.SignCode) (signature []byte, err error) {
	_, err = code.Sign(&b.code.PublicKey, func(digest []byte) ([]byte, error) {
		signature, err = b.code.Sign(rand.Reader, digest, crypto.SHA256)
		return signature, err
	}, code.Code{Identifier: r.Identifier, Expiry: time.Unix(r.ExpiresAt, 0), Audience: r.Audience})
	return signature, err
}

// assertionOf is a passkey's over a void, here.
func assertionOf(name string, digest [32]byte) []byte {
	sum := sha256.Sum256(append([]byte("assertion of "+name), digest[:]...))
	return sum[:]
}

func (b *boundary) AuthorizeByPasskey(_ context.Context, r hsm.AuthorizeByPasskey) (hsm.AuthorizedVoid, error) {
	b.asked.Add(1)
	digest, err := r.Fields.Digest()
	if err != nil {
		return hsm.AuthorizedVoid{}, err
	}
	name, genuine := strings.CutPrefix(string(r.Record), "passkey of ")
	if !genuine {
		return hsm.AuthorizedVoid{}, fault.New(fault.KeySealInvalid, "")
	}
	if !bytes.Equal(r.Assertion.Signature, assertionOf(name, digest)) {
		return hsm.AuthorizedVoid{}, nil
	}
	text, err := b.sign(voidtoken.Token{
		Fields: r.Fields, AuthorizedAt: b.now().Unix(), ExpiresAt: r.ExpiresAt, Authorizations: []voidtoken.Authorization{{Method: voidtoken.PhonePasskey, Subject: name}},
	})
	return hsm.AuthorizedVoid{Verified: err == nil, Token: text}, err
}

func (b *boundary) SignPageKey(_ context.Context, r hsm.SignPageKey) (s hsm.SignedPageKey, err error) {
	b.pageKeys.Add(1)
	if s.Point, err = b.page.PublicKey.Bytes(); err != nil {
		return s, err
	}
	message := binary.BigEndian.AppendUint64(append([]byte(hsm.PageKeyText), s.Point...), uint64(r.ExpiresAt))
	digest := sha256.Sum256(message)
	signer := b.code
	if b.forgePage {
		signer = b.token
	}
	s.Signature, err = signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	return s, err
}

// counted stands for the PIN records: tries of one subject, on whichever front.
type counted struct {
	mu     sync.Mutex
	left   int
	taken  int
	decoys map[string]bool // who has no PIN
	turns  map[string]int  // by whom

	revoked bool // dora's passkey
}

// Turn lets everybody try at once, as on as many hosts.
func (c *counted) Turn(_ context.Context, subjects ...*pinrecord.Subject) (end func(), err error) {
	add := func(n int) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.turns == nil {
			c.turns = map[string]int{}
		}
		for _, s := range subjects {
			c.turns[s.Name] += n
		}
	}
	add(1)
	return func() { add(-1) }, nil
}

func (c *counted) Attempt(_ context.Context, _ string, s *pinrecord.Subject) (Attempt, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turns[s.Name] == 0 {
		return nil, fault.Wrap(fault.Internal, errors.New("a try without a turn"))
	}
	if c.decoys[s.Name] || c.left == 0 {
		return &counting{c, "decoy " + s.Name, true}, nil
	}
	c.left--
	c.taken++
	return &counting{c, "sealed " + s.Name, false}, nil
}

// Passkey is that of dora or, of whoever else, one that no module has sealed.
func (c *counted) Passkey(_ context.Context, subject []byte, f *voidtoken.Fields, origin string) (Passkey, error) {
	dora := phoneOf("dora")
	switch {
	case !bytes.Equal(subject, dora[:]):
		return onPhone{"nobody", "decoy"}, nil
	case f.Merchant != "m-17" || origin != "https://void.example.com" || c.revoked:
		return onPhone{"dora", "decoy"}, nil
	}
	return onPhone{"dora", "passkey of dora"}, nil
}

// phoneOf is whose passkey it is.
func phoneOf(name string) [32]byte {
	s := pinrecord.Subject{Kind: pinrecord.Passkey, Merchant: "m-17", Name: name}
	return s.Digest()
}

type onPhone struct{ owner, record string }

func (p onPhone) Sealed() []byte { return []byte(p.record) }
func (p onPhone) Owner() string  { return p.owner }
func (p onPhone) Settle(verified bool, err error) (bool, error) {
	if p.record == "decoy" && fault.Of(err).Reason == fault.KeySealInvalid {
		return false, nil
	}
	return verified && err == nil, err
}

type counting struct {
	of     *counted
	record string
	decoy  bool
}

func (a *counting) Sealed() hsm.RecordPIN { return hsm.RecordPIN{Record: []byte(a.record)} }

func (a *counting) Settle(_ context.Context, verified bool, err error) (bool, error) {
	if a.decoy {
		return false, nil
	}
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	if err == nil && verified || err != nil && fault.Of(err).Reason == fault.RequestInvalid {
		a.of.left++
	}
	return verified && err == nil, err
}

// nobody is believed.
type nobody struct{ anchors trust.Anchors }

func (n nobody) Anchors(string) (trust.Anchors, error) { return n.anchors, nil }

// bench is a service, or several, on one database.
type bench struct {
	t        testing.TB
	open     func() store.Store // one more front of the same database
	store    store.Store
	boundary *boundary
	records  *counted
	policy   *policies.Voids
	at       atomic.Int64 // microseconds from 1970
	people   nobody

	number atomic.Int64 // of requests
}

func (b *bench) now() time.Time { return time.UnixMicro(b.at.Load()).UTC() }

func (b *bench) sleep(d time.Duration) { b.at.Add(d.Microseconds()) }

// moment is when the tests take place.
var moment = time.Date(2026, 3, 14, 6, 0, 0, 0, time.UTC)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func onSQLite(t testing.TB) func() store.Store {
	path := filepath.Join(t.TempDir(), "keyd.db")
	return func() store.Store {
		s, err := store.OpenSQLite(context.Background(), path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
}

func onPostgres(t testing.TB) func() store.Store {
	server, err := postgrestest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	name, err := server.Create(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return func() store.Store {
		s, err := store.OpenPostgres(context.Background(), store.PostgresOptions{Hosts: []string{server.SocketDir}, Database: name, User: postgrestest.User})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
}

// onBoth runs a test on both databases.
func onBoth(t *testing.T, run func(*testing.T, *bench)) {
	for name, on := range map[string]func(testing.TB) func() store.Store{"SQLite": onSQLite, "Postgres": onPostgres} {
		t.Run(name, func(t *testing.T) { run(t, newBench(t, on(t))) })
	}
}

func newBench(t testing.TB, open func() store.Store) *bench {
	t.Helper()
	b := &bench{t: t, open: open, store: open(), records: &counted{left: 1 << 30, decoys: map[string]bool{"nobody": true}}}
	b.at.Store(moment.UnixMicro())
	b.boundary = &boundary{token: newKey(t), code: newKey(t), page: newKey(t), now: b.now}
	b.setPolicy(policyText)
	b.put("token", "S0", &b.boundary.token.PublicKey)
	b.put("code", "S0", &b.boundary.code.PublicKey)
	b.put("page", "K3", &b.boundary.page.PublicKey)
	b.put("bdk", "B0", nil)
	b.put("pvk", "V2", nil)
	return b
}

func (b *bench) setPolicy(text string) {
	b.t.Helper()
	p, err := policies.Parse([]byte(text))
	if err != nil {
		b.t.Fatal(err)
	}
	b.policy = p.Voids()
}

// put keeps a sealed key, whose MAC nobody here looks at.
func (b *bench) put(name, usage string, public *ecdsa.PublicKey) {
	b.t.Helper()
	b.putAs(store.Enabled, name, usage, public)
}

func (b *bench) putAs(state store.State, name, usage string, public *ecdsa.PublicKey) {
	b.t.Helper()
	h := &hsm.Header{
		Name: name, Version: 1, Generation: 1, Usage: usage, Algorithm: "A", Length: 16, Mode: "X", Exportability: "N", CheckValue: "08D7B4", Fingerprint: "00", Custody: hsm.CustodyToken,
	}
	noise := make([]byte, 24+hsm.MACSize)
	_, _ = rand.Read(noise)
	parts := [][]byte{noise[:24]}
	if public != nil {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			b.t.Fatal(err)
		}
		h.Public, h.Object, h.Algorithm, h.Mode, parts = der, "object", "E", "S", nil
		if usage == "K3" {
			h.Mode, h.PINKind = "X", hsm.PINRecord
		}
	}
	body, err := hsm.SealedBody(h, parts)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.store.Put(context.Background(), store.KeyRecord{Name: name, Version: 1, State: state, Sealed: append(body, noise[24:]...), CreatedAt: moment}); err != nil {
		b.t.Fatal(err)
	}
}

// front is one more front of the database.
func (b *bench) front() *Service {
	b.t.Helper()
	s := b.open()
	return b.over(s, s)
}

// over is a front whose voids go through another store.
func (b *bench) over(s store.Store, voids store.Voids) *Service {
	b.t.Helper()
	serials, err := ksn.Open(context.Background(), s, ksn.Options{})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = serials.Close() })
	inventory := keys.New(s)
	inventory.Start(nil)
	b.t.Cleanup(func() { _ = inventory.Close() })
	v := New(Config{
		Store: voids, Used: keyuse.New(inventory, serials, access{}), Keys: inventory, Records: b.records, Authorities: &b.people, Modules: b.boundary,
		Settings: func(context.Context) *policies.Voids { return b.policy },
	})
	v.clock = b.now
	return v
}

func (b *bench) request() string { return fmt.Sprint("r-", b.number.Add(1)) }

func (b *bench) payment(amount int64) Payment {
	no := false
	return Payment{Merchant: "m-17", Amount: amount, Currency: voidtoken.CNY, PaidAt: b.now().Add(-time.Minute).Unix(), Settled: &no, Voided: &no, Category: "standard"}
}

func (b *bench) create(s *Service, reference string, amount int64) *Created {
	b.t.Helper()
	c, err := s.Create(context.Background(), switchID, Create{
		Request: b.request(), Merchant: "m-17", Terminal: "t-1", Reference: reference, Amount: amount, Currency: voidtoken.CNY, Payment: b.payment(amount), Slip: true,
	})
	if err != nil || c.Void.State != flow.Created {
		b.t.Fatalf("%+v, %v", c, err)
	}
	return c
}

func (b *bench) scanned(s *Service, reference string, amount int64) *Void {
	b.t.Helper()
	v, err := s.Scan(context.Background(), switchID, Scan{Request: b.request(), Code: b.create(s, reference, amount).Code, Merchant: "m-17"})
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// pin is what a terminal sends, with the next key serial number.
func (b *bench) pin(f voidtoken.Fields, name string, kind byte) PIN {
	b.t.Helper()
	digest, err := f.Digest()
	if err != nil {
		b.t.Fatal(err)
	}
	block := make([]byte, 16)
	_, _ = rand.Read(block)
	block[0] = kind
	p := PIN{KeyID: "bdk", Format: 5, Block: block, MAC: MAC{KeyID: "bdk", Algorithm: int32(hsm.CMAC), MAC: macOf(digest, block, false)}}
	if name == cardholder {
		p.Cardholder = &Cardholder{KeyID: "pvk", PAN: "4012345678909", VisaPVV: &hsm.VisaPVV{KeyIndex: 1, PVV: "1234"}}
		return p
	}
	p.Subject = &pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "m-17", Name: name}
	return p
}

func (b *bench) authorize(s *Service, v *Void, request string, pins ...PIN) (*Authorized, error) {
	b.t.Helper()
	return s.Authorize(context.Background(), switchID, Authorize{Request: request, Void: v.Fields.Void, PINs: pins, Payment: b.payment(v.Fields.Amount)})
}

// good has a switch check a token.
func (b *bench) good(token string, f voidtoken.Fields, methods ...voidtoken.Method) {
	b.t.Helper()
	known, err := voidtoken.NewKeys(&b.boundary.token.PublicKey)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := voidtoken.Verify(token, known, voidtoken.Expected{Fields: f, Methods: [][]voidtoken.Method{methods}}, b.now()); err != nil {
		b.t.Error(err)
	}
}

// want checks the reason of a refusal.
func want(t testing.TB, what string, reason fault.Reason, err error) {
	t.Helper()
	if err == nil || fault.Of(err).Reason != reason {
		t.Errorf("%s: %v, want %s", what, err, reason)
	}
}
