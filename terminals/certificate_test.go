package terminals

import (
	"bytes"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"keyd/fault"
)

// TestCertificatesThatCount: with the device's own certificate, and with issuers in any order.
func TestCertificatesThatCount(t *testing.T) {
	root := newAuthority(t, "Maker root")
	issuer := root.under(t, "Maker issuing")
	second := issuer.under(t, "Maker factory")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	encipher := func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }
	p384, p521, p256 := newKey(t, elliptic.P384()), newKey(t, elliptic.P521()), newKey(t, elliptic.P256())
	for name, chain := range map[string][][]byte{
		"by the root":        {root.device(t, p256.Public())},
		"by an issuer":       {issuer.device(t, p384.Public()), issuer.certificate.Raw},
		"by two":             {second.device(t, p521.Public()), second.certificate.Raw, issuer.certificate.Raw},
		"by two, disordered": {second.device(t, p521.Public()), issuer.certificate.Raw, second.certificate.Raw},
		"with the root":      {root.device(t, p256.Public()), root.certificate.Raw},
		"RSA":                {root.device(t, &rsaKey.PublicKey, encipher)},
		"that signs":         {root.device(t, p256.Public(), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })},
		"without key usage":  {root.device(t, p256.Public(), func(c *x509.Certificate) { c.KeyUsage = 0 })},
		"a TLS client": {root.device(t, p256.Public(), func(c *x509.Certificate) {
			c.ExtKeyUsage, c.UnknownExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 99999, 1}}
		})},
	} {
		t.Run(name, func(t *testing.T) {
			v := newInventory(t, newAuthority(t, "another root"), root)
			got, unchanged, err := v.Register(t.Context(), actor, registration("t-1", chain...), false)
			if err != nil || unchanged {
				t.Fatalf("%v, %t", err, unchanged)
			}
			device := parsed(t, chain[0])
			if c := got.Certificate; !slices.EqualFunc(c.Chain, chain, bytes.Equal) || c.SHA256 != sha256.Sum256(chain[0]) || c.PublicKey != sha256.Sum256(device.RawSubjectPublicKeyInfo) ||
				!c.NotAfter.Equal(device.NotAfter) || !strings.Contains(c.Subject, "KRD 804-1") {
				t.Errorf("%+v", c)
			}
		})
	}
}

// TestCertificatesThatDoNot: each with a reason of its own, and nothing is registered.
func TestCertificatesThatDoNot(t *testing.T) {
	root := newAuthority(t, "Maker root")
	issuer := root.under(t, "Maker issuing")
	stranger := newAuthority(t, "Maker root") // of the same name
	key := newKey(t, elliptic.P256())
	good := root.device(t, key.Public())
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*x509.Certificate)) [][]byte { return [][]byte{root.device(t, key.Public(), change)} }
	under := func(change ...func(*x509.Certificate)) [][]byte {
		a := root.under(t, "Maker issuing", change...)
		return [][]byte{a.device(t, key.Public()), a.certificate.Raw}
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1 // of the signature
	for name, c := range map[string]struct {
		chain [][]byte
		want  fault.Reason
	}{
		"no DER":            {[][]byte{[]byte("none")}, fault.CertificateInvalid},
		"an empty one":      {[][]byte{{}}, fault.CertificateInvalid},
		"one and more":      {[][]byte{append(bytes.Clone(good), 0)}, fault.CertificateInvalid},
		"two in one":        {[][]byte{slices.Concat(good, good)}, fault.CertificateInvalid},
		"a broken issuer":   {[][]byte{good, []byte("none")}, fault.CertificateInvalid},
		"too many":          {[][]byte{good, good, good, good, good, good}, fault.CertificateInvalid},
		"too long":          {[][]byte{good, make([]byte, MaxBytes)}, fault.CertificateInvalid},
		"a CA":              {[][]byte{issuer.certificate.Raw}, fault.CertificateInvalid},
		"the root":          {[][]byte{root.certificate.Raw}, fault.CertificateInvalid},
		"that may sign":     {with(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }), fault.CertificateInvalid},
		"commitments only":  {with(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageContentCommitment }), fault.CertificateInvalid},
		"RSA's usage":       {with(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), fault.CertificateInvalid},
		"short RSA":         {[][]byte{root.device(t, &short.PublicKey, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })}, fault.CertificateInvalid},
		"a curve's usage":   {[][]byte{root.device(t, &short.PublicKey)}, fault.CertificateInvalid},
		"P-224":             {[][]byte{root.device(t, newKey(t, elliptic.P224()).Public())}, fault.CertificateInvalid},
		"Ed25519":           {[][]byte{root.device(t, public)}, fault.CertificateInvalid},
		"KDH":               {with(func(c *x509.Certificate) { c.Subject.CommonName = "Sample KDH 1" }), fault.CertificateRole},
		"kdh":               {with(func(c *x509.Certificate) { c.Subject.CommonName = "kdh-7" }), fault.CertificateRole},
		"KDH as a unit":     {with(func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"Keys", "KDH"} }), fault.CertificateRole},
		"a KDH's authority": {under(func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "CA KDH"} }), fault.CertificateRole},
		"a TLS server":      {with(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), fault.CertificateRole},
		"client and code": {with(func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageCodeSigning}
		}), fault.CertificateRole},
		"expired":            {with(func(c *x509.Certificate) { c.NotAfter = moment.Add(-1e9) }), fault.CertificateExpired},
		"not yet":            {with(func(c *x509.Certificate) { c.NotBefore = moment.Add(1e9) }), fault.CertificateExpired},
		"an expired issuer":  {under(func(c *x509.Certificate) { c.NotAfter = moment.Add(-1e9) }), fault.CertificateExpired},
		"of nobody known":    {[][]byte{stranger.device(t, key.Public())}, fault.CertificateUntrusted},
		"with its stranger":  {[][]byte{stranger.device(t, key.Public()), stranger.certificate.Raw}, fault.CertificateUntrusted},
		"without its issuer": {[][]byte{issuer.device(t, key.Public())}, fault.CertificateUntrusted},
		"another's issuer":   {[][]byte{issuer.device(t, key.Public()), root.under(t, "other").certificate.Raw}, fault.CertificateUntrusted},
		"an issuer that is a device": {func() [][]byte {
			deviceKey := newKey(t, elliptic.P256())
			a := &authority{parsed(t, root.device(t, deviceKey.Public())), deviceKey}
			return [][]byte{a.device(t, key.Public()), a.certificate.Raw}
		}(), fault.CertificateUntrusted},
		"an altered one": {[][]byte{flipped}, fault.CertificateUntrusted},
		"an unknown critical extension": {with(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 2}, Critical: true, Value: []byte{5, 0}}}
		}), fault.CertificateInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			v := newInventory(t, root)
			_, _, err := v.Register(t.Context(), actor, registration("t-1", c.chain...), false)
			want(t, "registered", c.want, err)
			_, err = v.Terminal(t.Context(), "t-1")
			want(t, "afterwards", fault.TerminalNotFound, err)
			if _, _, err := v.Register(t.Context(), actor, registration("t-1"), false); err != nil {
				t.Fatal(err)
			}
			_, err = v.Renew(t.Context(), actor, "t-1", c.chain)
			want(t, "renewed", c.want, err)
		})
	}
	v := newInventory(t)
	_, _, err = v.Register(t.Context(), actor, registration("t-1", good), false)
	want(t, "no roots", fault.CertificateUntrusted, err)
	if !strings.Contains(err.Error(), "no authority is believed") {
		t.Error(err)
	}
	_, err = v.Renew(t.Context(), actor, "t-1", nil)
	want(t, "a renewal of none", fault.TerminalNotFound, err)
}

// FuzzCertificates: whatever comes as a certificate is refused with a reason, and one that counts
// comes back as it was given.
func FuzzCertificates(f *testing.F) {
	// A root, an issuer, a device of the root's and one of the issuer's, made once with the
	// fixtures of this package: every worker has to trust the same root.
	text, err := os.ReadFile("testdata/certificates.pem")
	if err != nil {
		f.Fatal(err)
	}
	var ders [][]byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		ders = append(ders, block.Bytes)
	}
	trusted := roots{parsed(f, ders[0])}
	for _, chain := range [][][]byte{{ders[2]}, {ders[3], ders[1]}} {
		if _, err := verify(chain, trusted, moment); err != nil {
			f.Fatal(err) // nothing would be reached
		}
	}
	f.Add(ders[2], []byte{})
	f.Add(ders[3], ders[1])
	f.Add(ders[0], ders[1])
	f.Add([]byte{0x30, 0x80}, []byte{0x30})
	f.Fuzz(func(t *testing.T, device, issuer []byte) {
		chain := [][]byte{device}
		if len(issuer) > 0 {
			chain = append(chain, issuer)
		}
		got, err := verify(chain, trusted, moment)
		if err != nil {
			var refusal *fault.Error
			if got != nil || !errors.As(err, &refusal) || refusal.Reason < fault.CertificateInvalid || refusal.Reason > fault.CertificateUntrusted {
				t.Fatalf("%v, %v", got, err)
			}
			return
		}
		if !bytes.Equal(got.der, slices.Concat(chain...)) {
			t.Error("what is kept is not what was given")
		}
	})
}
