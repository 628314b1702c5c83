package terminals

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/keyagreement"
	"keyd/keys"
	"keyd/store"
	"keyd/store/postgrestest"
	"keyd/tr34"
)

// world is a front's distribution, with what stands for modules.
type world struct {
	*Distribution

	t       testing.TB
	db      store.Store
	root    *authority
	ledger  *ledger
	now     time.Time
	legacy  error
	devices map[string]*ecdsa.PrivateKey // by terminal
	chains  map[string][]byte
	hostRSA *rsa.PrivateKey
}

// newWorld has a host for each kind of method, BDKs, and key set "shop".
func newWorld(t testing.TB) *world {
	t.Helper()
	s, err := store.OpenSQLite(context.Background(), filepath.Join(t.TempDir(), "keyd.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return newWorldOver(t, s, newLedger(t))
}

func newWorldOver(t testing.TB, s store.Store, l *ledger) *world {
	t.Helper()
	w := &world{t: t, db: s, ledger: l, now: moment, root: newAuthority(t, "Maker root"), devices: map[string]*ecdsa.PrivateKey{}, chains: map[string][]byte{}}
	w.Distribution = w.front()
	hosts := newAuthority(t, "Hosts")
	ec := newKey(t, elliptic.P521())
	var err error
	if w.hostRSA, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	w.putPair("host.ec", ec.Public(), "E")
	w.putPair("host.rsa", w.hostRSA.Public(), "R")
	w.putKey("bdk.aes", "B0", "A")
	w.putKey("bdk.tdes", "B0", "T")
	w.putKey("zone", "P0", "T")
	asHost := func(c *x509.Certificate) {
		c.Subject, c.KeyUsage = pkix.Name{CommonName: "KDH 1"}, x509.KeyUsageDigitalSignature
	}
	for name, key := range map[string]crypto.PublicKey{"host.ec": ec.Public(), "host.rsa": w.hostRSA.Public()} {
		if _, err := w.SetHost(t.Context(), KeyHost{Name: name, Key: name, Certificates: [][]byte{hosts.device(t, key, asHost)}, List: w.list(hosts, 1, moment)}); err != nil {
			t.Fatal(err)
		}
	}
	w.set(shop())
	return w
}

// front is another front on the same database.
func (w *world) front() *Distribution {
	v := over(w.db, w.root)
	v.clock = func() time.Time { return w.now }
	return NewDistribution(v, w.db, keys.New(w.db), w.ledger)
}

func shop() KeySet {
	return KeySet{
		Name: "shop", Methods: []Method{KeyAgreement, TwoPass, OnePass}, AgreementHost: "host.ec", TokenHost: "host.rsa", Master: MasterSpec{Algorithm: "A", Length: 16},
		Initial: []InitialSpec{{Name: "pin", Key: "bdk.aes", Prefix: []byte{1, 2, 3, 4}, First: 10, Last: 99}},
		Session: []SessionSpec{{Name: "pin", Usage: "P0", Algorithm: "A", Length: 16}, {Name: "mac", Usage: "M6", Algorithm: "A", Length: 16, Hours: 8}},
	}
}

func (w *world) set(k KeySet) *KeySet {
	w.t.Helper()
	set, err := w.SetKeySet(w.t.Context(), k)
	if err != nil {
		w.t.Fatal(err)
	}
	return set
}

func (w *world) putKey(name, usage, algorithm string) {
	w.put(&hsm.Header{
		Name: name, Version: 1, Generation: 1, Usage: usage, Algorithm: algorithm, Length: 16, Mode: "X", Exportability: "N", CheckValue: "08D7B4", Fingerprint: "00", Custody: hsm.CustodyToken,
	})
}

func (w *world) putPair(name string, key crypto.PublicKey, algorithm string) {
	public, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	w.put(&hsm.Header{
		Name: name, Version: 1, Generation: 1, Usage: "S0", Algorithm: algorithm, Length: 66, Mode: "S", Exportability: "N", CheckValue: "08D7B4", Fingerprint: "00", Custody: hsm.CustodyToken,
		Object: name, Public: public,
	})
}

func (w *world) put(h *hsm.Header) {
	w.t.Helper()
	if err := w.db.Put(context.Background(), store.KeyRecord{Name: h.Name, Version: 1, State: store.Enabled, Sealed: sealed(w.t, h), CreatedAt: moment}); err != nil {
		w.t.Fatal(err)
	}
}

// list makes a revocation list.
func (w *world) list(by *authority, number int64, at time.Time, revoked ...int64) []byte {
	w.t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: at, NextUpdate: at.AddDate(0, 0, 7)}
	for _, n := range revoked {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: at})
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, by.certificate, by.key)
	if err != nil {
		w.t.Fatal(err)
	}
	return der
}

// terminal registers a terminal that gets the keys of "shop".
func (w *world) terminal(id string) string {
	w.t.Helper()
	key := newKey(w.t, elliptic.P256())
	der := w.root.device(w.t, key.Public())
	if _, _, err := w.inventory.Register(context.Background(), actor, registration(id, der), false); err != nil {
		w.t.Fatal(err)
	}
	w.devices[id], w.chains[id] = key, der
	if _, err := w.Assign(context.Background(), actor, id, "shop"); err != nil {
		w.t.Fatal(err)
	}
	return id
}

// message makes a new message of a terminal.
func (w *world) message(id string) []byte {
	w.t.Helper()
	tm, err := keyagreement.NewTerminal(rand.Reader, keyagreement.P256, []*x509.Certificate{parsed(w.t, w.chains[id])}, func(digest []byte, _ crypto.Hash) ([]byte, error) {
		return ecdsa.SignASN1(rand.Reader, w.devices[id], digest)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return tm.Request()
}

func (w *world) request(id string, m Method) Request {
	w.t.Helper()
	r := Request{Terminal: id, Method: m, Legacy: func(context.Context) error { return w.legacy }}
	switch m {
	case KeyAgreement:
		r.Message = w.message(id)
	case TwoPass:
		random := make([]byte, 16)
		_, _ = rand.Read(random)
		token, err := tr34.RandomToken(random)
		if err != nil {
			w.t.Fatal(err)
		}
		r.Message = token
	}
	return r
}

func (w *world) inject(r Request) *Answer {
	w.t.Helper()
	a, err := w.Inject(context.Background(), actor, r)
	if err != nil {
		w.t.Fatalf("Inject: %v", err)
	}
	return a
}

func (w *world) confirm(i *Injection) *Injection {
	w.t.Helper()
	c, err := w.Confirm(context.Background(), actor, i.Terminal, i.ID, checks(i), mac)
	if err != nil {
		w.t.Fatalf("Confirm: %v", err)
	}
	return c
}

func checks(i *Injection) (values []string) {
	for _, k := range i.Keys {
		values = append(values, k.CheckValue)
	}
	return values
}

func (w *world) state(i *Injection, want store.InjectionState) {
	w.t.Helper()
	got, err := w.Injection(context.Background(), i.Terminal, i.ID)
	if err != nil || got.State != want {
		w.t.Errorf("injection: %+v, %v, want %s", got, err, want)
	}
}

func (w *world) kinds(id string) (kinds []string) {
	w.t.Helper()
	events, err := w.inventory.Events(context.Background(), id, 0, store.MaxList)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// TestTerminalsGetTheirKeys by each method: the same request the same answer, then a receipt.
func TestTerminalsGetTheirKeys(t *testing.T) {
	w := newWorld(t)
	for n, m := range []Method{KeyAgreement, TwoPass, OnePass} {
		t.Run(string(m), func(t *testing.T) {
			id := w.terminal(fmt.Sprintf("t-%d", n))
			r := w.request(id, m)
			a := w.inject(r)
			if got := a.Injection.Keys; len(got) != 3 || got[2].Name != "pin" || got[2].BDK != "bdk.aes" || !bytes.Equal(got[2].ID, []byte{1, 2, 3, 4, 0, 0, 0, 10 + byte(n)}) {
				t.Errorf("%+v", got)
			}
			asked := w.ledger.asked
			again := w.inject(r)
			if !bytes.Equal(again.Answer, a.Answer) || !slices.Equal(again.KeyBlocks, a.KeyBlocks) || again.Injection.ID != a.Injection.ID || w.ledger.asked != asked {
				t.Error("the same request got another answer")
			}
			w.state(a.Injection, store.InjectionPending)
			for what, try := range map[string]func() error{
				"another MAC": func() error {
					_, err := w.Confirm(t.Context(), actor, id, a.Injection.ID, checks(a.Injection), make([]byte, 16))
					return err
				},
				"another check value": func() error {
					_, err := w.Confirm(t.Context(), actor, id, a.Injection.ID, []string{"00AA01", "00AA02", "FFFFFF"}, mac)
					return err
				},
			} {
				want(t, what, fault.ReceiptInvalid, try())
			}
			c := w.confirm(a.Injection)
			if c.State != store.InjectionConfirmed || len(c.Statement) == 0 || c.Confirmed.IsZero() {
				t.Errorf("%+v", c)
			}
			if again := w.confirm(a.Injection); !bytes.Equal(again.Statement, c.Statement) {
				t.Error("the same receipt got another statement")
			}
			_, err := w.Confirm(t.Context(), actor, id, a.Injection.ID, []string{"00AA01", "00AA02", "FFFFFF"}, mac)
			want(t, "another receipt", fault.InjectionState, err)
			_, err = w.Inject(t.Context(), actor, r)
			if m == OnePass {
				if err != nil { // it says nothing that is new, so it is the next one
					t.Error(err)
				}
			} else {
				want(t, "the request once it is confirmed", fault.RequestReplayed, err)
			}
			if got := w.kinds(id); !slices.Equal(got[:4], []string{"registered", "key-set", "keys-sent", "keys-confirmed"}) {
				t.Errorf("events %q", got)
			}
		})
	}
}

// TestCredentialsAndProfiles: what the front writes and knows is what package tr34 does.
func TestCredentialsAndProfiles(t *testing.T) {
	w := newWorld(t)
	h, err := w.HostOf(t.Context(), w.terminal("t-1"), TwoPass)
	if err != nil {
		t.Fatal(err)
	}
	same, err := tr34.CredentialToken(parsed(t, h.Certificates[0]), h.List)
	if err != nil || !bytes.Equal(h.Credential, same) {
		t.Errorf("CT_KDH is %x, want %x (%v)", h.Credential, same, err)
	}
	if ec, err := w.HostOf(t.Context(), "t-1", KeyAgreement); err != nil || ec.Credential != nil || ec.Name != "host.ec" {
		t.Errorf("%+v, %v", ec, err)
	}
	if !slices.Equal(profiles, tr34.ProfileNames()) {
		t.Errorf("profiles %q, want %q", profiles, tr34.ProfileNames())
	}
	for _, algorithm := range []string{"T", "A", "H", ""} {
		for length := range uint32(40) {
			want := 0
			if algorithm != "" {
				want = tr34.KeyStrength(algorithm[0], int(length))
			}
			if got := strength(algorithm, length); got != want {
				t.Errorf("%s of %d bytes has %d bits, want %d", algorithm, length, got, want)
			}
		}
	}
}

// TestRequestsThatAreRefused: each with its reason, and no number is used.
func TestRequestsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	id, other := w.terminal("t-1"), w.terminal("t-2")
	replay := w.request(id, TwoPass)
	w.inject(replay)
	altered := w.request(id, KeyAgreement)
	altered.Message[len(altered.Message)-1] ^= 1
	foreign := w.request(other, KeyAgreement)
	foreign.Terminal = id
	own := w.request(id, KeyAgreement)
	own.Own = [][]byte{{1, 2, 3, 4, 0, 0, 0, 1}}
	repeated := replay
	repeated.Own = [][]byte{{1, 2, 3, 4, 0, 0, 0, 1}}
	bare := w.terminal("t-bare")
	k := shop()
	k.Name, k.Methods, k.TokenHost, k.Master.Bare = "bare", []Method{KeyAgreement}, "", true
	w.set(k)
	if _, err := w.Assign(t.Context(), actor, bare, "bare"); err != nil {
		t.Fatal(err)
	}
	none := w.terminal("t-none")
	if _, err := w.Assign(t.Context(), actor, none, ""); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.inventory.Register(t.Context(), actor, registration("t-uncertified"), false); err != nil {
		t.Fatal(err)
	}
	w.legacy = fault.New(fault.PolicyDenied, "")
	next := func() byte { // the number that follows
		a := w.inject(w.request(other, KeyAgreement))
		return a.Injection.Keys[2].ID[7]
	}
	before := next()
	asked := w.ledger.asked
	for what, c := range map[string]struct {
		r    Request
		want fault.Reason
	}{
		"no terminal":              {Request{Terminal: "none", Method: OnePass}, fault.TerminalNotFound},
		"no method":                {Request{Terminal: id}, fault.RequestInvalid},
		"no message":               {Request{Terminal: id, Method: KeyAgreement}, fault.RequestInvalid},
		"a message of no kind":     {Request{Terminal: id, Method: KeyAgreement, Message: []byte{0x30, 0}}, fault.RequestInvalid},
		"no random number":         {Request{Terminal: id, Method: TwoPass, Message: []byte{0x30, 0}}, fault.RequestInvalid},
		"a long message":           {Request{Terminal: id, Method: TwoPass, Message: make([]byte, MaxRequest+1)}, fault.RequestInvalid},
		"an altered message":       {altered, fault.RequestInvalid},
		"another terminal's":       {foreign, fault.PublicKeyKnown},
		"identifiers unasked":      {own, fault.RequestInvalid},
		"a random number again":    {repeated, fault.RequestReplayed},
		"bare keys":                {w.request(bare, KeyAgreement), fault.PolicyDenied},
		"bare keys by TR-34":       {w.request(bare, TwoPass), fault.RequestInvalid},
		"without a key set":        {w.request(none, OnePass), fault.KeySetNotFound},
		"without a certificate":    {Request{Terminal: "t-uncertified", Method: OnePass}, fault.CertificateInvalid},
		"seven identifiers":        {Request{Terminal: id, Method: OnePass, Own: make([][]byte, 7)}, fault.RequestInvalid},
		"a malformed terminal too": {Request{Terminal: "a b", Method: OnePass}, fault.RequestInvalid},
	} {
		_, err := w.Inject(t.Context(), actor, c.r)
		want(t, what, c.want, err)
	}
	if w.ledger.asked != asked {
		t.Error("a module was asked")
	}
	if got := next(); got != before+1 {
		t.Errorf("refusals have used numbers %d to %d", before+1, got-1)
	}
	if _, err := w.inventory.Suspend(t.Context(), actor, id, ""); err != nil {
		t.Fatal(err)
	}
	_, err := w.Inject(t.Context(), actor, replay)
	want(t, "the same request of a suspended one", fault.TerminalState, err)
}

// TestOwnIdentifiers are the terminal's until it has confirmed them, and nobody's afterwards.
func TestOwnIdentifiers(t *testing.T) {
	w := newWorld(t)
	k := shop()
	k.Initial = []InitialSpec{
		{Name: "pin", Key: "bdk.aes", Prefix: []byte{1, 2, 3, 4}, Own: true}, {Name: "data", Key: "bdk.aes", Prefix: []byte{9, 9, 9, 9}, Last: 9},
		{Name: "old", Key: "bdk.tdes", Prefix: []byte{0xff, 0xff, 1, 2, 3}, Own: true},
	}
	k.Methods, k.TokenHost = []Method{KeyAgreement}, ""
	w.set(k)
	id, other := w.terminal("t-1"), w.terminal("t-2")
	aes, tdes := []byte{1, 2, 3, 4, 0, 0, 0, 77}, []byte{0xff, 0xff, 1, 2, 3, 4, 5, 0xe0, 0, 0}
	with := func(id string, own ...[]byte) Request {
		r := w.request(id, KeyAgreement)
		r.Own = own
		return r
	}
	for what, own := range map[string][][]byte{
		"none": nil, "one": {aes}, "three": {aes, tdes, tdes}, "in another order": {tdes, aes}, "another prefix": {{1, 2, 3, 5, 0, 0, 0, 77}, tdes},
		"with a counter": {aes, {0xff, 0xff, 1, 2, 3, 4, 5, 0xe0, 0, 1}}, "with a high counter": {aes, {0xff, 0xff, 1, 2, 3, 4, 5, 0xf0, 0, 0}}, "short": {aes[:7], tdes}, "long": {append(aes[:8:8], 0), tdes},
	} {
		_, err := w.Inject(t.Context(), actor, with(id, own...))
		want(t, what, fault.RequestInvalid, err)
	}
	first := w.inject(with(id, aes, tdes))
	_, err := w.Inject(t.Context(), actor, with(other, aes, []byte{0xff, 0xff, 1, 2, 3, 9, 9, 0xe0, 0, 0}))
	want(t, "another terminal", fault.InitialKeyAllotted, err)
	second := w.inject(with(id, aes, tdes)) // the answer was lost
	w.state(first.Injection, store.InjectionSuperseded)
	w.confirm(second.Injection)
	_, err = w.Inject(t.Context(), actor, with(id, aes, tdes))
	want(t, "once they are confirmed", fault.InitialKeyAllotted, err)
}

// TestForgottenNumbers: after a restore the database has forgotten numbers that the modules
// remember, and skips them, as many as there are.
func TestForgottenNumbers(t *testing.T) {
	w := newWorld(t)
	id := w.terminal("t-1")
	for n := range 50 { // 10 to 59
		w.ledger.devices[fmt.Sprintf("bdk.aes 0102030400%06X", 10+n)] = [32]byte{1}
	}
	a := w.inject(w.request(id, KeyAgreement))
	if got := a.Injection.Keys[2].ID[7]; got < 60 || got > 99 {
		t.Errorf("allotted %d", got)
	}
	w.confirm(a.Injection)
	for n := range 90 {
		w.ledger.devices[fmt.Sprintf("bdk.aes 0102030400%06X", 10+n)] = [32]byte{1}
	}
	r := w.request(w.terminal("t-2"), KeyAgreement)
	for range 3 {
		_, err := w.Inject(t.Context(), actor, r)
		want(t, "a range that is used up", fault.NumbersExhausted, err)
	}
	if got := w.kinds("t-2"); got[len(got)-1] != "keys-failed" {
		t.Errorf("events %q", got)
	}
}

// TestBrokenOff: wherever it breaks off, nothing is given, no number becomes another's, and the
// same request may come again.
func TestBrokenOff(t *testing.T) {
	broken := fault.New(fault.ModuleUnavailable, "")
	for _, m := range []Method{KeyAgreement, TwoPass, OnePass} {
		for what, hurt := range map[string]func(*world) (mend func()){
			"no module":                func(w *world) func() { w.ledger.before = broken; return func() { w.ledger.before = nil } },
			"the module's answer lost": func(w *world) func() { w.ledger.after = broken; return func() { w.ledger.after = nil } },
			"the answer is not kept": func(w *world) func() {
				w.store = failing{DistributionStore: w.db, answer: store.ErrFull}
				return func() { w.store = w.db }
			},
			"a crash before the answer": func(w *world) func() { // nothing is noted either
				w.store = failing{DistributionStore: w.db, answer: store.ErrUnreachable, end: store.ErrUnreachable}
				return func() { w.Distribution = w.front() }
			},
			"a crash after it": func(w *world) func() {
				w.store = failing{DistributionStore: w.db, lost: true, end: store.ErrUnreachable}
				return func() { w.Distribution = w.front() }
			},
		} {
			t.Run(string(m)+" "+what, func(t *testing.T) {
				w := newWorld(t)
				id, other := w.terminal("t-1"), w.terminal("t-2")
				r := w.request(id, m)
				mend := hurt(w)
				for range 3 {
					if a, err := w.Inject(t.Context(), actor, r); err == nil || a != nil {
						if what != "a crash after it" {
							t.Fatalf("%+v, %v", a, err)
						}
					}
				}
				mend()
				others := w.inject(w.request(other, m)).Injection.Keys[2].ID
				a := w.inject(r)
				if got := a.Injection.Keys[2].ID; bytes.Equal(got, others) || got[7] != 10 {
					t.Errorf("it got %X, the other terminal %X", got, others)
				}
				w.confirm(a.Injection)
				if whose := w.ledger.devices[fmt.Sprintf("bdk.aes %X", a.Injection.Keys[2].ID)]; whose != deviceOf(w.chains[id], t) {
					t.Error("the ledger has another device")
				}
			})
		}
	}
}

// failing is a database that fails at one point.
type failing struct {
	DistributionStore
	answer, end error
	lost        bool // the answer is kept, and its confirmation lost
}

func (f failing) AnswerInjection(ctx context.Context, g store.Given, e store.TerminalEvent) error {
	if f.answer != nil {
		return f.answer
	}
	return errors.Join(f.DistributionStore.AnswerInjection(ctx, g, e), store.ErrUnreachable)
}

func (f failing) EndInjection(ctx context.Context, terminal, id string, revision uint64, state store.InjectionState, failure string, e store.TerminalEvent) error {
	if f.end != nil {
		return f.end
	}
	return f.DistributionStore.EndInjection(ctx, terminal, id, revision, state, failure, e)
}

// TestExpiry: by the clock at once, and for good when it is swept.
func TestExpiry(t *testing.T) {
	w := newWorld(t)
	id := w.terminal("t-1")
	r := w.request(id, KeyAgreement)
	a := w.inject(r)
	w.now = a.Injection.ConfirmBy
	w.state(a.Injection, store.InjectionExpired)
	_, err := w.Confirm(t.Context(), actor, id, a.Injection.ID, checks(a.Injection), mac)
	want(t, "a late receipt", fault.InjectionState, err)
	_, err = w.Inject(t.Context(), actor, r)
	want(t, "a late request", fault.RequestReplayed, err)
	for _, ended := range []int{1, 0} {
		if n, err := w.Expire(t.Context()); err != nil || n != ended {
			t.Errorf("%d, %v, want %d", n, err, ended)
		}
	}
	if l, err := w.db.KeysOfTerminal(t.Context(), id); err != nil || len(l) != 0 {
		t.Errorf("%d keys are left, %v", len(l), err)
	}
	// What a crash has left becomes FAILED, and the same request may begin it again.
	next := w.request(id, KeyAgreement)
	w.store = failing{DistributionStore: w.db, answer: store.ErrUnreachable, end: store.ErrUnreachable}
	if _, err := w.Inject(t.Context(), actor, next); err == nil {
		t.Error("it was kept")
	}
	w.store = w.db
	if n, err := w.Expire(t.Context()); err != nil || n != 0 {
		t.Errorf("at once: %d, %v", n, err)
	}
	w.now = w.now.Add(2 * time.Minute)
	if n, err := w.Expire(t.Context()); err != nil || n != 1 {
		t.Errorf("two minutes later: %d, %v", n, err)
	}
	w.confirm(w.inject(next).Injection)
	if got := strings.Join(w.kinds(id), " "); got != "registered key-set keys-sent keys-expired keys-failed keys-sent keys-confirmed" {
		t.Errorf("events %q", got)
	}
}

// TestTooManyInjections: ten a day that are not confirmed.
func TestTooManyInjections(t *testing.T) {
	w := newWorld(t)
	id := w.terminal("t-1")
	for range 10 {
		w.inject(w.request(id, KeyAgreement))
	}
	_, err := w.Inject(t.Context(), actor, w.request(id, KeyAgreement))
	want(t, "the eleventh", fault.RateLimited, err)
	w.now = w.now.AddDate(0, 0, 1).Add(time.Second)
	w.inject(w.request(id, KeyAgreement))
}

// TestTwoFronts on one database, of either kind: whichever front carries a request there is one
// answer to it, and whichever front allots numbers none is given twice.
func TestTwoFronts(t *testing.T) {
	for name, open := range databases {
		t.Run(name, func(t *testing.T) {
			first, second := open(t)
			w := newWorldOver(t, first, newLedger(t))
			other := *w
			other.db = second
			fronts := []*Distribution{w.Distribution, other.front()}
			seen := map[string]string{}
			for n, m := range []Method{KeyAgreement, TwoPass, OnePass, KeyAgreement} {
				id := w.terminal(fmt.Sprintf("t-%d", n))
				r := w.request(id, m)
				var wait sync.WaitGroup
				answers := make([]*Answer, 6)
				for i := range answers {
					wait.Go(func() {
						for {
							a, err := fronts[i%2].Inject(context.Background(), actor, r)
							if err == nil {
								answers[i] = a
								return
							}
							if fault.Of(err).Reason != fault.Conflict {
								t.Errorf("%s: %v", m, err)
								return
							}
						}
					})
				}
				wait.Wait()
				for _, a := range answers {
					if a == nil || answers[0] == nil || !bytes.Equal(a.Answer, answers[0].Answer) || a.Injection.ID != answers[0].Injection.ID {
						t.Fatalf("%s: two answers to one request", m)
					}
				}
				w.confirm(answers[0].Injection)
			}
			const terminals = 8
			ids, requests := make([]string, terminals), make([]Request, terminals)
			for n := range ids {
				ids[n] = w.terminal(fmt.Sprintf("r-%d", n))
				requests[n] = w.request(ids[n], TwoPass)
			}
			var mu sync.Mutex
			var wait sync.WaitGroup
			for n := range ids {
				wait.Go(func() {
					a, err := fronts[n%2].Inject(context.Background(), actor, requests[n])
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					key := string(a.Injection.Keys[2].ID)
					if seen[key] != "" {
						t.Errorf("%X is %s's and %s's", key, seen[key], ids[n])
					}
					seen[key] = ids[n]
				})
			}
			wait.Wait()
		})
	}
}

// databases open one database twice, as two fronts have it.
var databases = map[string]func(t *testing.T) (first, second store.Store){
	"SQLite": func(t *testing.T) (first, second store.Store) {
		path := filepath.Join(t.TempDir(), "keyd.db")
		return opened(t, func() (store.Store, error) { return store.OpenSQLite(t.Context(), path) })
	},
	"Postgres": func(t *testing.T) (first, second store.Store) {
		server, err := postgrestest.Start()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		})
		database, err := server.Create(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return opened(t, func() (store.Store, error) {
			return store.OpenPostgres(t.Context(), store.PostgresOptions{Hosts: []string{server.SocketDir}, Database: database, User: postgrestest.User})
		})
	},
}

func opened(t *testing.T, open func() (store.Store, error)) (first, second store.Store) {
	t.Helper()
	for _, s := range []*store.Store{&first, &second} {
		var err error
		if *s, err = open(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = (*s).Close() })
	}
	return first, second
}
