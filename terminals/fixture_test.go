package terminals

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/store"
	"keyd/trust"
)

// moment is when the tests take place.
var moment = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)

const actor = "spiffe://bank.example/officer-1"

// roots are those in force.
type roots []*x509.Certificate

// Anchors implements [Authorities].
func (r roots) Anchors(use string) (trust.Anchors, error) {
	if use != ceremony.UseTerminals {
		return trust.Anchors{}, errors.New("another use was asked for")
	}
	return trust.Anchors{Certificates: r}, nil
}

// authority makes certificates.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newAuthority makes one that signs itself.
func newAuthority(t testing.TB, name string, change ...func(*x509.Certificate)) *authority {
	t.Helper()
	key := newKey(t, elliptic.P256())
	c := authorityTemplate(name)
	for _, ch := range change {
		ch(c)
	}
	return &authority{parsed(t, make1(t, c, c, key.Public(), key)), key}
}

// under makes an authority that a signs.
func (a *authority) under(t testing.TB, name string, change ...func(*x509.Certificate)) *authority {
	t.Helper()
	key := newKey(t, elliptic.P256())
	c := authorityTemplate(name)
	for _, ch := range change {
		ch(c)
	}
	return &authority{parsed(t, make1(t, c, a.certificate, key.Public(), a.key)), key}
}

func authorityTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		NotBefore: moment.AddDate(-1, 0, 0), NotAfter: moment.AddDate(10, 0, 0),
	}
}

// device makes the certificate of a device with a key.
func (a *authority) device(t testing.TB, key crypto.PublicKey, change ...func(*x509.Certificate)) []byte {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "KRD 804-1", Organization: []string{"Maker"}}, KeyUsage: x509.KeyUsageKeyAgreement | x509.KeyUsageDigitalSignature,
		NotBefore: moment.AddDate(0, -1, 0), NotAfter: moment.AddDate(5, 0, 0),
	}
	for _, ch := range change {
		ch(c)
	}
	return make1(t, c, a.certificate, key, a.key)
}

func make1(t testing.TB, c, parent *x509.Certificate, key crypto.PublicKey, by crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key, by)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func parsed(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// newInventory returns an inventory that trusts an authority, on a database of its own.
func newInventory(t testing.TB, trusted ...*authority) *Inventory {
	t.Helper()
	s, err := store.OpenSQLite(context.Background(), filepath.Join(t.TempDir(), "keyd.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return over(s, trusted...)
}

func over(s Store, trusted ...*authority) *Inventory {
	var r roots
	for _, a := range trusted {
		r = append(r, a.certificate)
	}
	v := New(s, r)
	v.clock = func() time.Time { return moment }
	return v
}

func registration(id string, certificates ...[]byte) Registration {
	return Registration{ID: id, Owner: "merchant-7", Model: "P400 Plus", Serial: "804-1", Site: "Zürich", Certificates: certificates}
}

// want checks the reason of a refusal.
func want(t testing.TB, what string, reason fault.Reason, err error) {
	t.Helper()
	if err == nil || fault.Of(err).Reason != reason {
		t.Errorf("%s: %v, want %s", what, err, reason)
	}
}
