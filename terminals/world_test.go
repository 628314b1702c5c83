package terminals

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"keyd/hsm"
	"keyd/keyagreement"
	"keyd/keys"
	"keyd/store"
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
