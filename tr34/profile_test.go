package tr34

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"regexp"
	"testing"
	"time"
)

// Each field of a profile changes its place in the token, to the bytes that are known.
// Every named profile is one that a device of it reads, and no other name is known.
func TestProfilesHaveNames(t *testing.T) {
	w := theWorld()
	names := ProfileNames()
	if names[0] != "rfc" {
		t.Errorf("the default is %s", names[0])
	}
	seen := map[Profile]string{}
	for _, name := range names {
		p, known := ProfileNamed(name)
		if other, twice := seen[p]; !known || twice {
			t.Errorf("%s is unknown, or as %s", name, other)
		}
		seen[p] = name
		carried := aesKey
		if p.Content == TDESCBC {
			if _, err := w.sender(p).KeyToken(entropy, w.to(), aesKey, Freshness{Random: []byte("12345678")}, scratch()); !errors.Is(err, ErrWeakerWrapping) {
				t.Errorf("%s carries an AES key: %v", name, err)
			}
			carried = Key{"B0000K1TB00E0000", bytes.Repeat([]byte{1, 2}, 12)}
		}
		token, err := w.sender(p).KeyToken(entropy, w.to(), carried, Freshness{Random: []byte("12345678")}, scratch())
		check(t, err)
		key := make([]byte, 32)
		if _, err := w.receiver(p).OpenKeyToken(token, w.twoPass(), scratch(), key); err != nil || !bytes.HasPrefix(key, carried.Clear) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if p, known := ProfileNamed(""); !known || p != (Profile{}) {
		t.Error("without a name it is not the default")
	}
	for _, name := range []string{"RFC", "rfc ", "annex", "annex-b\x00"} {
		if _, known := ProfileNamed(name); known {
			t.Errorf("%q is known", name)
		}
	}
	for _, c := range []struct {
		algorithm byte
		size      int
	}{{'T', 16}, {'T', 24}, {'A', 16}, {'A', 24}, {'A', 32}} {
		if ciphers[Profile{}.ContentCipher(c.algorithm, c.size)].strength < KeyStrength(c.algorithm, c.size) {
			t.Errorf("%c of %d bytes goes under a weaker content key", c.algorithm, c.size)
		}
	}
}

// A caller with rules of its own says which certificates are good, and its errors are returned.
func TestTheCallersOwnRules(t *testing.T) {
	w := theWorld()
	host := w.sender(Profile{})
	host.Trust = only{w.strange.certificate}
	to := Recipient{Device: w.strange.certificate, Now: now}
	fresh := Freshness{Random: []byte("12345678"), CRL: w.crl}
	_, err := host.KeyToken(entropy, to, aesKey, fresh, scratch())
	check(t, err)
	_, err = host.UnbindToken(to, fresh)
	check(t, err)
	if _, err := host.RebindToken(to, w.other.certificate, fresh); err != errNotGood {
		t.Errorf("another host: %v", err)
	}
	if token, err := host.KeyToken(entropy, w.to(), aesKey, fresh, scratch()); err != errNotGood || token != nil {
		t.Errorf("another device: %v", err)
	}
	host.Trust = nil
	for name, make := range map[string]func() ([]byte, error){
		"unbind": func() ([]byte, error) { return host.UnbindToken(to, fresh) },
		"rebind": func() ([]byte, error) { return host.RebindToken(to, w.other.certificate, fresh) },
	} {
		if token, err := make(); err != ErrTrust || token != nil {
			t.Errorf("%s without trust: %v", name, err)
		}
	}
}

var errNotGood = errors.New("not good")

// only is a [Verifier] for which one certificate is good.
type only struct{ good *x509.Certificate }

func (o only) Verify(c *x509.Certificate, _ Role, _ [][]byte, _ time.Time) error {
	if !o.good.Equal(c) {
		return errNotGood
	}
	return nil
}

func TestProfilesToTheByte(t *testing.T) {
	const (
		sha256, sha1 = "0609608648016503040201", "06052b0e03021a"
		oaep, mgf1   = "06092a864886f70d010107", "06092a864886f70d010108"
		pSpecified   = "06092a864886f70d010109"
		data, nonce  = "06092a864886f70d010701", "060a2a864886f70d01091903"
		aes128, tdes = "0609608648016503040102", "06082a864886f70d0307"
	)
	w := theWorld()
	random := "31323334353637383930313233343536"
	for _, c := range []struct {
		name  string
		p     Profile
		token []string // parts of the token in hex, in their order
	}{
		{"default", Profile{}, []string{
			"06092a864886f70d010702",  // id-signedData
			"020103310d300b" + sha256, // version 3, digest without parameters
			"06092a864886f70d010703" + "a082....0482....3082....020100318", // id-envelopedData in a SEQUENCE
			oaep + "302f" + "a00f300d" + sha256 + "0500" + "a11c301a" + mgf1 + "300d" + sha256 + "0500",
			data + "301d" + aes128 + "0410.{32}80", // IV, and [0] after the algorithm
			"300b" + sha256 + "a0",                 // attributes
			"06092a864886f70d010903", data + "31120410" + hex.EncodeToString([]byte(aesKey.Header)), nonce + "31120410" + random,
			"06092a864886f70d010904",
			"300d06092a864886f70d0101010500", // rsaEncryption
		}},
		{"annex B", AnnexB, []string{
			"020101310d300b" + sha256,                              // version 1
			"06092a864886f70d010703" + "a082....0482....020100318", // no SEQUENCE
			oaep + "3038" + "300d" + sha256 + "0500" + "3018" + mgf1 + "300b" + sha256 + "300d" + pSpecified + "0400",
			data + "30(81)?.." + aes128 + "0410.{32}80", // [0] inside the algorithm
			"06092a864886f70d010903", nonce + "31120410" + random, data + "31120410" + hex.EncodeToString([]byte(aesKey.Header)),
			"06092a864886f70d010904",
		}},
		{"SHA-1", Profile{OAEP: crypto.SHA1}, []string{oaep + "3000" + "0482"}},
		{"SHA-1 untagged", Profile{OAEP: crypto.SHA1, UntaggedOAEP: true}, []string{oaep, "3009" + sha1 + "0500" + "3014" + mgf1 + "3007" + sha1}},
		{"mixed", Profile{MGF: crypto.SHA1}, []string{oaep + "3011" + "a00f300d" + sha256 + "0500" + "0482"}},
		{"TDES", Profile{Content: TDESCBC}, []string{tdes + "0408"}},
	} {
		key := aesKey
		if c.p.Content == TDESCBC {
			key = Key{"B0000K1TB00E0000", make([]byte, 24)}
		}
		token, err := w.sender(c.p).KeyToken(entropy, w.to(), key, Freshness{Random: []byte("1234567890123456")}, scratch())
		check(t, err)
		rest := hex.EncodeToString(token)
		for _, part := range c.token {
			at := regexp.MustCompile(part).FindStringIndex(rest)
			if at == nil {
				t.Errorf("%s: %s is not in %s", c.name, part, rest)
				break
			}
			rest = rest[at[1]:]
		}
	}

	id := identify(w.host.certificate)
	for _, c := range []struct {
		p        Profile
		from, to string // of a key block, around the host's identifier
	}{
		{Profile{}, "020101", "0410" + hex.EncodeToString(aesKey.Clear) + "301f" + data + "31120410" + hex.EncodeToString([]byte(aesKey.Header))},
		{Profile{AnnexDKeyBlock: true}, "020100", "0410" + hex.EncodeToString(aesKey.Clear) + "0410" + hex.EncodeToString([]byte(aesKey.Header))},
	} {
		block, err := (&Host{Certificate: w.host.certificate, Profile: c.p}).keyBlock(make([]byte, 4096), aesKey)
		check(t, err)
		text := hex.EncodeToString(block)
		if from, to := text[4:10], text[len(text)-len(c.to):]; from != c.from || to != c.to || !bytes.Contains(block, id.issuer) {
			t.Errorf("%+v: key block %s", c.p, text)
		}
	}
}
