package module

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"testing"

	"github.com/miekg/pkcs11"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/token"
)

func pair(algorithm string, length uint16) *ceremony.KeySpec {
	return &ceremony.KeySpec{Name: fmt.Sprintf("sign-%s%d", algorithm, length), Version: 1, Usage: "S0", Algorithm: algorithm, Length: length, Mode: "S", Exportability: "N"}
}

// TestKeyPairsAreMadeInTheToken, and prove themselves in certificate requests.
func TestKeyPairsAreMadeInTheToken(t *testing.T) {
	o := newOffice(t)
	for _, spec := range []*ceremony.KeySpec{pair("R", 256), pair("R", 512), pair("E", 32), pair("E", 48), pair("E", 66)} {
		o.must(o.through(&ceremony.Definition{Kind: ceremony.Create, Key: spec, ValidFor: 3600}))
		der, err := o.client.CertificateRequest(t.Context(), o.key(spec.Name, 1), hsm.CertificateSubject{CommonName: "keyd 签名", Organization: "Bank", DNSNames: []string{"keyd.example"}})
		o.must(err)
		request, err := x509.ParseCertificateRequest(der)
		o.must(err)
		o.must(request.CheckSignature())
		size := 0
		switch k := request.PublicKey.(type) {
		case *rsa.PublicKey:
			size = k.Size()
		case *ecdsa.PublicKey:
			size = (k.Params().BitSize + 7) / 8
		}
		if size != int(spec.Length) || request.Subject.CommonName != "keyd 签名" || len(request.DNSNames) != 1 {
			t.Errorf("%s: %d bytes, %v, %v", spec.Name, size, request.Subject, request.DNSNames)
		}
	}
	// They are of no other use, and stop with the rest of their life.
	if err := o.use(o.key("sign-E32", 1)); fault.Of(err).Reason != fault.KeyUsageMismatch {
		t.Errorf("a key pair enciphers data: %v", err)
	}
	o.must(o.through(&ceremony.Definition{Kind: ceremony.Stop, Target: &ceremony.KeyRef{Name: "sign-E32", Version: 1}, ValidFor: 3600}))
	if _, err := o.client.CertificateRequest(t.Context(), o.key("sign-E32", 1), hsm.CertificateSubject{CommonName: "x"}); fault.Of(err).Reason != fault.KeyDisabled {
		t.Errorf("a stopped key pair signs: %v", err)
	}
	early := pair("E", 48)
	early.Name, early.NotBefore = "early", o.now.Unix()+100
	o.must(o.through(&ceremony.Definition{Kind: ceremony.Create, Key: early, ValidFor: 3600}))
	if _, err := o.client.CertificateRequest(t.Context(), o.key("early", 1), hsm.CertificateSubject{CommonName: "x"}); fault.Of(err).Reason != fault.KeyDisabled {
		t.Errorf("a key pair signs before it is valid: %v", err)
	}
	wrapping := pair("R", 256)
	wrapping.Name, wrapping.Usage, wrapping.Mode = "receive", "K3", "D"
	o.must(o.through(&ceremony.Definition{Kind: ceremony.Create, Key: wrapping, ValidFor: 3600}))
	if _, err := o.client.CertificateRequest(t.Context(), o.key("receive", 1), hsm.CertificateSubject{CommonName: "x"}); fault.Of(err).Reason != fault.KeyUsageMismatch {
		t.Errorf("a key pair that deciphers signs: %v", err)
	}
	o.must(o.through(&ceremony.Definition{Kind: ceremony.Delete, Target: &ceremony.KeyRef{Name: "receive", Version: 1}, Wait: ceremony.MinWait, ValidFor: 3600}))
	labels := func() int { return len(o.labels("keyd pair receive")) }
	if labels() != 1 {
		t.Error("a key pair that could be restored is gone")
	}
	o.now = o.now.Add(ceremony.MinWait * 1e9)
	o.must(o.through(&ceremony.Definition{Kind: ceremony.Create, Key: zone("another", data), ValidFor: 3600}))
	if labels() != 0 {
		t.Error("a deleted key pair is still in the token")
	}
}

// TestAKeyThatTheTokenHoldsIsAttached, if it is one that nobody can read or change.
func TestAKeyThatTheTokenHoldsIsAttached(t *testing.T) {
	o := newOffice(t)
	plant := func(label string, change ...*pkcs11.Attribute) {
		template := map[uint]any{
			pkcs11.CKA_CLASS: uint(pkcs11.CKO_SECRET_KEY), pkcs11.CKA_KEY_TYPE: uint(pkcs11.CKK_DES2), pkcs11.CKA_TOKEN: true, pkcs11.CKA_PRIVATE: true,
			pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_EXTRACTABLE: false, pkcs11.CKA_MODIFIABLE: false, pkcs11.CKA_LABEL: label,
			pkcs11.CKA_ENCRYPT: true, pkcs11.CKA_DECRYPT: true, pkcs11.CKA_SIGN: false, pkcs11.CKA_VERIFY: false, pkcs11.CKA_DERIVE: false,
			pkcs11.CKA_WRAP: false, pkcs11.CKA_UNWRAP: false,
			pkcs11.CKA_VALUE: xor(t, "AC245A6AAA8271F0AF284E9593C3C9E8"),
		}
		var list []*pkcs11.Attribute
		for kind, value := range template {
			list = append(list, pkcs11.NewAttribute(kind, value))
		}
		for _, c := range change {
			for i := range list {
				if list[i].Type == c.Type {
					list[i] = c
				}
			}
		}
		o.plant(list)
	}
	attach := func(object string, k *ceremony.KeySpec) error {
		return o.through(&ceremony.Definition{Kind: ceremony.Attach, Key: k, Object: object, CheckValue: "40D522", ValidFor: 3600})
	}
	plant("bank zmk")
	o.must(attach("bank zmk", zone("d", data)))
	o.must(o.usable("d", 1))
	for range 3 { // it stays where it is, whatever goes out of the cache
		o.restart()
		o.must(o.usable("d", 1))
	}
	for what, c := range map[string]struct {
		change *pkcs11.Attribute
		want   fault.Reason
	}{
		"extractable":    {pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true), fault.KeyUsageMismatch},
		"not sensitive":  {pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false), fault.KeyUsageMismatch},
		"modifiable":     {pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, true), fault.KeyUsageMismatch},
		"wraps":          {pkcs11.NewAttribute(pkcs11.CKA_WRAP, true), fault.KeyUsageMismatch},
		"cannot encrypt": {pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, false), fault.KeyUsageMismatch},
	} {
		plant(what, c.change)
		if err := attach(what, zone("x-"+what[:3], data)); fault.Of(err).Reason != c.want {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := attach("bank zmk", zone("again", data)); fault.Of(err).Reason != fault.KeyValueRefused {
		t.Errorf("attached twice: %v", err)
	}
	if err := attach("nothing", zone("no", data)); fault.Of(err).Reason != fault.DefinitionInvalid {
		t.Errorf("a label of nothing: %v", err)
	}
	if err := attach("keyd master 1 mac", zone("no", data)); fault.Of(err).Reason != fault.DefinitionInvalid {
		t.Errorf("keyd's own: %v", err)
	}
}

// key is a key as the database has it.
func (o *office) key(name string, version uint32) hsm.Key {
	o.t.Helper()
	r, err := o.database.Version(o.t.Context(), name, version)
	o.must(err)
	return hsm.Key{Name: name, Sealed: r.Sealed}
}

// labels returns the labels of key pairs in the token.
func (o *office) labels(prefix string) (labels []string) {
	o.t.Helper()
	o.must(o.token.Do(func(s *token.Session) (err error) { labels, err = s.PairLabels(prefix); return err }))
	return labels
}

// plant puts an object into the token, as another program does that has its PIN.
func (o *office) plant(template []*pkcs11.Attribute) {
	o.t.Helper()
	ctx := pkcs11.New(o.fresh.Path)
	slot, _, err := o.fresh.Library.FindToken(o.fresh.Label)
	o.must(err)
	session, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	o.must(err)
	defer ctx.CloseSession(session) //nolint:errcheck // the end of the test
	_, err = ctx.CreateObject(session, template)
	o.must(err)
}
