package tr34

import (
	"bytes"
	"crypto"
	"os"
	"testing"

	"golang.org/x/crypto/cryptobyte"
)

// seeds adds a token of each kind and shape, and what is in them.
func seeds(f *testing.F, add func([]byte)) {
	f.Helper()
	w := theWorld()
	keep := func(token []byte, err error) []byte {
		f.Helper()
		must(err)
		add(token)
		return token
	}
	sample, err := os.ReadFile("testdata/clover/ct_krd.der")
	keep(sample, err)
	keep(RandomToken([]byte("12345678")))
	keep(CredentialToken(w.host.certificate, w.crl))
	fresh := Freshness{Random: []byte("12345678"), CRL: w.crl}
	for _, p := range []Profile{{}, AnnexB, {OAEP: crypto.SHA1}, {AnnexDKeyBlock: true, Content: AES256CBC}} {
		h := w.sender(p)
		for _, token := range [][]byte{
			keep(h.KeyToken(entropy, w.to(), aesKey, fresh, scratch())),
			keep(h.KeyToken(entropy, w.to(), aesKey, Freshness{Time: now, CRL: w.crl}, scratch())),
			keep(h.UnbindToken(w.to(), fresh)),
			keep(h.RebindToken(w.to(), w.other.certificate, fresh)),
		} {
			s, err := readToken(token)
			must(err)
			add(s.content)
		}
		keep(h.keyBlock(make([]byte, 4096), aesKey))
	}
}

// FuzzToken asserts for any bytes as any token: no panic, the bytes unchanged, nothing returned
// with an error, and nothing opened but what the host signed in the seeds.
func FuzzToken(f *testing.F) {
	w := theWorld()
	seeds(f, func(token []byte) { f.Add(token) })
	f.Fuzz(func(t *testing.T, token []byte) {
		before := bytes.Clone(token)
		random, err := ReadRandomToken(token)
		if err != nil && random != nil {
			t.Fatal("a random number was returned with an error")
		}
		if err == nil {
			if again, err := RandomToken(random); err != nil || !bytes.Equal(again, token) {
				t.Fatalf("%x was read from %x", random, token)
			}
		}
		credential, err := ReadCredential(token)
		if (credential == nil) == (err == nil) || err == nil && credential.Certificate == nil {
			t.Fatalf("credential %v, error %v", credential, err)
		}
		device := w.receiver(Profile{})
		for _, expect := range []Expectation{w.twoPass(), w.onePass()} {
			working, out := scratch(), make([]byte, 32)
			received, err := device.OpenKeyToken(token, expect, working, out)
			if err != nil && (received.Header != "" || received.Size != 0 || received.CRLs != nil || !bytes.Equal(out, make([]byte, 32))) {
				t.Fatalf("%+v was returned with an error", received)
			}
			if !bytes.Equal(working, scratch()) {
				t.Fatal("scratch was not cleared")
			}
			if err == nil && (received.Header != aesKey.Header || !bytes.Equal(out[:received.Size], aesKey.Clear)) {
				t.Fatalf("%+v was opened", received)
			}
			if _, err := device.OpenRebindToken(token, expect); err == nil && !bytes.Contains(token, w.other.certificate.Raw) {
				t.Fatal("rebound to another host")
			}
			_ = device.OpenUnbindToken(token, expect)
		}
		if !bytes.Equal(token, before) {
			t.Fatal("the token was changed")
		}
	})
}

// FuzzSigned asserts that what is read of a SignedData is written to what reads as the same.
func FuzzSigned(f *testing.F) {
	seeds(f, func(token []byte) { f.Add(token) })
	f.Fuzz(func(t *testing.T, token []byte) {
		_, _ = readInner(token)
		s, err := readToken(token)
		if err != nil {
			if s != nil {
				t.Fatal("something was returned with an error")
			}
			return
		}
		var attributes [][]byte
		if s.signer != nil {
			if attributes, err = elements(s.signer.attributes); err != nil {
				t.Fatal(err)
			}
		}
		written, err := s.token(attributes, true)
		if err != nil {
			t.Fatal(err)
		}
		again, err := readToken(written)
		if err != nil || !again.kind.Equal(s.kind) || !bytes.Equal(again.content, s.content) || (again.content == nil) != (s.content == nil) ||
			len(again.certificates) != len(s.certificates) || len(again.crls) != len(s.crls) || (again.signer == nil) != (s.signer == nil) {
			t.Fatalf("%x was written as %x: %v", token, written, err)
		}
		if s.signer != nil && (!again.signer.id.equal(s.signer.id) || !bytes.Equal(again.signer.attributes, s.signer.attributes) ||
			!bytes.Equal(again.signer.signature, s.signer.signature)) {
			t.Fatalf("%x was written as %x", token, written)
		}
	})
}

// FuzzEnvelope asserts the same of an EnvelopedData, in every shape.
func FuzzEnvelope(f *testing.F) {
	seeds(f, func(token []byte) { f.Add(token) })
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA1} {
			e, err := readEnvelope(content, hash, hash)
			if err != nil {
				if e != nil {
					t.Fatal("an envelope was returned with an error")
				}
				continue
			}
			for _, p := range []Profile{{}, AnnexB} {
				p.OAEP = hash
				written, err := e.write(p)
				if err != nil {
					t.Fatal(err)
				}
				again, err := readEnvelope(written, hash, hash)
				if err != nil || !again.recipient.equal(e.recipient) || again.cipher != e.cipher || !bytes.Equal(again.iv, e.iv) ||
					!bytes.Equal(again.wrapped, e.wrapped) || !bytes.Equal(again.content, e.content) {
					t.Fatalf("%x was written as %x: %v", content, written, err)
				}
			}
		}
	})
}

// FuzzSignedByHost asserts that a bound host whose content is anything does no harm: no panic,
// and nothing comes with an error.
func FuzzSignedByHost(f *testing.F) {
	w := theWorld()
	seeds(f, func(token []byte) { f.Add(token, []byte(aesKey.Header)) })
	f.Fuzz(func(t *testing.T, content, header []byte) {
		headerAttribute, err := octetsAttribute(idData, header)
		if err != nil {
			t.Fatal(err)
		}
		fresh := Freshness{Random: []byte("12345678")}
		attributes, _, err := fresh.attributes(headerAttribute)
		if err != nil {
			t.Fatal(err)
		}
		if content == nil {
			content = []byte{}
		}
		device := w.receiver(Profile{})
		token, err := (&PreparedToken{kind: idEnvelopedData, content: content, attributes: attributes}).Finish(w.sender(Profile{}))
		if err == ErrTooLarge {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		out := make([]byte, 32)
		received, err := device.OpenKeyToken(token, w.twoPass(), scratch(), out)
		if err != nil && (received.Size != 0 || received.Header != "" || !bytes.Equal(out, make([]byte, 32))) {
			t.Fatalf("%+v was returned with an error", received)
		}
		token, err = (&PreparedToken{kind: idSignedData, content: content, attributes: attributes[:1]}).Finish(w.sender(Profile{}))
		if err != nil {
			return
		}
		credential, err := device.OpenRebindToken(token, w.twoPass())
		if (credential == nil) == (err == nil) {
			t.Fatalf("credential %v, error %v", credential, err)
		}
	})
}

// FuzzKeyBlock asserts that a decrypted key block is read without a panic, and whole or not at all.
func FuzzKeyBlock(f *testing.F) {
	seeds(f, func(token []byte) { f.Add(token) })
	f.Fuzz(func(t *testing.T, content []byte) {
		before := bytes.Clone(content)
		b, err := readBlock(content)
		if err != nil && (b.clear != nil || b.header != nil || b.host.serial != nil) {
			t.Fatal("a key block was returned with an error")
		}
		if !bytes.Equal(content, before) {
			t.Fatal("the content was changed")
		}
		if err == nil {
			in := cryptobyte.String(b.host.issuer)
			if wellFormed(in, 0) != nil || !bytes.Contains(content, b.clear) || !bytes.Contains(content, b.header) {
				t.Fatalf("%+v was read from %x", b, content)
			}
		}
	})
}

// FuzzCRL asserts that only what has the name of the hosts' CA in it is taken for its CRL.
func FuzzCRL(f *testing.F) {
	w := theWorld()
	for _, crl := range [][]byte{w.crl, makeCRL(w.deviceCA, nil), makeCRL(w.hostCA, nil, w.other.certificate), makeCRL(w.root, nil)} {
		f.Add(crl)
	}
	f.Fuzz(func(t *testing.T, crl []byte) {
		if err := w.trust.Verify(w.host.certificate, HostRole, [][]byte{crl}, now); err == nil && !bytes.Contains(crl, w.hostCA.certificate.RawSubject) {
			t.Fatalf("%x is taken for the CRL of the hosts' CA", crl)
		}
		_ = w.trust.Verify(w.host.certificate, HostRole, [][]byte{w.crl, crl}, now)
	})
}
