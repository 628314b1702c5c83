package pinrecord_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/pinrecord"
	"keyd/trust"
	"keyd/voidtoken"
)

// The figures were computed by the package comment, in another language.
func TestNumbersAreWhatTheCommentSays(t *testing.T) {
	for _, c := range []struct {
		subject        pinrecord.Subject
		digest, number string
	}{
		{pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "merchant-8", Name: "anna"}, "c49d54366eebcc25d0967abe66f4fbe60f749230667aea1efc1da43a16f1996e", "0153971519389263"},
		{pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "merchant-8", Terminal: "t-1", Name: "anna"}, "890fa80c557a931bfd8eb056c9cbe260545c5fbc2082808a19ede6fc44c3b243", "0310466176251559"},
		{pinrecord.Subject{Kind: pinrecord.Cardholder, Name: "card.x"}, "b2ef6f46c8365eb4259ddfe1d92feba180d51659e49d43cc1e5557cae48252d5", "0041896603368533"},
	} {
		if err := c.subject.Validate(); err != nil {
			t.Fatal(err)
		}
		if digest := c.subject.Digest(); hex.EncodeToString(digest[:]) != c.digest || c.subject.Number() != c.number {
			t.Errorf("%+v: %x, %s", c.subject, digest, c.subject.Number())
		}
	}
}

func TestSubjects(t *testing.T) {
	for name, s := range map[string]pinrecord.Subject{
		"nothing":                 {},
		"another kind":            {Kind: "CLERK", Merchant: "m", Name: "anna"},
		"nobody's supervisor":     {Kind: pinrecord.Supervisor, Name: "anna"},
		"a merchant with a slash": {Kind: pinrecord.Supervisor, Merchant: "m/n", Name: "anna"},
		"a terminal with a space": {Kind: pinrecord.Supervisor, Merchant: "m", Terminal: "t 1", Name: "anna"},
		"a terminal's cardholder": {Kind: pinrecord.Cardholder, Merchant: "m", Terminal: "t", Name: "anna"},
		"a PAN":                   {Kind: pinrecord.Cardholder, Name: "c4012345678909"},
		"a long name":             {Kind: pinrecord.Supervisor, Merchant: "m", Name: strings.Repeat("a", 65)},
		"a merchant of one dot":   {Kind: pinrecord.Supervisor, Merchant: ".", Name: "anna"},
	} {
		if err := s.Validate(); !errors.Is(err, pinrecord.ErrSubject) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What ends where is part of the digest.
	a, b := pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "ab", Terminal: "c", Name: "d"}, pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "a", Terminal: "bc", Name: "d"}
	if a.Digest() == b.Digest() {
		t.Error("two subjects are one")
	}
	fields := voidtoken.Fields{Merchant: "m", Terminal: "t"}
	for want, list := range map[bool][]pinrecord.Subject{
		true:  {{Merchant: "m"}, {Merchant: "m", Terminal: "t"}, {}},
		false: {{Merchant: "n"}, {Merchant: "m", Terminal: "u"}, {Merchant: "n", Terminal: "t"}},
	} {
		for _, s := range list {
			if s.Serves(&fields) != want {
				t.Errorf("%+v serves: %v", s, !want)
			}
		}
	}
}

func TestTwoApprove(t *testing.T) {
	o := newOffice(t)
	a := o.approval()
	encoded, err := a.Encode()
	o.must(err)
	for _, pair := range [][]pinrecord.Signed{
		{o.signed(o.anna, a), o.signed(o.bert, a)}, {o.signed(o.claire, a), o.signed(o.anna, a)},
	} {
		got, digest, err := pinrecord.OpenBoth(pair, o.anchors(), now)
		if err != nil || got.Request != a.Request || digest != sha256.Sum256(encoded) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	merchant := func(m string) func(*pinrecord.Approval) {
		return func(a *pinrecord.Approval) { a.Subject.Merchant = m }
	}
	expired := o.approval(func(a *pinrecord.Approval) { a.NotAfter = now.Unix() })
	long := o.approval(func(a *pinrecord.Approval) { a.NotAfter = now.Add(25 * time.Hour).Unix() })
	foreign := o.approval(merchant("merchant-9"))
	annasOther := o.issue(o.root, "spiffe://bank.example/merchants/merchant-8/bert", o.anna.key)
	annaAgain := o.issue(o.root, "spiffe://bank.example/merchants/merchant-8/anna", o.key())
	stranger := o.issue(nil, "spiffe://bank.example/approvers/eve", o.key())
	late := o.issue(o.root, "spiffe://bank.example/approvers/fred", o.key(), func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) })
	server := o.issue(o.root, "spiffe://bank.example/approvers/gina", o.key(), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	o.must(err)
	slow := o.issue(o.root, "spiffe://bank.example/approvers/hugo", rsaKey)
	forged := func(by *person, change func(*pinrecord.Signed)) pinrecord.Signed {
		s := o.signed(by, a)
		s.Document, s.Signature = bytes.Clone(s.Document), bytes.Clone(s.Signature)
		change(&s)
		return s
	}
	good := o.signed(o.anna, a)
	for name, c := range map[string]struct {
		signed []pinrecord.Signed
		want   error
	}{
		"nobody":                   {nil, pinrecord.ErrTwo},
		"one":                      {[]pinrecord.Signed{good}, pinrecord.ErrTwo},
		"one twice":                {[]pinrecord.Signed{good, o.signed(o.anna, a)}, pinrecord.ErrTwo},
		"one under two names":      {[]pinrecord.Signed{good, o.signed(annasOther, a)}, pinrecord.ErrTwo},
		"one with two keys":        {[]pinrecord.Signed{good, o.signed(annaAgain, a)}, pinrecord.ErrTwo},
		"one, and of the acquirer": {[]pinrecord.Signed{good, o.signed(o.issue(o.root, "spiffe://bank.example/approvers/Anna", o.key()), a)}, pinrecord.ErrTwo},
		"one, of another domain":   {[]pinrecord.Signed{good, o.signed(o.issue(o.root, "spiffe://other.example/merchants/merchant-8/anna", o.key()), a)}, pinrecord.ErrTwo},
		"three":                    {[]pinrecord.Signed{good, o.signed(o.bert, a), o.signed(o.claire, a)}, pinrecord.ErrTwo},
		"two approvals":            {[]pinrecord.Signed{good, o.signed(o.bert, o.approval(func(a *pinrecord.Approval) { a.Version = 3 }))}, pinrecord.ErrTwo},
		"expired":                  {[]pinrecord.Signed{o.signed(o.anna, expired), o.signed(o.bert, expired)}, pinrecord.ErrExpired},
		"too long":                 {[]pinrecord.Signed{o.signed(o.anna, long), o.signed(o.bert, long)}, pinrecord.ErrExpired},
		"another merchant's":       {[]pinrecord.Signed{o.signed(o.claire, foreign), o.signed(o.bert, foreign)}, pinrecord.ErrMerchant},
		"a stranger":               {[]pinrecord.Signed{good, o.signed(stranger, a)}, trust.ErrForeign},
		"a certificate that ended": {[]pinrecord.Signed{good, o.signed(late, a)}, trust.ErrExpired},
		"a server":                 {[]pinrecord.Signed{good, o.signed(server, a)}, trust.ErrRole},
		"an altered document": {[]pinrecord.Signed{
			forged(o.anna, func(s *pinrecord.Signed) { s.Document = bytes.Replace(s.Document, []byte("RESET"), []byte("ENROL"), 1) }),
			forged(o.bert, func(s *pinrecord.Signed) { s.Document = bytes.Replace(s.Document, []byte("RESET"), []byte("ENROL"), 1) }),
		}, pinrecord.ErrSignature},
		"another's certificate": {[]pinrecord.Signed{good, forged(o.bert, func(s *pinrecord.Signed) { s.Certificates = [][]byte{o.claire.cert.Raw} })}, pinrecord.ErrSignature},
		"no certificate":        {[]pinrecord.Signed{good, forged(o.bert, func(s *pinrecord.Signed) { s.Certificates = nil })}, pinrecord.ErrApproval},
		"no DER":                {[]pinrecord.Signed{good, forged(o.bert, func(s *pinrecord.Signed) { s.Certificates = [][]byte{{0x30}} })}, pinrecord.ErrApproval},
		"large certificates": {[]pinrecord.Signed{good, forged(o.bert, func(s *pinrecord.Signed) {
			s.Certificates = append(s.Certificates, make([]byte, pinrecord.MaxCertificates))
		})}, pinrecord.ErrApproval},
		"no signature": {[]pinrecord.Signed{good, forged(o.bert, func(s *pinrecord.Signed) { s.Signature = nil })}, pinrecord.ErrSignature},
	} {
		if got, _, err := pinrecord.OpenBoth(c.signed, o.anchors(), now); got != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := pinrecord.ApproverOf(slow.cert); !errors.Is(err, pinrecord.ErrApprover) {
		t.Errorf("an RSA key: %v", err)
	}
	// Of another purpose the same bytes are signed by nobody.
	signature, err := ceremony.Sign(o.bert.key, ceremony.ByOfficer, encoded)
	o.must(err)
	other := o.signed(o.bert, a)
	other.Signature = signature
	if _, _, err := pinrecord.OpenBoth([]pinrecord.Signed{good, other}, o.anchors(), now); !errors.Is(err, pinrecord.ErrSignature) {
		t.Errorf("another purpose: %v", err)
	}
}

func TestApprovers(t *testing.T) {
	o := newOffice(t)
	for id, want := range map[string]*pinrecord.Approver{
		"spiffe://bank.example/merchants/m-1/anna": {Merchant: "m-1", Name: "anna"},
		"spiffe://bank.example/approvers/claire":   {Name: "claire"},
		"":                                         nil,
		"spiffe://bank.example":                    nil,
		"spiffe://bank.example/approvers/":         nil,
		"spiffe://bank.example/approvers/a/b":      nil,
		"spiffe://bank.example/officers/anna":      nil,
		"spiffe://bank.example/merchants//anna":    nil,
		"spiffe://bank.example/merchants/m/":       nil,
		"spiffe://bank.example/approvers/a%62":     nil,
		"spiffe://bank.example/approvers/anna?x=1": nil,
		"spiffe://bank.example/approvers/anna#x":   nil,
		"spiffe://bank.example:1/approvers/anna":   nil,
		"spiffe://me@bank.example/approvers/anna":  nil,
		"spiffe://BANK.example/approvers/anna":     nil,
		"https://bank.example/approvers/anna":      nil,
		"spiffe:///approvers/anna":                 nil,
		"spiffe://bank.example//approvers/anna":    nil,
	} {
		p := o.issue(o.root, id, o.key())
		got, err := pinrecord.ApproverOf(p.cert)
		switch {
		case want == nil && !errors.Is(err, pinrecord.ErrApprover):
			t.Errorf("%s: %+v, %v", id, got, err)
		case want != nil && (err != nil || got.ID != id || got.Merchant != want.Merchant || got.Name != want.Name):
			t.Errorf("%s: %+v, %v", id, got, err)
		}
	}
	two := o.issue(o.root, "spiffe://bank.example/approvers/anna", o.key(), func(c *x509.Certificate) {
		c.URIs = append(c.URIs, &url.URL{Scheme: "spiffe", Host: "bank.example", Path: "/approvers/bert"})
	})
	if _, err := pinrecord.ApproverOf(two.cert); !errors.Is(err, pinrecord.ErrApprover) {
		t.Errorf("two names: %v", err)
	}
}

// What is about no merchant only those approve who may for any.
func TestWhoMayApproveForNoMerchant(t *testing.T) {
	o := newOffice(t)
	a := o.approval(func(a *pinrecord.Approval) { a.Subject = pinrecord.Subject{Kind: pinrecord.Cardholder, Name: "card.x"} })
	if _, _, err := pinrecord.OpenBoth([]pinrecord.Signed{o.signed(o.anna, a), o.signed(o.claire, a)}, o.anchors(), now); !errors.Is(err, pinrecord.ErrMerchant) {
		t.Error(err)
	}
	dirk := o.issue(o.root, "spiffe://bank.example/approvers/dirk", o.key())
	if _, _, err := pinrecord.OpenBoth([]pinrecord.Signed{o.signed(dirk, a), o.signed(o.claire, a)}, o.anchors(), now); err != nil {
		t.Error(err)
	}
}

func TestApprovalsThatAreNone(t *testing.T) {
	o := newOffice(t)
	for name, change := range map[string]func(*pinrecord.Approval){
		"another action":      func(a *pinrecord.Approval) { a.Action = "REVOKE" },
		"no subject":          func(a *pinrecord.Approval) { a.Subject = pinrecord.Subject{} },
		"version 0":           func(a *pinrecord.Approval) { a.Version = 0 },
		"a version too many":  func(a *pinrecord.Approval) { a.Version = pinrecord.MaxVersion + 1 },
		"a short request":     func(a *pinrecord.Approval) { a.Request = a.Request[2:] },
		"an upper request":    func(a *pinrecord.Approval) { a.Request = strings.ToUpper(a.Request) },
		"nobody to deliver":   func(a *pinrecord.Approval) { a.DeliverTo = nil },
		"no key":              func(a *pinrecord.Approval) { a.DeliverTo = []byte{0x30} },
		"a code for the same": func(a *pinrecord.Approval) { a.Action = pinrecord.Unblock },
		"no end":              func(a *pinrecord.Approval) { a.NotAfter = 0 },
	} {
		a := o.approval(change)
		if _, err := a.Encode(); !errors.Is(err, pinrecord.ErrApproval) {
			t.Errorf("%s: %v", name, err)
		}
		encoded, err := ceremony.Encode(a)
		o.must(err)
		if got, err := pinrecord.ParseApproval(encoded); got != nil || !errors.Is(err, pinrecord.ErrApproval) {
			t.Errorf("%s, parsed: %v", name, err)
		}
		if _, err := pinrecord.Sign(o.anna.key, nil, encoded); !errors.Is(err, pinrecord.ErrApproval) {
			t.Errorf("%s, signed: %v", name, err)
		}
	}
	if err := o.approval(func(a *pinrecord.Approval) { a.Action, a.DeliverTo = pinrecord.Unblock, nil }).Validate(); err != nil {
		t.Errorf("unblock: %v", err)
	}
}

// A code opens for who is to hand it over, and for its own approval, on every curve.
func TestCodesAreSealed(t *testing.T) {
	o := newOffice(t)
	approval, err := o.approval().Encode()
	o.must(err)
	other, err := o.approval(func(a *pinrecord.Approval) { a.Version = 3 }).Encode()
	o.must(err)
	for _, curve := range []ecdh.Curve{ecdh.P256(), ecdh.P384(), ecdh.P521()} {
		key, err := curve.GenerateKey(rand.Reader)
		o.must(err)
		sealed, err := pinrecord.SealCode(key.PublicKey(), approval, []byte("12345678"))
		o.must(err)
		code, err := pinrecord.OpenCode(key, approval, sealed)
		if err != nil || string(code) != "12345678" || len(sealed) > pinrecord.MaxSealedCode {
			t.Errorf("%v: %q, %v, %d bytes", curve, code, err, len(sealed))
		}
		if _, err := pinrecord.OpenCode(key, other, sealed); !errors.Is(err, pinrecord.ErrSealed) {
			t.Errorf("another approval: %v", err)
		}
		stranger, err := curve.GenerateKey(rand.Reader)
		o.must(err)
		if _, err := pinrecord.OpenCode(stranger, approval, sealed); !errors.Is(err, pinrecord.ErrSealed) {
			t.Errorf("somebody else: %v", err)
		}
		long, err := pinrecord.SealCode(key.PublicKey(), approval, []byte("123456789"))
		o.must(err)
		if _, err := pinrecord.OpenCode(key, approval, long); !errors.Is(err, pinrecord.ErrSealed) {
			t.Errorf("a code of 9 digits: %v", err)
		}
	}
}

func fields() voidtoken.Fields {
	return voidtoken.Fields{Void: "00112233445566778899aabbccddeeff", Merchant: "merchant-8", Terminal: "t-1", Reference: "1127", Amount: 1, Currency: 156}
}

func TestVoidsAreApproved(t *testing.T) {
	o := newOffice(t)
	f := fields()
	digest, err := f.Digest()
	o.must(err)
	sign := func(by *person, digest [32]byte, end time.Time) pinrecord.Signed {
		s, err := pinrecord.SignVoid(by.key, [][]byte{by.cert.Raw}, digest, end.Unix())
		o.must(err)
		return s
	}
	good := sign(o.anna, digest, now.Add(time.Hour))
	if by, err := good.OpenVoid(&f, o.anchors(), now); err != nil || by.Name != "anna" {
		t.Fatalf("%+v, %v", by, err)
	}
	dearer := fields()
	dearer.Amount++
	if _, err := good.OpenVoid(&dearer, o.anchors(), now); !errors.Is(err, pinrecord.ErrApproval) {
		t.Errorf("another void: %v", err)
	}
	foreign := fields()
	foreign.Merchant = "merchant-9"
	digest9, err := foreign.Digest()
	o.must(err)
	pinApproval := o.signed(o.anna, o.approval())
	for name, c := range map[string]struct {
		signed pinrecord.Signed
		fields voidtoken.Fields
		want   error
	}{
		"expired":            {sign(o.anna, digest, now), f, pinrecord.ErrExpired},
		"too long":           {sign(o.anna, digest, now.Add(25*time.Hour)), f, pinrecord.ErrExpired},
		"another merchant's": {sign(o.anna, digest9, now.Add(time.Hour)), foreign, pinrecord.ErrMerchant},
		"a stranger":         {sign(o.issue(nil, "spiffe://bank.example/approvers/eve", o.key()), digest, now.Add(time.Hour)), f, trust.ErrForeign},
		"of a PIN":           {pinApproval, f, pinrecord.ErrApproval},
		"altered":            {pinrecord.Signed{Document: good.Document, Signature: pinApproval.Signature, Certificates: good.Certificates}, f, pinrecord.ErrSignature},
		"nothing":            {pinrecord.Signed{}, f, pinrecord.ErrApproval},
	} {
		if by, err := c.signed.OpenVoid(&c.fields, o.anchors(), now); by != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if by, err := (&pinrecord.Signed{Document: good.Document, Signature: good.Signature, Certificates: good.Certificates}).OpenVoid(&f, trust.Anchors{}, now); by != nil || !errors.Is(err, trust.ErrNobody) {
		t.Errorf("without an authority: %v", err)
	}
	if b := pinrecord.Bound(digest, []byte{1, 2}, true); !bytes.Equal(b, digest[:]) {
		t.Errorf("DUKPT: %x", b)
	}
	if b := pinrecord.Bound(digest, []byte{1, 2}, false); string(b) != "keyd void mac 1\x00"+string(digest[:])+"\x01\x02" {
		t.Errorf("other keys: %x", b)
	}
}

func record() *pinrecord.Record {
	return &pinrecord.Record{
		Subject: pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "merchant-8", Name: "dora"}, Version: 2,
		Key: pinrecord.DatumKey{Name: "pin-datum", Version: 1, Fingerprint: strings.Repeat("0A", 16)}, Length: 6, Datum: strings.Repeat("0a", 16),
	}
}

func pending() *pinrecord.Pending {
	r := record()
	return &pinrecord.Pending{Subject: r.Subject, Version: r.Version, Approval: strings.Repeat("0b", 32), Key: r.Key, Code: r.Datum, NotAfter: now.Unix()}
}

func TestRecordsAreReadAsTheyAreWritten(t *testing.T) {
	body, err := record().Encode()
	if err != nil {
		t.Fatal(err)
	}
	sealed := append(bytes.Clone(body), bytes.Repeat([]byte{7}, pinrecord.MACSize)...)
	r, b, mac, err := pinrecord.Parse(sealed)
	if err != nil || *r != *record() || !bytes.Equal(b, body) || !bytes.Equal(mac, sealed[len(body):]) {
		t.Errorf("%+v, %v", r, err)
	}
	p, _, _, err := pinrecord.ParsePending(sealed)
	if p != nil || !errors.Is(err, pinrecord.ErrRecord) {
		t.Errorf("a record as a pending one: %v", err)
	}
	for name, change := range map[string]func(*pinrecord.Record){
		"no subject":     func(r *pinrecord.Record) { r.Subject.Merchant = "" },
		"version 0":      func(r *pinrecord.Record) { r.Version = 0 },
		"a last version": func(r *pinrecord.Record) { r.Version = pinrecord.MaxVersion + 1 },
		"no key":         func(r *pinrecord.Record) { r.Key.Name = "" },
		"no fingerprint": func(r *pinrecord.Record) { r.Key.Fingerprint = "" },
		"five digits":    func(r *pinrecord.Record) { r.Length = 5 },
		"13 digits":      func(r *pinrecord.Record) { r.Length = 13 },
		"a short datum":  func(r *pinrecord.Record) { r.Datum = r.Datum[2:] },
	} {
		r := record()
		change(r)
		if _, err := r.Encode(); !errors.Is(err, pinrecord.ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
		encoded, err := ceremony.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		if r, _, _, err := pinrecord.Parse(append(encoded, make([]byte, pinrecord.MACSize)...)); r != nil || !errors.Is(err, pinrecord.ErrRecord) {
			t.Errorf("%s, parsed: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, encode := range []func() ([]byte, error){record().Encode, pending().Encode} {
		b, err := encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append(b, make([]byte, pinrecord.MACSize)...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, body, mac, err := pinrecord.Parse(b); err == nil {
			again, err := r.Encode()
			if err != nil || !bytes.Equal(again, body) || !bytes.Equal(append(again, mac...), b) {
				t.Errorf("%+v, %v", r, err)
			}
		} else if r != nil || body != nil || mac != nil {
			t.Error("something beside an error")
		}
		if p, body, mac, err := pinrecord.ParsePending(b); err == nil {
			again, err := p.Encode()
			if err != nil || !bytes.Equal(again, body) || !bytes.Equal(append(again, mac...), b) {
				t.Errorf("%+v, %v", p, err)
			}
		} else if p != nil || body != nil || mac != nil {
			t.Error("something beside an error")
		}
	})
}

func FuzzApproval(f *testing.F) {
	o := newOffice(f)
	a := o.approval()
	s := o.signed(o.anna, a)
	fd := fields()
	digest, err := fd.Digest()
	o.must(err)
	v, err := pinrecord.SignVoid(o.anna.key, o.anna.ders(), digest, now.Add(time.Hour).Unix())
	o.must(err)
	f.Add(s.Document, s.Signature, o.anna.cert.Raw)
	f.Add(v.Document, v.Signature, o.anna.cert.Raw)
	anchors := o.anchors()
	f.Fuzz(func(t *testing.T, document, signature, certificate []byte) {
		one := pinrecord.Signed{Document: document, Signature: signature, Certificates: [][]byte{certificate}}
		if got, by, err := one.Open(anchors, now); err == nil {
			if encoded, err := got.Encode(); err != nil || !bytes.Equal(encoded, document) || by.Name != "anna" {
				t.Errorf("%+v, %v", got, err)
			}
		} else if got != nil || by != nil {
			t.Error("something beside an error")
		}
		if by, err := one.OpenVoid(&fd, anchors, now); err != nil && by != nil {
			t.Error("somebody beside an error")
		}
	})
}
