package tr34

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"regexp"
	"testing"
)

// Each field of a profile changes its place in the token, to the bytes that are known.
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
