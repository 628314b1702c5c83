package ceremony_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"keyd/ceremony"
	"keyd/hsm"
)

// drawDefinition draws what may or may not be a definition: the encoding does not mind.
func drawDefinition(t *rapid.T) *ceremony.Definition {
	text := rapid.StringMatching(`[ -~]{0,12}`)
	ref := rapid.Custom(func(t *rapid.T) *ceremony.KeyRef {
		return &ceremony.KeyRef{Name: text.Draw(t, "name"), Version: rapid.Uint32().Draw(t, "version")}
	})
	d := &ceremony.Definition{
		Kind: ceremony.Kind(text.Draw(t, "kind")), Components: rapid.Int().Draw(t, "components"), CheckValue: text.Draw(t, "check value"), Block: text.Draw(t, "block"),
		Wait: rapid.Int64().Draw(t, "wait"), AllowWeaker: rapid.Bool().Draw(t, "weaker"), ValidFor: rapid.Int64().Draw(t, "valid for"), Reason: text.Draw(t, "reason"),
	}
	if rapid.Bool().Draw(t, "has target") {
		d.Target = ref.Draw(t, "target")
	}
	if rapid.Bool().Draw(t, "has key") {
		d.Key = &ceremony.KeySpec{Name: text.Draw(t, "key"), Usage: text.Draw(t, "usage"), Peers: rapid.SliceOfN(text, 1, 3).Draw(t, "peers"), NotAfter: rapid.Int64().Draw(t, "not after")}
		if rapid.Bool().Draw(t, "has rule") {
			d.Key.IBM3624 = &hsm.IBM3624Rule{DecimalizationTable: text.Draw(t, "table")}
		}
	}
	if rapid.Bool().Draw(t, "has roster") {
		d.Roster = &ceremony.Roster{Officers: []ceremony.Officer{{Name: text.Draw(t, "officer"), Key: rapid.SliceOf(rapid.Byte()).Draw(t, "officer's key")}}}
	}
	return d
}

// A document has one encoding: what was encoded decodes to the same, and nothing else does
// that has as little as one byte more, less or otherwise.
func TestDecodeAcceptsExactlyWhatEncodeReturns(tb *testing.T) {
	rapid.Check(tb, func(t *rapid.T) {
		d := drawDefinition(t)
		encoded := must(ceremony.Encode(d))
		decoded, err := ceremony.Decode[ceremony.Definition](encoded, len(encoded))
		if err != nil {
			t.Fatalf("%s: %v", encoded, err)
		}
		if again := must(ceremony.Encode(decoded)); !bytes.Equal(again, encoded) {
			t.Fatalf("%s\n%s", encoded, again)
		}
		if _, err := ceremony.Decode[ceremony.Definition](encoded, len(encoded)-1); !errors.Is(err, ceremony.ErrDocument) {
			t.Fatalf("longer than the limit: %v", err)
		}
		at := rapid.IntRange(0, len(encoded)-1).Draw(t, "at")
		altered := bytes.Clone(encoded)
		altered[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if other, err := ceremony.Decode[ceremony.Definition](altered, len(altered)); err == nil && bytes.Equal(must(ceremony.Encode(other)), encoded) {
			t.Fatalf("%s decodes as %s", altered, encoded)
		}
	})
}

// Spellings that JSON allows and that are another document, or none.
func TestOtherSpellingsAreRefused(t *testing.T) {
	d := &ceremony.Definition{Kind: ceremony.Stop, Target: &ceremony.KeyRef{Name: "k", Version: 1}, ValidFor: 60, Reason: "a<b"}
	encoded := string(must(ceremony.Encode(d)))
	if _, err := ceremony.Decode[ceremony.Definition]([]byte(encoded), 1000); err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(encoded), &fields); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"white space":         strings.Replace(encoded, ":", ": ", 1),
		"behind it":           encoded + "\n",
		"before it":           " " + encoded,
		"twice":               encoded + encoded,
		"another order":       `{"target":{"name":"k","version":1},"kind":"stop","valid_for":60,"reason":"a\u003cb"}`,
		"capitals":            strings.Replace(encoded, `"kind"`, `"Kind"`, 1),
		"an unknown field":    strings.Replace(encoded, `{"kind"`, `{"extra":1,"kind"`, 1),
		"a field twice":       strings.Replace(encoded, `"valid_for":60`, `"valid_for":61,"valid_for":60`, 1),
		"an empty field":      strings.Replace(encoded, `"valid_for"`, `"components":0,"valid_for"`, 1),
		"another escape":      strings.Replace(encoded, "\\u003c", "<", 1),
		"an escaped letter":   strings.Replace(encoded, `"stop"`, `"\u0073top"`, 1),
		"a number in letters": strings.Replace(encoded, `60`, `"60"`, 1),
		"a number otherwise":  strings.Replace(encoded, `60`, `6e1`, 1),
		"null":                "null",
		"nothing":             "",
		"a list":              "[]",
		"invalid UTF-8":       strings.Replace(encoded, "stop", "st\xffp", 1),
		"half":                encoded[:len(encoded)/2],
	} {
		if got, err := ceremony.Decode[ceremony.Definition]([]byte(text), 1000); !errors.Is(err, ceremony.ErrDocument) || got != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

var purposes = []ceremony.Purpose{ceremony.ByOfficer, ceremony.OfOpening, ceremony.OfRecord, ceremony.OfIdentity}

// A signature is of one key, over one document, for one purpose.
func TestSignaturesAreForOnePurpose(t *testing.T) {
	document := []byte(`{"a":1}`)
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key, other := must(ecdsa.GenerateKey(curve, rand.Reader)), must(ecdsa.GenerateKey(curve, rand.Reader))
		for _, signed := range purposes {
			signature := must(ceremony.Sign(key, signed, document))
			for _, verified := range purposes {
				err := ceremony.Verify(&key.PublicKey, verified, document, signature)
				if (err == nil) != (signed == verified) || err != nil && !errors.Is(err, ceremony.ErrSignature) {
					t.Errorf("%s as %s: %v", signed, verified, err)
				}
			}
			for name, err := range map[string]error{
				"another key":      ceremony.Verify(&other.PublicKey, signed, document, signature),
				"another document": ceremony.Verify(&key.PublicKey, signed, append(bytes.Clone(document), ' '), signature),
				"no signature":     ceremony.Verify(&key.PublicKey, signed, document, nil),
				"half of it":       ceremony.Verify(&key.PublicKey, signed, document, signature[:len(signature)/2]),
			} {
				if !errors.Is(err, ceremony.ErrSignature) {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		// The purpose and what is signed cannot be moved into each other.
		moved := append([]byte(string(ceremony.OfRecord)+"\x00"), document...)
		signature := must(ceremony.Sign(key, "", moved))
		if ceremony.Verify(&key.PublicKey, ceremony.OfRecord, document, signature) == nil {
			t.Error("a signature without a purpose is one with it")
		}
	}
}

// Only ECDSA keys on three curves sign, each in one encoding.
func TestKeysThatDoNotSign(t *testing.T) {
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	p224 := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	for _, signer := range []crypto.Signer{rsaKey, p224} {
		if _, err := ceremony.Sign(signer, ceremony.ByOfficer, nil); !errors.Is(err, ceremony.ErrKeyKind) {
			t.Errorf("%T signs: %v", signer, err)
		}
		if _, err := ceremony.ParseKey(must(x509.MarshalPKIXPublicKey(signer.Public()))); !errors.Is(err, ceremony.ErrKeyKind) {
			t.Errorf("%T is parsed: %v", signer, err)
		}
	}
	if err := ceremony.Verify(&p224.PublicKey, ceremony.ByOfficer, nil, nil); !errors.Is(err, ceremony.ErrSignature) {
		t.Error(err)
	}
	if _, err := ceremony.KeyFingerprint(nil); !errors.Is(err, ceremony.ErrKeyKind) {
		t.Error(err)
	}
}

func TestFingerprintsAreWrittenInGroups(t *testing.T) {
	if got := ceremony.FormatFingerprint("0a1b2c3d4e5f6a7b8"); got != "0A1B 2C3D 4E5F 6A7B 8" {
		t.Error(got)
	}
	if got := ceremony.FormatFingerprint(""); got != "" {
		t.Errorf("%q", got)
	}
	if got := strings.ReplaceAll(ceremony.FormatFingerprint(ceremony.Digest(nil)), " ", ""); got != strings.ToUpper(ceremony.Digest(nil)) {
		t.Error(got)
	}
}

// A sealed component opens with the ceremony's key, in the place for which it was sealed, and
// in no other.
func TestComponentsOpenInOnePlace(t *testing.T) {
	p := loading()
	component := []byte("0123456789abcdef")
	sealed := must(ceremony.SealComponent(p.opening, p.digest, "alice", 1, component))
	if bytes.Contains(sealed, component) || len(sealed) > ceremony.MaxSealedComponent {
		t.Errorf("sealed as %x", sealed)
	}
	got, err := ceremony.OpenComponent(p.agrees, p.digest, "alice", 1, sealed)
	if err != nil || !bytes.Equal(got, component) {
		t.Fatal(err)
	}
	altered := bytes.Clone(sealed)
	altered[len(altered)-1] ^= 1
	for name, c := range map[string]struct {
		digest, officer string
		index           int
		sealed          []byte
	}{
		"another ceremony": {ceremony.Digest(nil), "alice", 1, sealed}, "another officer": {p.digest, "bob", 1, sealed}, "another index": {p.digest, "alice", 2, sealed},
		"index and officer moved": {p.digest, "alice\x001", 0, sealed}, "altered": {p.digest, "alice", 1, altered}, "cut": {p.digest, "alice", 1, sealed[:20]}, "nothing": {p.digest, "alice", 1, nil},
	} {
		if got, err := ceremony.OpenComponent(p.agrees, c.digest, c.officer, c.index, c.sealed); !errors.Is(err, ceremony.ErrSealed) || got != nil {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	o := *p.opening
	for _, key := range [][]byte{nil, {4}, make([]byte, 133)} {
		o.Key = key
		if _, err := ceremony.SealComponent(&o, p.digest, "alice", 1, component); err == nil {
			t.Errorf("sealed to %x", key)
		}
	}
}
