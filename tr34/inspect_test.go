package tr34

import (
	"bytes"
	"crypto"
	"errors"
	"os"
	"testing"
)

// Every kind and shape of token is read for what it says, and its signature is verified.
func TestInspect(t *testing.T) {
	w := theWorld()
	random := []byte("12345678")
	fresh, timed := Freshness{Random: random, CRL: w.crl}, Freshness{Time: now, CRL: w.crl}
	for name, p := range map[string]Profile{"default": {}, "annex B": AnnexB, "SHA-1": {OAEP: crypto.SHA1}, "mixed": {MGF: crypto.SHA1, Content: AES256CBC}} {
		h := w.sender(p)
		for _, c := range []struct {
			kind  Kind
			make  func() ([]byte, error)
			timed bool
		}{
			{KeyKind, func() ([]byte, error) { return h.KeyToken(entropy, w.to(), aesKey, fresh, scratch()) }, false},
			{KeyKind, func() ([]byte, error) { return h.KeyToken(entropy, w.to(), aesKey, timed, scratch()) }, true},
			{UnbindKind, func() ([]byte, error) { return h.UnbindToken(w.to(), fresh) }, false},
			{RebindKind, func() ([]byte, error) { return h.RebindToken(w.to(), w.other.certificate, fresh) }, false},
		} {
			token, err := c.make()
			check(t, err)
			i, err := Inspect(token)
			check(t, err)
			if i.Kind != c.kind || i.Signer.Serial.Cmp(w.host.certificate.SerialNumber) != 0 || i.Signer.Issuer != w.host.certificate.Issuer.String() ||
				i.Recipient.Serial.Cmp(w.device.certificate.SerialNumber) != 0 || len(i.CRLs) != 1 || i.BareOrder && !p.SampleOrder {
				t.Errorf("%s, %s: %+v", name, c.kind, i)
			}
			if c.timed != i.Time.Equal(now) || c.timed == bytes.Equal(i.Random, random) {
				t.Errorf("%s, %s: random %q, time %s", name, c.kind, i.Random, i.Time)
			}
			if err := i.SignedBy(w.host.certificate); err != nil {
				t.Errorf("%s, %s: %v", name, c.kind, err)
			}
			if err := i.SignedBy(w.other.certificate); !errors.Is(err, ErrSigner) {
				t.Errorf("%s, %s: signed by another: %v", name, c.kind, err)
			}
			for _, at := range []int{len(token) - 1, len(token) - 300} { // in the signature
				altered := bytes.Clone(token)
				altered[at] ^= 1
				if i, err := Inspect(altered); err == nil && i.SignedBy(w.host.certificate) == nil {
					t.Errorf("%s, %s: byte %d was altered", name, c.kind, at)
				}
			}
			out := make([]byte, 32)
			n, host, err := i.OpenKey(w.receiver(p), scratch(), out)
			if c.kind != KeyKind {
				if !errors.Is(err, ErrStructure) {
					t.Errorf("%s: %v", c.kind, err)
				}
				continue
			}
			check(t, err)
			if i.Header != aesKey.Header || !bytes.Equal(out[:n], aesKey.Clear) || host.Serial.Cmp(w.host.certificate.SerialNumber) != 0 {
				t.Errorf("%s: %+v, %x", name, i, out[:n])
			}
			if oaep, mgf, _ := p.hashes(); i.OAEP != oaep || i.MGF != mgf || i.Cipher != p.Content {
				t.Errorf("%s: %s, %s, %s", name, i.OAEP, i.MGF, i.Cipher)
			}
			if _, _, err := i.OpenKey(&Device{Certificate: w.small.certificate, Decrypt: RSADecrypt(w.small.key)}, scratch(), out); !errors.Is(err, ErrRecipient) {
				t.Errorf("another device: %v", err)
			}
		}
	}
}

func TestInspectWhatNobodySigned(t *testing.T) {
	w := theWorld()
	sample, err := os.ReadFile("testdata/clover/ct_krd.der")
	check(t, err)
	i, err := Inspect(sample)
	check(t, err)
	if i.Kind != CredentialKind || len(i.Certificates) != 1 || !i.Certificates[0].Equal(sampleCertificate("krd_1")) || i.Signer != nil {
		t.Errorf("%+v", i)
	}
	if err := i.SignedBy(w.host.certificate); !errors.Is(err, ErrStructure) {
		t.Error(err)
	}
	token, err := RandomToken([]byte("12345678"))
	check(t, err)
	if i, err = Inspect(token); err != nil || i.Kind != RandomKind || string(i.Random) != "12345678" {
		t.Errorf("%+v, %v", i, err)
	}
	if err := i.SignedBy(w.host.certificate); !errors.Is(err, ErrStructure) {
		t.Error(err)
	}
	for name, b := range map[string][]byte{"nothing": nil, "text": []byte("hello"), "BER": {0x30, 0x80, 0, 0}} {
		if i, err := Inspect(b); err == nil || i != nil {
			t.Errorf("%s: %+v, %v", name, i, err)
		}
	}
}

// FuzzInspect asserts for any bytes: no panic, the bytes unchanged, and nothing beside an error.
func FuzzInspect(f *testing.F) {
	w := theWorld()
	seeds(f, func(token []byte) { f.Add(token) })
	f.Fuzz(func(t *testing.T, token []byte) {
		before := bytes.Clone(token)
		i, err := Inspect(token)
		if !bytes.Equal(before, token) || (i == nil) == (err == nil) {
			t.Fatalf("%+v, %v", i, err)
		}
		if err != nil {
			return
		}
		if i.Kind == RandomKind {
			if again, err := RandomToken(i.Random); err != nil || !bytes.Equal(again, token) {
				t.Fatalf("%x was read from %x", i.Random, token)
			}
		}
		_ = i.SignedBy(w.host.certificate)
		_, _, _ = i.OpenKey(w.receiver(Profile{}), scratch(), make([]byte, 32))
	})
}
