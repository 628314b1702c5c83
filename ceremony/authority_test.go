package ceremony_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"keyd/ceremony"
)

var authorityFrom = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// certificate returns a self-signed certificate of an authority, in DER.
func certificate(t testing.TB, key crypto.Signer, change ...func(*x509.Certificate)) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Maker of Terminals"}, NotBefore: authorityFrom, NotAfter: authorityFrom.AddDate(10, 0, 0),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	for _, c := range change {
		c(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestAuthoritiesAreRead(t *testing.T) {
	der := certificate(t, ecKey(t, elliptic.P384()))
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, b := range map[string][]byte{"DER": der, "PEM": text, "PEM between lines": append(append([]byte("\n"), text...), "\n\n"...)} {
		a, err := ceremony.ParseAuthority(b, []string{ceremony.UseHosts, ceremony.UseTerminals})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if a.Fingerprint() != ceremony.Digest(der) || !a.Has(ceremony.UseHosts) || !a.Has(ceremony.UseTerminals) || a.Uses[0] != ceremony.UseTerminals {
			t.Errorf("%s: %s %v", name, a.Fingerprint(), a.Uses)
		}
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := ecKey(t, elliptic.P256())
	terminals := []string{ceremony.UseTerminals}
	for name, c := range map[string]struct {
		text []byte
		uses []string
	}{
		"nothing":             {nil, terminals},
		"no certificate":      {[]byte("a certificate"), terminals},
		"something behind it": {append(append([]byte{}, der...), 0), terminals},
		"two":                 {append(append([]byte{}, text...), text...), terminals},
		"a key":               {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), terminals},
		"no authority's":      {certificate(t, good, func(c *x509.Certificate) { c.IsCA = false }), terminals},
		"may not sign":        {certificate(t, good, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), terminals},
		"a short RSA key":     {certificate(t, weak), terminals},
		"P-224":               {certificate(t, ecKey(t, elliptic.P224())), terminals},
		"Ed25519":             {certificate(t, edwards), terminals},
		"something critical": {certificate(t, good, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}
		}), terminals},
		"too long": {certificate(t, good, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 3, 6, 1, 4, 1, 99999, 1}, Value: make([]byte, ceremony.MaxCertificate)}}
		}), terminals},
		"no use":        {der, nil},
		"another use":   {der, []string{"terminals", "phones"}},
		"one use twice": {der, []string{"terminals", "terminals"}},
	} {
		if _, err := ceremony.ParseAuthority(c.text, c.uses); !errors.Is(err, ceremony.ErrDefinition) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The module gets what a front sends, which did not go through ParseAuthority.
func TestDefinitionsOfAuthorities(t *testing.T) {
	good := ceremony.Authority{Certificate: certificate(t, ecKey(t, elliptic.P256())), Uses: []string{"terminals", "hosts"}}
	fingerprint := good.Fingerprint()
	for name, d := range map[string]*ceremony.Definition{
		"nothing":               {Kind: ceremony.Trust},
		"uses in another order": {Kind: ceremony.Trust, Authority: &ceremony.Authority{Certificate: good.Certificate, Uses: []string{"hosts", "terminals"}}},
		"a use twice":           {Kind: ceremony.Trust, Authority: &ceremony.Authority{Certificate: good.Certificate, Uses: []string{"hosts", "hosts"}}},
		"an unknown use":        {Kind: ceremony.Trust, Authority: &ceremony.Authority{Certificate: good.Certificate, Uses: []string{"phones"}}},
		"no use":                {Kind: ceremony.Trust, Authority: &ceremony.Authority{Certificate: good.Certificate}},
		"no certificate":        {Kind: ceremony.Trust, Authority: &ceremony.Authority{Certificate: []byte{0x30, 0}, Uses: good.Uses}},
		"none to distrust":      {Kind: ceremony.Distrust, Distrusted: []string{}},
		"no fingerprint":        {Kind: ceremony.Distrust, Distrusted: []string{fingerprint[1:]}},
		"one twice":             {Kind: ceremony.Distrust, Distrusted: []string{fingerprint, fingerprint}},
		"both":                  {Kind: ceremony.Trust, Authority: &good, Distrusted: []string{fingerprint}},
		"of another kind":       {Kind: ceremony.Retire, Authority: &good},
	} {
		d.ValidFor = 3600
		if err := d.Validate(); !errors.Is(err, ceremony.ErrDefinition) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, d := range map[string]*ceremony.Definition{
		"trust": {Kind: ceremony.Trust, Authority: &good}, "distrust": {Kind: ceremony.Distrust, Distrusted: []string{fingerprint}},
		"a takeover": {Kind: ceremony.Adopt, Register: fingerprint, Distrusted: []string{fingerprint}},
	} {
		d.ValidFor = 3600
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAuthoritiesInAFile(t *testing.T) {
	dir := t.TempDir()
	der := certificate(t, ecKey(t, elliptic.P256()))
	if err := os.WriteFile(filepath.Join(dir, "root.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := ceremony.Parse([]byte("kind: trust\nauthority:\n  certificate: root.pem\n  uses: [terminals]\n"), dir)
	if err != nil || d.Authority.Fingerprint() != ceremony.Digest(der) {
		t.Errorf("%+v, %v", d, err)
	}
	shown := ceremony.FormatFingerprint(ceremony.Digest(der))
	d, err = ceremony.Parse([]byte("kind: distrust\ndistrusted: ["+shown+"]\n"), dir)
	if err != nil || d.Distrusted[0] != ceremony.Digest(der) {
		t.Errorf("%+v, %v", d, err)
	}
	for name, text := range map[string]string{
		"elsewhere": "kind: trust\nauthority:\n  certificate: ../root.pem\n  uses: [terminals]\n",
		"no file":   "kind: trust\nauthority:\n  certificate: other.pem\n  uses: [terminals]\n",
		"no use":    "kind: trust\nauthority:\n  certificate: root.pem\n",
	} {
		if _, err := ceremony.Parse([]byte(text), dir); !errors.Is(err, ceremony.ErrDefinition) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnchorsAreThoseOfTheTime(t *testing.T) {
	e := new(ceremony.Epoch)
	terminals := ceremony.Authority{Certificate: certificate(t, ecKey(t, elliptic.P256())), Uses: []string{"terminals"}}
	hosts := ceremony.Authority{Certificate: certificate(t, ecKey(t, elliptic.P256())), Uses: []string{"hosts"}}
	e.Trust(terminals)
	before := e.Clone()
	e.Trust(hosts)
	e.Trust(ceremony.Authority{Certificate: hosts.Certificate, Uses: []string{"terminals", "hosts"}}) // in its place
	if len(before.Authorities) != 1 || len(e.Authorities) != 2 || e.Authorities[0].Fingerprint() > e.Authorities[1].Fingerprint() {
		t.Errorf("%d, %d", len(before.Authorities), len(e.Authorities))
	}
	within := authorityFrom.AddDate(5, 0, 0)
	for name, c := range map[string]struct {
		use  string
		at   time.Time
		want int
	}{
		"terminals": {"terminals", within, 2}, "hosts": {"hosts", within, 1}, "neither": {"phones", within, 0},
		"too early": {"hosts", authorityFrom.Add(-time.Second), 0}, "too late": {"hosts", authorityFrom.AddDate(10, 0, 1), 0},
	} {
		if anchors, err := e.Anchors(c.use, c.at); err != nil || len(anchors.Certificates) != c.want {
			t.Errorf("%s: %d, %v", name, len(anchors.Certificates), err)
		}
	}
	kept := e.Clone()
	e.Distrust(hosts.Fingerprint())
	if e.Authority(hosts.Fingerprint()) != nil || e.Authority(terminals.Fingerprint()) == nil || kept.Authority(hosts.Fingerprint()) == nil {
		t.Error("another one is believed than should be")
	}
}
