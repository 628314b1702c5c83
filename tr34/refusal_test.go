package tr34

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"math/bits"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"
)

var aesKey = Key{"D0000K1AB00E0000", []byte("sixteen key byte")}

// prepare makes a two-pass key token that only lacks the signature.
func prepare(t *testing.T, w *world, p Profile) *PreparedToken {
	t.Helper()
	host := w.sender(p)
	host.Sign = nil // is not called
	prepared, err := host.PrepareKeyToken(entropy, w.to(), aesKey, Freshness{Random: []byte("12345678")}, scratch())
	check(t, err)
	return prepared
}

// replaced returns b with the first from replaced by to, of the same size.
func replaced(t *testing.T, b []byte, from, to []byte) []byte {
	t.Helper()
	if !bytes.Contains(b, from) || len(from) != len(to) {
		t.Fatalf("%x is not in %x", from, b)
	}
	return bytes.Replace(b, from, to, 1)
}

func encodedOID(oid asn1.ObjectIdentifier) []byte {
	der, err := asn1.Marshal(oid)
	must(err)
	return der
}

// resealed encrypts another key block in the place of the one in an envelope, as the host could.
func resealed(t *testing.T, w *world, e *envelope, plain []byte) []byte {
	t.Helper()
	contentKey := []byte("0123456789abcdef")
	cbc, err := newCipher(AES128CBC, contentKey)
	check(t, err)
	again := *e
	again.cipher, again.iv = AES128CBC, make([]byte, 16)
	again.content = encryptCBC(cbc, again.iv, plain)
	again.wrapped = encryptOAEP(t, w.device.certificate, contentKey)
	der, err := again.write(Profile{})
	check(t, err)
	return der
}

func TestAlteredKeyTokens(t *testing.T) {
	w := theWorld()
	plain := func(host identity, header string, clear []byte) []byte {
		block, err := (&Host{Certificate: host.certificate}).keyBlock(make([]byte, 4096), Key{header, clear})
		check(t, err)
		return block
	}
	good := func(p *PreparedToken) *envelope {
		e, err := readEnvelope(p.content, crypto.SHA256, crypto.SHA256)
		check(t, err)
		return e
	}
	withEnvelope := func(change func(*envelope), profile Profile) func(*PreparedToken) {
		return func(p *PreparedToken) {
			e := good(p)
			change(e)
			var err error
			p.content, err = e.write(profile)
			check(t, err)
		}
	}
	withBlock := func(block []byte) func(*PreparedToken) {
		return func(p *PreparedToken) { p.content = resealed(t, w, good(p), pad(bytes.Clone(block), 16)) }
	}
	header, err := octetsAttribute(idData, []byte("D0000K1AD00E0000"))
	check(t, err)
	longHeader, err := octetsAttribute(idData, bytes.Repeat([]byte("0"), MaxHeader+1))
	check(t, err)
	badHeader, err := octetsAttribute(idData, []byte("no header at all"))
	check(t, err)
	otherRandom, err := octetsAttribute(idRandomNonce, []byte("87654321"))
	check(t, err)
	aBlock := plain(w.host, aesKey.Header, aesKey.Clear)
	wrongPadding := func(p *PreparedToken) {
		p.content = resealed(t, w, good(p), append(pad(bytes.Clone(aBlock), 16), bytes.Repeat([]byte{0}, 16)...))
	}

	for _, c := range []struct {
		name   string
		change func(*PreparedToken) // before the host signs: a host that errs, or lies
		want   error
	}{
		{"nothing", func(*PreparedToken) {}, nil},
		{"another content type", func(p *PreparedToken) { p.kind = idData }, ErrStructure},
		{"no random number", func(p *PreparedToken) { p.attributes = p.attributes[1:] }, ErrAttribute},
		{"another random number", func(p *PreparedToken) { p.attributes[0] = otherRandom }, ErrRandom},
		{"two random numbers", func(p *PreparedToken) { p.attributes = append(p.attributes, otherRandom) }, ErrAttribute},
		{"no header", func(p *PreparedToken) { p.attributes = p.attributes[:1] }, ErrAttribute},
		{"another header", func(p *PreparedToken) { p.attributes[1] = header }, ErrHeaderMismatch},
		{"a long header", func(p *PreparedToken) { p.attributes[1] = longHeader }, ErrHeader},
		{"no header of X9.143", func(p *PreparedToken) { p.attributes[1] = badHeader }, ErrHeader},
		{"for another device", withEnvelope(func(e *envelope) { e.recipient = identify(w.small.certificate) }, Profile{}), ErrRecipient},
		{"another serial number", withEnvelope(func(e *envelope) { e.recipient.serial = big.NewInt(-1) }, Profile{}), ErrRecipient},
		{"OAEP with SHA-1", withEnvelope(func(*envelope) {}, Profile{OAEP: crypto.SHA1}), ErrAlgorithm},
		{"MGF1 with SHA-1", withEnvelope(func(*envelope) {}, Profile{MGF: crypto.SHA1}), ErrAlgorithm},
		{"a label", func(p *PreparedToken) {
			withEnvelope(func(*envelope) {}, Profile{UntaggedOAEP: true})(p)
			p.content = replaced(t, p.content, append(encodedOID(idPSpecified), 4, 0), append(encodedOID(idPSpecified), 5, 0))
		}, ErrAlgorithm},
		{"no OAEP", func(p *PreparedToken) {
			p.content = replaced(t, p.content, encodedOID(idOAEP), encodedOID(idRSA))
		}, ErrAlgorithm},
		{"an unknown cipher", func(p *PreparedToken) {
			p.content = replaced(t, p.content, encodedOID(idAES128CBC), encodedOID(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 6}))
		}, ErrAlgorithm},
		{"a short IV", withEnvelope(func(e *envelope) { e.iv = e.iv[:8] }, Profile{}), ErrAlgorithm},
		{"half a block of content", withEnvelope(func(e *envelope) { e.content = e.content[8:] }, Profile{}), ErrStructure},
		{"no content", withEnvelope(func(e *envelope) { e.content = nil }, Profile{}), ErrStructure},
		{"a content that is too large", withEnvelope(func(e *envelope) { e.content = make([]byte, ScratchSize) }, Profile{}), ErrContentTooLarge},
		{"another wrapped key", withEnvelope(func(e *envelope) { e.wrapped = bytes.Repeat([]byte{7}, 384) }, Profile{}), ErrDecrypt},
		{"a content key that is too long", withEnvelope(func(e *envelope) { e.wrapped = encryptOAEP(t, w.device.certificate, make([]byte, 33)) }, Profile{}), ErrDecrypt},
		{"a content key of another size", withEnvelope(func(e *envelope) { e.wrapped = encryptOAEP(t, w.device.certificate, make([]byte, 24)) }, Profile{}), ErrContentKeySize},
		{"another content", withEnvelope(func(e *envelope) { e.content = make([]byte, 64) }, Profile{}), ErrDecrypt},
		{"no padding", wrongPadding, ErrDecrypt},
		{"no key block", withBlock([]byte{4, 1, 1}), ErrDecrypt},
		{"half a key block", withBlock(aBlock[:20]), ErrDecrypt},
		{"key block version 2", withBlock(replaced(t, aBlock, []byte{2, 1, 1}, []byte{2, 1, 2})), ErrDecrypt},
		{"another host inside", withBlock(plain(w.other, aesKey.Header, aesKey.Clear)), ErrHostMismatch},
		{"another header inside", withBlock(plain(w.host, "D0000K1AD00E0000", aesKey.Clear)), ErrHeaderMismatch},
		{"a key of 15 bytes", withBlock(plain(w.host, aesKey.Header, aesKey.Clear[1:])), ErrKeySize},
		{"a key that is stronger than RSA-3072", withBlock(plain(w.host, aesKey.Header, make([]byte, 32))), ErrWeakerWrapping},
	} {
		p := prepare(t, w, Profile{})
		c.change(p)
		token, err := p.Finish(w.sender(Profile{}))
		check(t, err)
		refuses(t, w, c.name, token, w.twoPass(), c.want)
	}

	for _, c := range []struct {
		name   string
		change func(token []byte) []byte // on the way: the signature stays
		want   error
	}{
		{"nothing", func(b []byte) []byte { return b }, nil},
		{"no byte", func(b []byte) []byte { return nil }, ErrStructure},
		{"a byte after it", func(b []byte) []byte { return append(b, 0) }, ErrEncoding},
		{"a structure after it", func(b []byte) []byte { return append(b, 5, 0) }, ErrStructure},
		{"the last byte is missing", func(b []byte) []byte { return b[:len(b)-1] }, ErrEncoding},
		{"too large", func(b []byte) []byte { return append(b, make([]byte, MaxToken)...) }, ErrTooLarge},
		{"indefinite length", func(b []byte) []byte { return slices.Concat([]byte{0x30, 0x80}, b[4:], []byte{0, 0}) }, ErrIndefinite},
		{"a longer length than needed", func(b []byte) []byte { return slices.Concat([]byte{0x30, 0x83, 0}, b[2:]) }, ErrEncoding},
		{"a bit of the signature", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, ErrAltered},
		{"the random number", func(b []byte) []byte { return replaced(t, b, []byte("12345678"), []byte("12345679")) }, ErrAltered},
		{"the header", func(b []byte) []byte {
			return replaced(t, b, []byte(aesKey.Header), []byte("D0000K1AD00E0000"))
		}, ErrAltered},
		{"the wrapped key", func(b []byte) []byte { b[500] ^= 1; return b }, ErrAltered},
		{"the kind", func(b []byte) []byte { return replaced(t, b, encodedOID(idSignedData), encodedOID(idEnvelopedData)) }, ErrStructure},
		{"the kind of the content", func(b []byte) []byte { return replaced(t, b, encodedOID(idEnvelopedData), encodedOID(idData)) }, ErrStructure},
		{"the version", func(b []byte) []byte { return replaced(t, b, []byte{2, 1, 3, 0x31}, []byte{2, 1, 4, 0x31}) }, ErrVersion},
		{"the digest algorithm", func(b []byte) []byte {
			return bytes.ReplaceAll(b, encodedOID(idSHA256), encodedOID(asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}))
		}, ErrAlgorithm},
		{"the signature algorithm", func(b []byte) []byte {
			return replaced(t, b, append(encodedOID(idRSA), 5, 0), append(encodedOID(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}), 5, 0))
		}, ErrAlgorithm},
		{"the signer", func(b []byte) []byte {
			return replaced(t, b, w.host.certificate.RawIssuer, bytes.Replace(w.host.certificate.RawIssuer, []byte("host"), []byte("hosT"), 1))
		}, ErrSigner},
	} {
		token, err := prepare(t, w, Profile{}).Finish(w.sender(Profile{}))
		check(t, err)
		refuses(t, w, c.name, c.change(token), w.twoPass(), c.want)
	}
}

// No byte of a token can be another: neither of a key nor of a credential with its CRL.
func TestEveryByteCounts(t *testing.T) {
	w := theWorld()
	device := w.receiver(Profile{})
	credential, err := CredentialToken(w.host.certificate, w.crl)
	check(t, err)
	for change, p := range map[byte]Profile{0x01: {}, 0x20: AnnexB} {
		token, err := prepare(t, w, p).Finish(w.sender(p))
		check(t, err)
		out := make([]byte, 32)
		for i := range token {
			token[i] ^= change
			if _, err := device.OpenKeyToken(token, w.twoPass(), scratch(), out); err == nil {
				t.Errorf("key token with another byte %d", i)
			}
			token[i] ^= change
		}
		if _, err := device.OpenKeyToken(token, w.twoPass(), scratch(), out); err != nil {
			t.Fatal(err)
		}
	}
	for i := range credential {
		credential[i] ^= 1
		if _, err := w.trust.OpenCredential(credential, HostRole, nil, now); err == nil {
			t.Errorf("credential with another byte %d", i)
		}
		credential[i] ^= 1
	}
	_, err = w.trust.OpenCredential(credential, HostRole, nil, now)
	check(t, err)
}

// refuses opens a token and checks that with an error nothing came.
func refuses(t *testing.T, w *world, name string, token []byte, expect Expectation, want error) {
	t.Helper()
	working, out := scratch(), make([]byte, 32)
	received, err := w.receiver(Profile{}).OpenKeyToken(token, expect, working, out)
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", name, err, want)
	}
	if err != nil && (received.Header != "" || received.Size != 0 || !received.Time.IsZero() || received.CRLs != nil || !bytes.Equal(out, make([]byte, 32))) {
		t.Errorf("%s: %+v came with an error", name, received)
	}
	if !bytes.Equal(working, scratch()) {
		t.Errorf("%s: scratch was not cleared", name)
	}
}

func TestWhenAKeyTokenIsRefused(t *testing.T) {
	w := theWorld()
	two, err := prepare(t, w, Profile{}).Finish(w.sender(Profile{}))
	check(t, err)
	one := onePassToken(t, w, w.crl)
	for _, c := range []struct {
		name   string
		token  []byte
		expect Expectation
		change func(*Expectation)
		want   error
	}{
		{"two-pass", two, w.twoPass(), func(*Expectation) {}, nil},
		{"one-pass", one, w.onePass(), func(*Expectation) {}, nil},
		{"no host", two, w.twoPass(), func(e *Expectation) { e.Host = nil }, ErrDeviceNotBound},
		{"another host", two, w.twoPass(), func(e *Expectation) { e.Host = w.other.certificate }, ErrSigner},
		{"bound to a device", two, w.twoPass(), func(e *Expectation) { e.Host = w.small.certificate }, ErrSigner},
		{"no CRL", two, w.twoPass(), func(e *Expectation) { e.CRLs = nil }, ErrNoCRL},
		{"host revoked", two, w.twoPass(), func(e *Expectation) { e.CRLs = [][]byte{makeCRL(w.hostCA, nil, w.host.certificate)} }, ErrRevoked},
		{"host expired", two, w.twoPass(), func(e *Expectation) { e.Now = now.AddDate(6, 0, 0) }, ErrExpired},
		{"random number of another size", two, w.twoPass(), func(e *Expectation) { e.Random = []byte("1234567") }, ErrRandomSize},
		{"both", two, w.twoPass(), func(e *Expectation) { e.After = now }, ErrFreshness},
		{"neither", two, w.twoPass(), func(e *Expectation) { e.Random = nil }, ErrFreshness},
		{"a two-pass token in one-pass", two, w.onePass(), func(e *Expectation) {}, ErrNoCRL},
		{"a one-pass token in two-pass", one, w.twoPass(), func(e *Expectation) {}, ErrAttribute},
		{"the same time again", one, w.onePass(), func(e *Expectation) { e.After = now }, ErrStale},
		{"an older time", one, w.onePass(), func(e *Expectation) { e.After = now.Add(time.Second) }, ErrStale},
		{"the second before", one, w.onePass(), func(e *Expectation) { e.After = now.Add(-time.Second) }, nil},
		{"host revoked by the token", onePassToken(t, w, makeCRL(w.hostCA, nil, w.host.certificate)), w.onePass(), func(*Expectation) {}, ErrRevoked},
		{"host revoked by a CRL that the device keeps", one, w.onePass(), func(e *Expectation) { e.CRLs = [][]byte{makeCRL(w.hostCA, nil, w.host.certificate)} }, ErrRevoked},
		{"one-pass with a CRL of others", onePassToken(t, w, makeCRL(w.deviceCA, nil)), w.onePass(), func(e *Expectation) { e.CRLs = [][]byte{w.crl} }, ErrNoCRL},
		{"one-pass with an old CRL", onePassToken(t, w, makeCRL(w.hostCA, func(l *x509.RevocationList) { l.NextUpdate = now })), w.onePass(), func(*Expectation) {}, ErrCRLExpired},
	} {
		c.change(&c.expect)
		refuses(t, w, c.name, c.token, c.expect, c.want)
	}
	device := w.receiver(Profile{})
	if _, err := device.OpenKeyToken(two, w.twoPass(), scratch()[1:], make([]byte, 32)); err != ErrScratch {
		t.Errorf("small scratch: %v", err)
	}
	if _, err := device.OpenKeyToken(two, w.twoPass(), scratch(), make([]byte, 15)); err != ErrOut {
		t.Errorf("small buffer: %v", err)
	}
	device.Profile.OAEP = crypto.MD5
	if _, err := device.OpenKeyToken(two, w.twoPass(), scratch(), make([]byte, 32)); err != ErrProfile {
		t.Errorf("unknown hash: %v", err)
	}
}

func onePassToken(t *testing.T, w *world, crl []byte) []byte {
	t.Helper()
	token, err := w.sender(Profile{}).KeyToken(entropy, w.to(), aesKey, Freshness{Time: now, CRL: crl}, scratch())
	check(t, err)
	return token
}

// Attributes that stand in another order than DER's are read whichever of the two was signed.
// With a random number of 16 bytes the samples' order is not that of DER.
func TestAttributeOrders(t *testing.T) {
	w := theWorld()
	expect := w.twoPass()
	expect.Random = []byte("1234567890123456")
	for _, c := range []struct {
		name          string
		signs, stands bool // in the samples' order
		want          error
	}{
		{"DER signed and written", false, false, nil},
		{"samples' order signed and written", true, true, nil},
		{"DER signed, samples' order written", false, true, nil},
		{"samples' order signed, DER written", true, false, ErrAltered},
	} {
		prepared, err := w.sender(Profile{}).PrepareKeyToken(entropy, w.to(), aesKey, Freshness{Random: expect.Random}, scratch())
		check(t, err)
		token, err := prepared.Finish(w.sender(Profile{SampleOrder: c.signs}))
		check(t, err)
		s, err := readToken(token)
		check(t, err)
		all, err := elements(s.signer.attributes)
		check(t, err)
		der := sorted(all)
		if slices.EqualFunc(all, der, bytes.Equal) == c.signs {
			t.Fatalf("%s: the host did not write that", c.name)
		}
		if c.stands && !c.signs {
			all = [][]byte{der[0], der[2], der[1], der[3]}
		} else if !c.stands {
			all = der
		}
		token, err = s.token(all, false)
		check(t, err)
		refuses(t, w, c.name, token, expect, c.want)
	}
}

func TestWhatAHostRefusesToMake(t *testing.T) {
	w := theWorld()
	good := Freshness{Random: []byte("12345678")}
	for _, c := range []struct {
		name   string
		host   func(*Host)
		to     func(*Recipient)
		key    Key
		fresh  Freshness
		want   error
		random []byte
	}{
		{name: "TDES under RSA-2048", to: func(r *Recipient) { r.Device = w.small.certificate }, key: Key{"B0000K1TB00E0000", make([]byte, 24)}},
		{name: "AES-128 under RSA-2048", to: func(r *Recipient) { r.Device = w.small.certificate }, want: ErrWeakerWrapping},
		{name: "AES-192 under RSA-3072", key: Key{aesKey.Header, make([]byte, 24)}, want: ErrWeakerWrapping},
		{name: "AES-128 under TDES", host: func(h *Host) { h.Profile.Content = TDESCBC }, want: ErrWeakerWrapping},
		{name: "TDES of 8 bytes", key: Key{"B0000K1TB00E0000", make([]byte, 8)}, want: ErrKeySize},
		{name: "HMAC", key: Key{"D0000M7HC00E0000", make([]byte, 32)}, want: ErrKeySize},
		{name: "no header", key: Key{"", make([]byte, 16)}, want: ErrHeader},
		{name: "a header that makes no sense", key: Key{"D0000K1AX00E0000", make([]byte, 16)}, want: ErrHeader},
		{name: "text after the header", key: Key{aesKey.Header + "0", make([]byte, 16)}, want: ErrHeader},
		{name: "a device of another CA", to: func(r *Recipient) { r.Device = w.strange.certificate }, want: ErrForeign},
		{name: "a host as device", to: func(r *Recipient) { r.Device = w.host.certificate }, want: ErrRole},
		{name: "a device that is revoked", to: func(r *Recipient) { r.CRLs = [][]byte{makeCRL(w.deviceCA, nil, r.Device)} }, want: ErrRevoked},
		{name: "no device", to: func(r *Recipient) { r.Device = nil }, want: ErrCertificate},
		{name: "no trust", host: func(h *Host) { h.Trust = nil }, want: ErrTrust},
		{name: "no freshness", fresh: Freshness{}, want: ErrFreshness},
		{name: "both", fresh: Freshness{Random: []byte("12345678"), Time: now, CRL: w.crl}, want: ErrFreshness},
		{name: "a time without a CRL", fresh: Freshness{Time: now}, want: ErrFreshness},
		{name: "a time after 2049", fresh: Freshness{Time: now.AddDate(50, 0, 0), CRL: w.crl}, want: ErrFreshness},
		{name: "a CRL that is none", fresh: Freshness{Random: []byte("12345678"), CRL: []byte{1}}, want: ErrCRL},
		{name: "a short random number", fresh: Freshness{Random: []byte("1234567")}, want: ErrRandomSize},
		{name: "a long random number", fresh: Freshness{Random: make([]byte, 17)}, want: ErrRandomSize},
		{name: "an unknown cipher", host: func(h *Host) { h.Profile.Content = 9 }, want: ErrProfile},
		{name: "an unknown hash", host: func(h *Host) { h.Profile.MGF = crypto.SHA512 }, want: ErrProfile},
		{name: "another key signs", host: func(h *Host) { h.Sign = signer2048(w.other.key) }, want: ErrSign},
		{name: "nobody signs", host: func(h *Host) { h.Sign = func([]byte) ([]byte, error) { return nil, errRefused } }, want: errRefused},
		{name: "no entropy", random: []byte{}, want: errNoEntropy},
	} {
		host, to, key, fresh, source, working := w.sender(Profile{}), w.to(), aesKey, good, entropy, scratch()
		if c.host != nil {
			c.host(host)
		}
		if c.to != nil {
			c.to(&to)
		}
		if c.key.Clear != nil {
			key = c.key
		}
		if c.fresh.Random != nil || !c.fresh.Time.IsZero() || c.want == ErrFreshness {
			fresh = c.fresh
		}
		if c.random != nil {
			source = empty{}
		}
		token, err := host.KeyToken(source, to, key, fresh, working)
		if !errors.Is(err, c.want) || (token != nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if !bytes.Equal(working, scratch()) {
			t.Errorf("%s: scratch was not cleared", c.name)
		}
	}
	if _, err := w.sender(Profile{}).KeyToken(entropy, w.to(), aesKey, good, scratch()[1:]); err != ErrScratch {
		t.Errorf("small scratch: %v", err)
	}
}

var errRefused, errNoEntropy = errors.New("refused"), errors.New("no entropy")

type empty struct{}

func (empty) Read([]byte) (int, error) { return 0, errNoEntropy }

func TestCertificatesThatAreRefused(t *testing.T) {
	w := theWorld()
	keys := w.small.key
	host := func(change func(*x509.Certificate)) *x509.Certificate {
		return issue("changed", keys, w.hostCA, x509.KeyUsageDigitalSignature, change).certificate
	}
	shortRSA, err := rsa.GenerateKey(rand.Reader, 1024)
	check(t, err)
	short, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(99), NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0)},
		w.hostCA.certificate, short.Public(), w.hostCA.key)
	check(t, err)
	elliptic, err := x509.ParseCertificate(der)
	check(t, err)
	critical := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}
	sub := issue("sub CA", keys, w.hostCA, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil)
	altered := *w.host.certificate
	altered.Signature = append([]byte{1}, altered.Signature[1:]...)
	rootCRL := makeCRL(w.root, nil, w.hostCA.certificate)
	for _, c := range []struct {
		name        string
		certificate *x509.Certificate
		role        Role
		crls        [][]byte
		at          time.Time
		want        error
	}{
		{"a host", w.host.certificate, HostRole, [][]byte{w.crl}, now, nil},
		{"a device", w.device.certificate, DeviceRole, nil, now, nil},
		{"a device that enciphers data", w.small.certificate, DeviceRole, nil, now, nil},
		{"without key usage", host(func(c *x509.Certificate) { c.KeyUsage = 0 }), HostRole, [][]byte{w.crl}, now, nil},
		{"no certificate", nil, HostRole, nil, now, ErrCertificate},
		{"of another CA", w.strange.certificate, DeviceRole, nil, now, ErrForeign},
		{"altered", &altered, HostRole, [][]byte{w.crl}, now, ErrForeign},
		{"of a CA under the CA", issue("deep", keys, sub, x509.KeyUsageDigitalSignature, nil).certificate, HostRole, [][]byte{w.crl}, now, ErrForeign},
		{"a CA", sub.certificate, HostRole, [][]byte{w.crl}, now, ErrRole},
		{"the trusted CA", w.hostCA.certificate, HostRole, [][]byte{w.crl}, now, ErrRole},
		{"a device as host", w.device.certificate, HostRole, [][]byte{w.crl}, now, ErrRole},
		{"a host as device", w.host.certificate, DeviceRole, nil, now, ErrRole},
		{"a host that does not sign", host(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), HostRole, [][]byte{w.crl}, now, ErrUsage},
		{"not RSA", elliptic, HostRole, [][]byte{w.crl}, now, ErrKey},
		{"not yet", w.host.certificate, HostRole, [][]byte{w.crl}, now.AddDate(-6, 0, 0), ErrNotYet},
		{"expired", host(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }), HostRole, [][]byte{w.crl}, now, ErrExpired},
		{"an unknown critical extension", host(func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, critical) }), HostRole, [][]byte{w.crl}, now, ErrPath},
		{"no CRL for a host", w.host.certificate, HostRole, nil, now, ErrNoCRL},
		{"a CRL of another CA", w.host.certificate, HostRole, [][]byte{makeCRL(w.deviceCA, nil)}, now, ErrNoCRL},
		{"a CRL of another CA for a device", w.device.certificate, DeviceRole, [][]byte{w.crl}, now, ErrNoCRL},
		{"a CRL that is none", w.host.certificate, HostRole, [][]byte{{1}}, now, ErrCRL},
		{"an altered CRL", w.host.certificate, HostRole, [][]byte{append(bytes.Clone(w.crl[:len(w.crl)-1]), w.crl[len(w.crl)-1]^1)}, now, ErrCRL},
		{"a CRL of a part", w.host.certificate, HostRole, [][]byte{makeCRL(w.hostCA, func(l *x509.RevocationList) { l.ExtraExtensions = append(l.ExtraExtensions, critical) })}, now, ErrCRL},
		{"a CRL signed with SHA-1", w.host.certificate, HostRole, [][]byte{makeCRL(w.hostCA, func(l *x509.RevocationList) { l.SignatureAlgorithm = x509.SHA1WithRSA })}, now, ErrCRL},
		{"RSA-1024", issue("short", shortRSA, w.hostCA, x509.KeyUsageDigitalSignature, nil).certificate, HostRole, [][]byte{w.crl}, now, ErrKey},
		{"a CRL in the CA's name with another key", w.host.certificate, HostRole, [][]byte{makeCRL(identity{w.hostCA.certificate, w.other.key}, nil)}, now, ErrCRL},
		{"an expired CRL", w.host.certificate, HostRole, [][]byte{w.crl}, now.AddDate(0, 0, 15), ErrCRLExpired},
		{"a CRL of tomorrow", w.host.certificate, HostRole, [][]byte{w.crl}, now.AddDate(0, 0, -16), ErrCRLNotYet},
		{"revoked", w.host.certificate, HostRole, [][]byte{makeCRL(w.hostCA, nil, w.host.certificate)}, now, ErrRevoked},
		{"another is revoked", w.host.certificate, HostRole, [][]byte{makeCRL(w.hostCA, nil, w.other.certificate)}, now, nil},
		{"revoked by the older of two", w.host.certificate, HostRole, [][]byte{w.crl, makeCRL(w.hostCA, func(l *x509.RevocationList) { l.ThisUpdate = now.AddDate(-1, 0, 0) }, w.host.certificate)}, now, ErrRevoked},
		{"its CA is revoked", w.host.certificate, HostRole, [][]byte{w.crl, rootCRL}, now, ErrRevoked},
	} {
		if err := w.trust.Verify(c.certificate, c.role, c.crls, c.at); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}

	root, hostCA, deviceCA := w.root.certificate, w.hostCA.certificate, w.deviceCA.certificate
	list := func(c ...*x509.Certificate) []*x509.Certificate { return c }
	for name, trust := range map[string]*Trust{
		"none": nil, "no root": {HostCAs: list(hostCA)}, "no CA": {Roots: list(root)},
		"one CA for both":  {Roots: list(root), HostCAs: list(hostCA), DeviceCAs: list(deviceCA, hostCA)},
		"one key for both": {Roots: list(root), HostCAs: list(hostCA), DeviceCAs: list(issue("renamed", w.hostCA.key, w.root, x509.KeyUsageCertSign, nil).certificate)},
		"no CA's":          {Roots: list(root), HostCAs: list(w.host.certificate)}, "nil": {Roots: list(root), HostCAs: list(nil)},
	} {
		if err := trust.Verify(w.host.certificate, HostRole, [][]byte{w.crl}, now); err != ErrTrust {
			t.Errorf("trust with %s: %v", name, err)
		}
	}
	foreign := &Trust{Roots: list(w.strange.certificate, root)[1:], HostCAs: list(issue("lone CA", w.hostCA.key, identity{}, x509.KeyUsageCertSign, nil).certificate)}
	lone := issue("lone", keys, identity{foreign.HostCAs[0], w.hostCA.key}, x509.KeyUsageDigitalSignature, nil)
	if err := foreign.Verify(lone.certificate, HostRole, nil, now); err != ErrForeign {
		t.Errorf("a CA under no root: %v", err)
	}
}

func TestBindingTokensThatAreRefused(t *testing.T) {
	w := theWorld()
	host, device := w.sender(Profile{}), w.receiver(Profile{})
	fresh := Freshness{Random: []byte("12345678"), CRL: w.crl}
	unbind, err := host.UnbindToken(w.to(), fresh)
	check(t, err)
	rebind, err := host.RebindToken(w.to(), w.other.certificate, fresh)
	check(t, err)
	key := onePassToken(t, w, w.crl)
	expect := w.twoPass()
	refused := func(name string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	rebound := func(token []byte, device *Device, expect Expectation) error {
		credential, err := device.OpenRebindToken(token, expect)
		if (credential == nil) == (err == nil) {
			t.Errorf("credential %v, error %v", credential, err)
		}
		return err
	}
	other := *device
	other.Certificate = w.small.certificate
	again := expect
	again.Random = []byte("87654321")
	refused("unbind", device.OpenUnbindToken(unbind, expect), nil)
	refused("rebind", rebound(rebind, device, expect), nil)
	refused("unbind for another", other.OpenUnbindToken(unbind, expect), ErrRecipient)
	refused("rebind for another", rebound(rebind, &other, expect), ErrRecipient)
	refused("unbind again", device.OpenUnbindToken(unbind, again), ErrRandom)
	refused("rebind again", rebound(rebind, device, again), ErrRandom)
	refused("unbind without a random number", device.OpenUnbindToken(unbind, w.onePass()), ErrFreshness)
	refused("rebind without a random number", rebound(rebind, device, w.onePass()), ErrFreshness)
	refused("rebind as unbind", device.OpenUnbindToken(rebind, expect), ErrStructure)
	refused("unbind as rebind", rebound(unbind, device, expect), ErrStructure)
	refused("a key as unbind", device.OpenUnbindToken(key, expect), ErrStructure)
	revoked := expect
	revoked.CRLs = [][]byte{makeCRL(w.hostCA, nil, w.other.certificate)}
	refused("rebind to a host that is revoked", rebound(rebind, device, revoked), ErrRevoked)
	_, err = host.UnbindToken(w.to(), Freshness{Time: now, CRL: w.crl})
	refused("make unbind with a time", err, ErrFreshness)
	_, err = host.RebindToken(w.to(), w.other.certificate, Freshness{Random: []byte("12345678")})
	refused("make rebind without a CRL", err, ErrNoCRL)
	_, err = host.RebindToken(w.to(), w.small.certificate, fresh)
	refused("make rebind to a device", err, ErrRole)
	_, err = host.RebindToken(Recipient{Device: w.strange.certificate, Now: now}, w.other.certificate, fresh)
	refused("make rebind of a foreign device", err, ErrForeign)

	// A host that lies about the new one, or says nothing.
	inner := func(s *signed) []byte {
		var b cryptobyte.Builder
		s.write(&b, nil, true)
		der, err := b.Bytes()
		check(t, err)
		token, err := host.bindingToken(idSignedData, der, fresh)
		check(t, err)
		return token
	}
	var id cryptobyte.Builder
	identify(w.device.certificate).write(&id)
	content := id.BytesOrPanic()
	refused("rebind to a device", rebound(inner(&signed{kind: idData, content: content, certificates: [][]byte{w.small.certificate.Raw}}), device, expect), ErrRole)
	refused("rebind to nobody", rebound(inner(&signed{kind: idData, content: content}), device, expect), ErrCredential)
	refused("rebind of nobody", rebound(inner(&signed{kind: idData, certificates: [][]byte{w.other.certificate.Raw}}), device, expect), ErrStructure)
	refused("rebind with more", rebound(inner(&signed{kind: idData, content: append(content, 5, 0), certificates: [][]byte{w.other.certificate.Raw}}), device, expect), ErrStructure)
}

func TestCredentialsAndRandomTokensThatAreRefused(t *testing.T) {
	w := theWorld()
	encode := func(s *signed) []byte {
		token, err := s.token(nil, true)
		check(t, err)
		return token
	}
	c := func(i identity) []byte { return i.certificate.Raw }
	key, err := prepare(t, w, Profile{}).Finish(w.sender(Profile{}))
	check(t, err)
	var many [][]byte
	for range maxCertificates + 1 {
		many = append(many, c(w.root))
	}
	for _, v := range []struct {
		name  string
		token []byte
		want  error
	}{
		{"with CAs", encode(&signed{kind: idData, certificates: [][]byte{c(w.hostCA), c(w.host), c(w.root)}, crls: [][]byte{w.crl}}), nil},
		{"no certificate", encode(&signed{kind: idData}), ErrCredential},
		{"only a CA", encode(&signed{kind: idData, certificates: [][]byte{c(w.hostCA)}}), ErrCredential},
		{"two hosts", encode(&signed{kind: idData, certificates: [][]byte{c(w.host), c(w.other)}}), ErrCredential},
		{"nine certificates", encode(&signed{kind: idData, certificates: many}), ErrTooLarge},
		{"no certificate's bytes", encode(&signed{kind: idData, certificates: [][]byte{{0x30, 0}}}), ErrCertificate},
		{"no sequence", encode(&signed{kind: idData, certificates: [][]byte{{0xA1, 0}}}), ErrStructure},
		{"no CRL's bytes", encode(&signed{kind: idData, certificates: [][]byte{c(w.host)}, crls: [][]byte{{0x30, 0}}}), ErrCRL},
		{"a content", encode(&signed{kind: idData, content: []byte{1}, certificates: [][]byte{c(w.host)}}), ErrStructure},
		{"another kind", encode(&signed{kind: idEnvelopedData, certificates: [][]byte{c(w.host)}}), ErrStructure},
		{"a key token", key, ErrStructure},
	} {
		credential, err := ReadCredential(v.token)
		if !errors.Is(err, v.want) || (credential == nil) == (err == nil) {
			t.Errorf("%s: %+v, %v, want %v", v.name, credential, err, v.want)
		}
	}
	if _, err := CredentialToken(nil); err != ErrCertificate {
		t.Errorf("no certificate: %v", err)
	}
	if _, err := CredentialToken(w.host.certificate, []byte{1}); err != ErrCRL {
		t.Errorf("no CRL: %v", err)
	}
	strange, err := CredentialToken(w.strange.certificate)
	check(t, err)
	if credential, err := w.trust.OpenCredential(strange, DeviceRole, nil, now); credential != nil || err != ErrForeign {
		t.Errorf("a foreign credential: %v", err)
	}

	bare := func(kind asn1.ObjectIdentifier, value func(*cryptobyte.Builder)) []byte {
		der, err := attribute(kind, value)
		check(t, err)
		return der
	}
	octets := func(n int) func(*cryptobyte.Builder) {
		return func(b *cryptobyte.Builder) { b.AddASN1OctetString(make([]byte, n)) }
	}
	for _, v := range []struct {
		name  string
		token []byte
		want  error
	}{
		{"8 bytes", bare(idRandomNonce, octets(8)), nil},
		{"16 bytes", bare(idRandomNonce, octets(16)), nil},
		{"7 bytes", bare(idRandomNonce, octets(7)), ErrRandomSize},
		{"17 bytes", bare(idRandomNonce, octets(17)), ErrRandomSize},
		{"no value", bare(idRandomNonce, func(*cryptobyte.Builder) {}), ErrStructure},
		{"two values", bare(idRandomNonce, func(b *cryptobyte.Builder) { octets(8)(b); octets(8)(b) }), ErrStructure},
		{"an integer", bare(idRandomNonce, func(b *cryptobyte.Builder) { b.AddASN1Int64(1 << 60) }), ErrStructure},
		{"another kind", bare(idData, octets(8)), ErrStructure},
		{"more after it", append(bare(idRandomNonce, octets(8)), 5, 0), ErrStructure},
		{"a credential", strange, ErrStructure},
		{"nothing", nil, ErrStructure},
		{"indefinite length", append(append([]byte{0x30, 0x80}, bare(idRandomNonce, octets(8))[2:]...), 0, 0), ErrIndefinite},
		{"too large", make([]byte, MaxToken+1), ErrTooLarge},
	} {
		random, err := ReadRandomToken(v.token)
		if !errors.Is(err, v.want) || (random == nil) == (err == nil) {
			t.Errorf("%s: %x, %v, want %v", v.name, random, err, v.want)
		}
	}
}

// A time stamp is UTCTime up to 2049 and GeneralizedTime from then on.
func TestTimeStamps(t *testing.T) {
	for _, c := range []struct {
		tag  tags.Tag
		text string
		want string
	}{
		{tags.UTCTime, "260615120000Z", "2026-06-15T12:00:00Z"},
		{tags.GeneralizedTime, "20500101000000Z", "2050-01-01T00:00:00Z"},
		{tags.GeneralizedTime, "20260615120000Z", ""},
		{tags.UTCTime, "2606151200Z", "2026-06-15T12:00:00Z"},
		{tags.UTCTime, "260615120000", ""},
		{tags.UTCTime, "261315120000Z", ""},
		{tags.OCTET_STRING, "260615120000Z", ""},
	} {
		var b cryptobyte.Builder
		b.AddASN1(c.tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(c.text)) })
		s := signer{values: map[string]cryptobyte.String{idSigningTime.String(): b.BytesOrPanic()}}
		stamp, err := s.time()
		if c.want == "" {
			if err != ErrAttribute {
				t.Errorf("%s: %v", c.text, err)
			}
		} else if err != nil || stamp.Format(time.RFC3339) != c.want {
			t.Errorf("%s: %v, %v", c.text, stamp, err)
		}
	}
}

// The content key of TDES has odd parity, and is one that the source of randomness gave.
func TestContentKeys(t *testing.T) {
	w := theWorld()
	for c, size := range map[Cipher]int{AES128CBC: 16, AES192CBC: 24, AES256CBC: 32, TDESCBC: 24} {
		p := Profile{Content: c}
		source := bytes.NewBuffer(nil)
		token, err := w.sender(p).KeyToken(io.TeeReader(entropy, source), w.to(), Key{"B0000K1TB00E0000", make([]byte, 24)}, Freshness{Random: []byte("12345678")}, scratch())
		check(t, err)
		drawn := source.Bytes()[:size]
		device, seen := w.receiver(p), false
		decrypt := device.Decrypt
		device.Decrypt = func(ciphertext []byte, oaep, mgf crypto.Hash, out []byte) (int, error) {
			n, err := decrypt(ciphertext, oaep, mgf, out)
			seen = n == size
			for i, b := range out[:n] {
				if b|1 != drawn[i]|1 || c != TDESCBC && b != drawn[i] || c == TDESCBC && bits.OnesCount8(b)%2 == 0 {
					t.Errorf("cipher %d: byte %d of the content key is not what was drawn", c, i)
				}
			}
			return n, err
		}
		if _, err := device.OpenKeyToken(token, w.twoPass(), scratch(), make([]byte, 24)); err != nil || !seen {
			t.Errorf("cipher %d: %v", c, err)
		}
	}
}

func TestStrength(t *testing.T) {
	for bits, want := range map[int]int{0: 0, 1024: 0, 2047: 0, 2048: 112, 3071: 112, 3072: 128, 4096: 128, 7680: 192, 8192: 192} {
		if got := Strength(bits); got != want {
			t.Errorf("RSA-%d: %d bits, want %d", bits, got, want)
		}
	}
	for _, c := range []struct {
		algorithm  byte
		size, want int
	}{{'T', 8, 0}, {'T', 16, 80}, {'T', 24, 112}, {'T', 32, 0}, {'A', 16, 128}, {'A', 24, 192}, {'A', 32, 256}, {'A', 15, 0}, {'D', 8, 0}, {'H', 32, 0}, {0, 0, 0}} {
		if got := KeyStrength(c.algorithm, c.size); got != c.want {
			t.Errorf("%c of %d bytes: %d bits, want %d", c.algorithm, c.size, got, c.want)
		}
	}
}
