package terminals

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
	"time"

	"keyd/fault"
)

// TestRevokedDevices get nothing, on any front, from the moment at which the list is there.
func TestRevokedDevices(t *testing.T) {
	w := newWorld(t)
	issuing := w.root.under(t, "Maker issuing", func(c *x509.Certificate) { c.SerialNumber = big.NewInt(100) })
	serial := func(n int64) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.SerialNumber = big.NewInt(n) }
	}
	register := func(id string, n int64) {
		key := newKey(t, elliptic.P256())
		der := issuing.device(t, key.Public(), serial(n))
		if _, _, err := w.inventory.Register(t.Context(), actor, registration(id, der, issuing.certificate.Raw), false); err != nil {
			t.Fatal(err)
		}
		w.devices[id], w.chains[id] = key, der
		if _, err := w.Assign(t.Context(), actor, id, "shop"); err != nil {
			t.Fatal(err)
		}
	}
	register("t-good", 41)
	register("t-bad", 42)
	second := w.front()
	for _, id := range []string{"t-good", "t-bad"} {
		w.confirm(w.inject(w.request(id, KeyAgreement)).Injection)
		if _, err := second.SignIn(t.Context(), id, nil); err != nil {
			t.Fatal(err)
		}
	}
	by := [][]byte{issuing.certificate.Raw}
	l, err := w.SetList(t.Context(), w.list(issuing, 1, moment, 42, 43), by)
	if err != nil || l.Number != "1" || l.Entries != 2 || l.Issuer != "CN=Maker issuing" {
		t.Fatalf("%+v, %v", l, err)
	}
	refused := func(id string, reason fault.Reason) {
		t.Helper()
		for _, front := range []*Distribution{w.Distribution, second} {
			_, inject := front.Inject(t.Context(), actor, w.request(id, KeyAgreement))
			_, signIn := front.SignIn(t.Context(), id, nil)
			_, renew := front.inventory.Renew(t.Context(), actor, id, [][]byte{w.chains[id], issuing.certificate.Raw})
			for what, err := range map[string]error{"InjectKeys": inject, "SignIn": signIn, "RenewTerminalCertificate": renew} {
				if reason == 0 && err != nil {
					t.Errorf("%s of %s: %v", what, id, err)
				} else if reason != 0 {
					want(t, what+" of "+id, reason, err)
				}
			}
		}
	}
	refused("t-bad", fault.CertificateRevoked)
	refused("t-good", 0)
	_, _, err = w.inventory.Register(t.Context(), actor, registration("t-new", issuing.device(t, newKey(t, elliptic.P256()).Public(), serial(43)), issuing.certificate.Raw), false)
	want(t, "a registration", fault.CertificateRevoked, err)
	// A list that is over still revokes, and is not enough to say that others are good.
	w.now = moment.AddDate(0, 0, 7)
	refused("t-bad", fault.CertificateRevoked)
	refused("t-good", fault.CertificateInvalid)
	if _, err := w.SetList(t.Context(), w.list(issuing, 2, w.now, 42, 43), by); err != nil {
		t.Fatal(err)
	}
	refused("t-good", 0)
	// The issuer itself is revoked, by the authority.
	if _, err := w.SetList(t.Context(), w.list(w.root, 1, w.now, 100), nil); err != nil {
		t.Fatal(err)
	}
	refused("t-good", fault.CertificateRevoked)
}

// TestListsThatAreRefused: each with its reason, and the one before stays.
func TestListsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	foreign, issuing := newAuthority(t, "Maker root"), w.root.under(t, "Maker issuing")
	old := w.root.under(t, "Maker old", func(c *x509.Certificate) { c.NotAfter = moment.Add(-time.Hour) })
	good := w.list(w.root, 5, moment, 1)
	for range 2 { // the same again changes nothing
		if l, err := w.SetList(t.Context(), good, nil); err != nil || l.Number != "5" {
			t.Fatal(l, err)
		}
	}
	altered := bytes.Clone(good)
	altered[len(altered)-1] ^= 1
	shaped := func(change func(*x509.RevocationList)) []byte {
		l := &x509.RevocationList{Number: big.NewInt(9), ThisUpdate: moment.Add(time.Minute), NextUpdate: moment.AddDate(0, 0, 7)}
		change(l)
		der, err := x509.CreateRevocationList(nil, l, w.root.certificate, w.root.key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	delta := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}
	device := w.root.device(t, newKey(t, elliptic.P256()).Public())
	for what, c := range map[string]struct {
		der     []byte
		issuers [][]byte
		want    fault.Reason
	}{
		"nothing":                {nil, nil, fault.RequestInvalid},
		"too much":               {make([]byte, MaxRevocationList+1), nil, fault.RequestInvalid},
		"no list":                {[]byte{0x30, 0}, nil, fault.CertificateInvalid},
		"a list and more":        {append(bytes.Clone(good), 0), nil, fault.CertificateInvalid},
		"an altered one":         {altered, nil, fault.CertificateUntrusted},
		"a stranger's":           {w.list(foreign, 9, moment.Add(time.Minute)), nil, fault.CertificateUntrusted},
		"a stranger's, with it":  {w.list(foreign, 9, moment.Add(time.Minute)), [][]byte{foreign.certificate.Raw}, fault.CertificateUntrusted},
		"by an issuer not there": {w.list(issuing, 1, moment), nil, fault.CertificateUntrusted},
		"with a device":          {good, [][]byte{device}, fault.CertificateInvalid},
		"with another issuer":    {w.list(w.root, 9, moment.Add(time.Minute)), [][]byte{issuing.certificate.Raw}, fault.CertificateUntrusted},
		"by one that is over":    {w.list(old, 1, moment), [][]byte{old.certificate.Raw}, fault.CertificateExpired},
		"of the same age":        {w.list(w.root, 6, moment), nil, fault.Conflict},
		"older":                  {w.list(w.root, 6, moment.Add(-time.Hour)), nil, fault.Conflict},
		"of a lower number":      {w.list(w.root, 4, moment.Add(time.Minute)), nil, fault.Conflict},
		"to come":                {w.list(w.root, 9, moment.Add(time.Hour)), nil, fault.CertificateInvalid},
		"over":                   {w.list(w.root, 9, moment.AddDate(0, 0, -8)), nil, fault.CertificateInvalid},
		"a change of another":    {shaped(func(l *x509.RevocationList) { l.ExtraExtensions = []pkix.Extension{delta} }), nil, fault.CertificateInvalid},
		"with a critical entry": {shaped(func(l *x509.RevocationList) {
			l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(1), RevocationTime: moment, ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}}}
		}), nil, fault.CertificateInvalid},
	} {
		_, err := w.SetList(t.Context(), c.der, c.issuers)
		want(t, what, c.want, err)
	}
	if l, err := w.Lists(t.Context()); err != nil || len(l) != 1 || l[0].Number != "5" {
		t.Errorf("%+v, %v", l, err)
	}
}

// FuzzRevocationList: whatever is sent is refused with a reason of its own, or kept as it was sent.
func FuzzRevocationList(f *testing.F) {
	w := newWorld(f)
	issuing := w.root.under(f, "Maker issuing")
	f.Add(w.list(w.root, 1, moment, 1), []byte{})
	f.Add(w.list(issuing, 1, moment), issuing.certificate.Raw)
	f.Add([]byte{0x30, 0x80}, []byte{0x30})
	f.Fuzz(func(t *testing.T, der, issuer []byte) {
		var issuers [][]byte
		if len(issuer) > 0 {
			issuers = append(issuers, issuer)
		}
		l, err := w.SetList(t.Context(), der, issuers)
		var refusal *fault.Error
		switch {
		case err == nil:
			kept, err := w.db.RevocationList(t.Context(), l.IssuerKey)
			if err != nil || !bytes.Equal(kept.List, der) {
				t.Fatalf("it was taken and not kept: %v", err)
			}
		case l != nil || !errors.As(err, &refusal):
			t.Fatalf("%v, %v", l, err)
		case refusal.Reason != fault.RequestInvalid && refusal.Reason != fault.Conflict && (refusal.Reason < fault.CertificateInvalid || refusal.Reason > fault.CertificateUntrusted):
			t.Fatalf("%s: %v", refusal.Reason, err)
		}
	})
}
