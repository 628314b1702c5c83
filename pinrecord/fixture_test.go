package pinrecord_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"testing"
	"time"

	"keyd/pinrecord"
	"keyd/trust"
)

var now = time.Unix(1_800_000_000, 0)

// person has a certificate and its key.
type person struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func (p *person) ders() [][]byte { return [][]byte{p.cert.Raw} }

// office is an authority for approvers, and those whom it knows.
type office struct {
	testing.TB
	root, anna, bert, claire *person // anna and bert of merchant-8, claire of the acquirer
	deliver                  *ecdsa.PrivateKey
}

func newOffice(t testing.TB) *office {
	o := &office{TB: t}
	o.root = o.issue(nil, "", o.key(), func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
	o.anna = o.issue(o.root, "spiffe://bank.example/merchants/merchant-8/anna", o.key())
	o.bert = o.issue(o.root, "spiffe://bank.example/merchants/merchant-8/bert", o.key())
	o.claire = o.issue(o.root, "spiffe://bank.example/approvers/claire", o.key())
	o.deliver = o.key()
	return o
}

func (o *office) must(err error) {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
}

func (o *office) key() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	o.must(err)
	return key
}

func (o *office) issue(by *person, id string, key crypto.Signer, change ...func(*x509.Certificate)) *person {
	o.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	o.must(err)
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "somebody"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(48 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if id != "" {
		u, err := url.Parse(id)
		o.must(err)
		c.URIs = []*url.URL{u}
	}
	for _, f := range change {
		f(c)
	}
	p := &person{key: key}
	issuer, signer := c, key
	if by != nil {
		issuer, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, issuer, key.Public(), signer)
	o.must(err)
	p.cert, err = x509.ParseCertificate(der)
	o.must(err)
	return p
}

func (o *office) anchors() trust.Anchors {
	return trust.Anchors{Certificates: []*x509.Certificate{o.root.cert}}
}

func (o *office) approval(change ...func(*pinrecord.Approval)) *pinrecord.Approval {
	der, err := x509.MarshalPKIXPublicKey(o.deliver.Public())
	o.must(err)
	a := &pinrecord.Approval{
		Action: pinrecord.Reset, Subject: pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "merchant-8", Name: "dora"}, Version: 2,
		Request: "00112233445566778899aabbccddeeff", DeliverTo: der, NotAfter: now.Add(time.Hour).Unix(),
	}
	for _, c := range change {
		c(a)
	}
	return a
}

// signed is an approval with a person's signature.
func (o *office) signed(by *person, a *pinrecord.Approval) pinrecord.Signed {
	o.Helper()
	encoded, err := a.Encode()
	o.must(err)
	s, err := pinrecord.Sign(by.key, [][]byte{by.cert.Raw}, encoded)
	o.must(err)
	return s
}
