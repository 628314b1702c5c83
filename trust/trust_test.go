package trust

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

	"keyd/fault"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// holder is somebody with a certificate.
type holder struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func curveKey(t testing.TB, c elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var serial int64

func issue(t testing.TB, by *holder, key crypto.Signer, change ...func(*x509.Certificate)) *holder {
	t.Helper()
	serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "holder", SerialNumber: big.NewInt(serial).String()},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	for _, c := range change {
		c(template)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &holder{key, c}
}

func authority(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
}

func list(t testing.TB, by *holder, change func(*x509.RevocationList), revoked ...*holder) *x509.RevocationList {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour)}
	for _, h := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: h.cert.SerialNumber, RevocationTime: now})
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, by.cert, by.key)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := ParseLists([][]byte{der})
	if err != nil {
		t.Fatal(err)
	}
	return lists[0]
}

func TestVerify(t *testing.T) {
	p256 := func() crypto.Signer { return curveKey(t, elliptic.P256()) }
	root := issue(t, nil, p256(), authority)
	upper := issue(t, root, p256(), authority)
	lower := issue(t, upper, p256(), authority)
	device := issue(t, lower, p256())
	foreign := issue(t, nil, p256(), authority)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	long := []*holder{device}
	for range 5 {
		long = append(long, lower)
	}
	short := issue(t, root, p256(), authority, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	beyond := issue(t, short, p256(), authority)
	old := issue(t, nil, p256(), authority, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) })
	ofOld := issue(t, old, p256())
	same := issue(t, nil, p256(), authority, func(c *x509.Certificate) { c.Subject = root.cert.Subject })
	unlimited := issue(t, lower, p256(), func(c *x509.Certificate) { c.KeyUsage = 0 })
	untrusted := issue(t, root, p256(), authority)
	anchors := Anchors{Certificates: []*x509.Certificate{root.cert, old.cert}, Distrusted: untrusted.cert.Equal}
	altered := list(t, lower, nil)
	altered.Signature[len(altered.Signature)-1] ^= 1
	for name, c := range map[string]struct {
		chain []*holder
		lists []*x509.RevocationList
		want  error
	}{
		"whole": {[]*holder{device, lower, upper}, nil, nil}, "in another order": {[]*holder{device, upper, lower}, nil, nil},
		"with others": {[]*holder{device, foreign, lower, upper}, nil, nil}, "with the anchor": {[]*holder{device, lower, upper, root}, nil, nil},
		"no key usage":                      {[]*holder{unlimited, lower, upper}, nil, nil},
		"nothing":                           {nil, nil, ErrChain},
		"six":                               {long, nil, ErrChain},
		"a gap":                             {[]*holder{device, upper}, nil, ErrForeign},
		"alone":                             {[]*holder{device}, nil, ErrForeign},
		"foreign":                           {[]*holder{issue(t, foreign, p256()), foreign}, nil, ErrForeign},
		"of one that has the anchor's name": {[]*holder{issue(t, same, p256()), same}, nil, ErrForeign},
		"an authority first":                {[]*holder{lower, upper}, nil, ErrAuthority},
		"the anchor":                        {[]*holder{root}, nil, ErrAuthority},
		"one that signs lists":              {[]*holder{issue(t, lower, p256(), func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign }), lower, upper}, nil, ErrAuthority},
		"another usage":                     {[]*holder{issue(t, lower, p256(), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }), lower, upper}, nil, ErrUsage},
		"a device issued it":                {[]*holder{issue(t, device, p256()), device, lower, upper}, nil, ErrForeign},
		"a path that is too long":           {[]*holder{issue(t, beyond, p256()), beyond, short}, nil, ErrForeign},
		"RSA-1024":                          {[]*holder{issue(t, lower, weak), lower, upper}, nil, ErrKey},
		"P-224":                             {[]*holder{issue(t, lower, curveKey(t, elliptic.P224())), lower, upper}, nil, ErrKey},
		"Ed25519":                           {[]*holder{issue(t, lower, edwards), lower, upper}, nil, ErrKey},
		"something critical": {[]*holder{issue(t, lower, p256(), func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}
		}), lower, upper}, nil, ErrCritical},
		"expired":              {[]*holder{issue(t, lower, p256(), func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }), lower, upper}, nil, ErrExpired},
		"not yet":              {[]*holder{issue(t, lower, p256(), func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) }), lower, upper}, nil, ErrNotYet},
		"of an expired anchor": {[]*holder{ofOld}, nil, ErrExpired},

		"below one that is distrusted": {[]*holder{issue(t, untrusted, p256()), untrusted}, nil, ErrDistrusted},
		"a host":                       {[]*holder{issue(t, lower, p256(), func(c *x509.Certificate) { c.Subject.CommonName = "KDH 7" }), lower, upper}, nil, ErrRole},
		"a TLS server":                 {[]*holder{issue(t, lower, p256(), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), lower, upper}, nil, ErrRole},

		"a list that names nobody":      {[]*holder{device, lower, upper}, []*x509.RevocationList{list(t, lower, nil), list(t, root, nil, device)}, nil},
		"revoked":                       {[]*holder{device, lower, upper}, []*x509.RevocationList{list(t, lower, nil, device)}, ErrRevoked},
		"an issuer is revoked":          {[]*holder{device, lower, upper}, []*x509.RevocationList{list(t, upper, nil, lower)}, ErrRevoked},
		"the highest issuer is revoked": {[]*holder{device, lower, upper}, []*x509.RevocationList{list(t, root, nil, upper)}, ErrRevoked},
		"revoked long ago, and not named since": {[]*holder{device, lower, upper}, []*x509.RevocationList{list(t, lower, nil), list(t, lower, func(l *x509.RevocationList) {
			l.ThisUpdate, l.NextUpdate = now.Add(-48*time.Hour), now.Add(-24*time.Hour)
		}, device)}, ErrRevoked},
		"a stale list": {[]*holder{device, lower, upper}, []*x509.RevocationList{list(t, lower, func(l *x509.RevocationList) {
			l.ThisUpdate, l.NextUpdate = now.Add(-48*time.Hour), now.Add(-24*time.Hour)
		})}, ErrListStale},
		"a list of tomorrow": {[]*holder{device, lower, upper}, []*x509.RevocationList{list(t, lower, func(l *x509.RevocationList) {
			l.ThisUpdate, l.NextUpdate = now.Add(24*time.Hour), now.Add(48*time.Hour)
		})}, ErrListStale},
		"a list for a part": {[]*holder{device, lower, upper}, []*x509.RevocationList{list(t, lower, func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}}
		})}, ErrList},
		"a list by another of that name": {[]*holder{issue(t, root, p256())}, []*x509.RevocationList{list(t, same, nil)}, nil},
		"an altered list":                {[]*holder{device, lower, upper}, []*x509.RevocationList{altered}, ErrList},
		"nine lists":                     {[]*holder{device, lower, upper}, make([]*x509.RevocationList, 9), ErrChain},
	} {
		var chain []*x509.Certificate
		for _, h := range c.chain {
			chain = append(chain, h.cert)
		}
		err := anchors.Verify(chain, x509.KeyUsageDigitalSignature, c.lists, now)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		var refused *fault.Error
		if (err != nil) != errors.As(Refusal(err), &refused) {
			t.Errorf("%s: %v has no reason", name, err)
		}
	}
	if err := (Anchors{}).Verify([]*x509.Certificate{device.cert, lower.cert, upper.cert}, x509.KeyUsageDigitalSignature, nil, now); !errors.Is(err, ErrNobody) {
		t.Errorf("without anchors: %v", err)
	}
	// A host may name its role; all else is as with a terminal.
	kdh := issue(t, lower, p256(), func(c *x509.Certificate) { c.Subject.CommonName = "KDH 7" })
	below := []*x509.Certificate{lower.cert, upper.cert}
	for name, c := range map[string]struct {
		holder  *holder
		anchors Anchors
		lists   []*x509.RevocationList
		want    error
	}{
		"a host":           {kdh, anchors, nil, nil},
		"without anchors":  {kdh, Anchors{}, nil, ErrNobody},
		"a host revoked":   {kdh, anchors, []*x509.RevocationList{list(t, lower, nil, kdh)}, ErrRevoked},
		"its issuer":       {upper, anchors, nil, ErrAuthority},
		"of another usage": {issue(t, lower, p256(), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), anchors, nil, ErrUsage},
		"an expired host":  {issue(t, lower, p256(), func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }), anchors, nil, ErrExpired},
	} {
		if err := c.anchors.VerifyHost(append([]*x509.Certificate{c.holder.cert}, below...), x509.KeyUsageDigitalSignature, c.lists, now); !errors.Is(err, c.want) {
			t.Errorf("as a host, %s: %v, want %v", name, err, c.want)
		}
	}
	// An anchor need not be a root: what is above it does not count, nor whether it is revoked.
	if err := (Anchors{Certificates: []*x509.Certificate{lower.cert}}).Verify([]*x509.Certificate{device.cert}, x509.KeyUsageDigitalSignature, []*x509.RevocationList{list(t, upper, nil, lower)}, now); err != nil {
		t.Errorf("an anchor in the midst: %v", err)
	}
}

// The published sample hierarchy of TR 34: devices and hosts have authorities of their own under
// one root.
func TestPublishedHierarchy(t *testing.T) {
	read := func(name string) *x509.Certificate {
		t.Helper()
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(b)
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	root, devices, hosts, device, host := read("root.cert.pem"), read("krd_ca.cert.pem"), read("kdh_ca.cert.pem"), read("krd_1.cert.pem"), read("kdh_1.cert.pem")
	for name, c := range map[string]struct {
		anchor *x509.Certificate
		chain  []*x509.Certificate
		want   error
	}{
		"a device, by the devices' authority": {devices, []*x509.Certificate{device}, nil},
		"a device, by the root":               {root, []*x509.Certificate{device, devices}, nil},
		"a host":                              {root, []*x509.Certificate{host, hosts}, ErrRole},
		"a device, by the hosts' authority":   {hosts, []*x509.Certificate{device, devices}, ErrForeign},
	} {
		usage := c.chain[0].KeyUsage
		if err := (Anchors{Certificates: []*x509.Certificate{c.anchor}}).Verify(c.chain, usage, nil, now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParseLists: a list is read whole, or refused.
func FuzzParseLists(f *testing.F) {
	root := issue(f, nil, curveKey(f, elliptic.P256()), authority)
	f.Add(list(f, root, nil, root).Raw)
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		lists, err := ParseLists([][]byte{b})
		if (err == nil) != (len(lists) == 1) {
			t.Errorf("%d, %v", len(lists), err)
		}
		if err == nil {
			_ = revoked(root.cert, root.cert, lists, now) // must not panic
		}
	})
}
