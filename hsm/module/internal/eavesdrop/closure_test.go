package eavesdrop

import (
	"crypto/aes"
	"crypto/des"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// heard is what follows from calls that are written as the recorder writes them.
func heard(t *testing.T, lines ...string) *Wire {
	t.Helper()
	path := filepath.Join(t.TempDir(), "record")
	var text strings.Builder
	for _, l := range lines {
		name, rest, _ := strings.Cut(l, " ")
		text.WriteString(name + " rv=0 session=1 " + rest + "\n")
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return Listen(t, &Recording{path: path})
}

func ulong(n uint64) string { return hex.EncodeToString(binary.NativeEndian.AppendUint64(nil, n)) }

func size(n uint64) string { return "template=161:" + ulong(n) }

const clearField = "041274edcba9876f" // of PIN 1234 with account digits

func enciphered(t *testing.T, aesKey bool, key, plain string) string {
	t.Helper()
	k, p := unhex(t, key), unhex(t, plain)
	if aesKey {
		c, err := aes.NewCipher(k)
		if err != nil {
			t.Fatal(err)
		}
		c.Encrypt(p, p)
	} else {
		c, err := des.NewTripleDESCipher(append(slices.Clone(k), k[:8]...))
		if err != nil {
			t.Fatal(err)
		}
		c.Encrypt(p, p)
	}
	return hex.EncodeToString(p)
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const aesKey, tdesKey = "00112233445566778899aabbccddeeff", "0123456789abcdeffedcba9876543210"

// TestPlanted: whatever lets somebody compute a clear PIN field is found, by every way that there is, and
// only then.
func TestPlanted(t *testing.T) {
	own, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := own.ECDH(peer.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	point := "0441" + hex.EncodeToString(peer.PublicKey().Bytes())
	padded := clearField + "0000000000000000"
	wrapped := func(key string) string {
		return "C_WrapKey mechanism=1081 key=7 object=a out=" + enciphered(t, true, key, padded)
	}
	extracted := "C_DeriveKey mechanism=365 parameter=" + ulong(0) + " key=9 " + size(8) + " object=a" // a secret of 8 bytes, of something unknown
	imported := "C_CreateObject template=11:" + aesKey + " object=7"
	image := enciphered(t, true, aesKey, "000102030405060708090a0b0c0d0e0f")
	for name, c := range map[string]struct {
		lines []string
		found bool
	}{
		"nothing":                                {[]string{extracted, wrapped(aesKey)}, false},
		"deciphered in the clear":                {[]string{"C_DecryptInit mechanism=132 key=7", "C_Decrypt in=1122334455667788 out=" + clearField}, true},
		"enciphered in the clear":                {[]string{"C_Encrypt in=" + clearField + " out=1122334455667788"}, true},
		"in another value, at half a byte":       {[]string{"C_Encrypt in=aabbc" + clearField + "dee out=112233445566778899aabb"}, true},
		"a value that was read":                  {[]string{extracted, "C_GetAttributeValue object=a out=11:" + clearField}, true},
		"a transit key that was imported":        {[]string{imported, extracted, wrapped(aesKey)}, true},
		"one imported afterwards, of that value": {[]string{extracted, wrapped(aesKey), imported}, false},
		"another key that was imported":          {[]string{"C_CreateObject template=11:" + aesKey + " object=8", extracted, wrapped(aesKey)}, false},
		"unwrapped under a known key": {[]string{"C_CreateObject template=11:" + tdesKey + " object=7",
			"C_UnwrapKey mechanism=132 key=7 in=" + enciphered(t, false, tdesKey, clearField) + " template=0: object=a"}, true},
		"combined with data, known": {[]string{imported, extracted,
			"C_DeriveKey mechanism=364 data=ffffffffffffffff key=a template=0: object=b",
			"C_WrapKey mechanism=1081 key=7 object=b out=" + enciphered(t, true, aesKey, xorHex(clearField, "ffffffffffffffff")+"0000000000000000")}, true},
		"in two parts": {[]string{imported, extracted,
			"C_DeriveKey mechanism=365 parameter=" + ulong(0) + " key=a " + size(5) + " object=b", "C_DeriveKey mechanism=365 parameter=" + ulong(32) + " key=a " + size(4) + " object=c",
			"C_WrapKey mechanism=1081 key=7 object=b out=" + enciphered(t, true, aesKey, clearField[:10]+"0000000000000000000000"),
			"C_WrapKey mechanism=1081 key=7 object=c out=" + enciphered(t, true, aesKey, clearField[8:]+"000000000000000000000000")}, true},
		"in one part of two": {[]string{imported, extracted,
			"C_DeriveKey mechanism=365 parameter=" + ulong(0) + " key=a " + size(5) + " object=b",
			"C_WrapKey mechanism=1081 key=7 object=b out=" + enciphered(t, true, aesKey, clearField[:10]+"0000000000000000000000")}, false},
		"behind and before data": {[]string{imported, extracted,
			"C_DeriveKey mechanism=362 data=aabb key=a template=0: object=b", "C_DeriveKey mechanism=363 data=ccdd key=b template=0: object=c",
			"C_WrapKey mechanism=1081 key=7 object=c out=" + enciphered(t, true, aesKey, "ccdd"+clearField+"aabb00000000")}, true},
		"joined with another": {[]string{imported, extracted,
			"C_DeriveKey mechanism=360 parameter=" + ulong(0xa) + " key=a template=0: object=c",
			"C_WrapKey mechanism=1081 key=7 object=c out=" + enciphered(t, true, aesKey, clearField+clearField)}, true},
		"seen under the same key before": {[]string{extracted, wrapped(aesKey),
			"C_EncryptInit mechanism=1081 key=7", "C_Encrypt in=" + padded + " out=" + enciphered(t, true, aesKey, padded)}, true},
		"agreed on with a key that was imported": {[]string{
			"C_CreateObject template=11:" + hex.EncodeToString(own.Bytes()) + " object=5",
			"C_DeriveKey mechanism=1050 kdf=1 data=" + point + " key=5 " + size(32) + " object=7", extracted, wrapped(hex.EncodeToString(shared))}, true},
		"agreed on": {[]string{
			"C_DeriveKey mechanism=1050 kdf=1 data=" + point + " key=5 " + size(32) + " object=7", extracted, wrapped(hex.EncodeToString(shared))}, false},
		"a transit key derived from a known one": {[]string{"C_CreateObject template=11:" + aesKey + " object=5",
			"C_DeriveKey mechanism=1104 data=000102030405060708090a0b0c0d0e0f key=5 " + size(16) + " object=7", extracted, wrapped(image)}, true},
		"a transit key made of known parts": {[]string{"C_CreateObject template=11:" + aesKey[:16] + " object=5",
			"C_DeriveKey mechanism=362 data=" + aesKey[16:] + " key=5 template=0: object=7", extracted, wrapped(aesKey)}, true},
		"under a handle that was another's": {[]string{imported, "C_DestroyObject object=7", "C_DeriveKey mechanism=365 parameter=" + ulong(0) + " key=9 " + size(16) + " object=7", extracted, wrapped(aesKey)}, false},
	} {
		found, problems := heard(t, c.lines...).Find([]Secret{{Kind: "clear PIN field", What: "the plant", Digits: clearField}})
		switch {
		case len(problems) != 0:
			t.Errorf("%s: %v", name, problems)
		case c.found && (len(found) == 0 || strings.Contains(found[0].String(), clearField)), !c.found && len(found) != 0:
			t.Errorf("%s: %v", name, found)
		}
	}
}

// TestFewBitsOfAKey: an image tells a key of which few bits are unknown, when the image is seen.
func TestFewBitsOfAKey(t *testing.T) {
	key := strings.Repeat("0", 31) + "7"
	image := enciphered(t, true, key, strings.Repeat("3", 32))
	lines := []string{
		"C_DeriveKey mechanism=365 parameter=" + ulong(0) + " key=9 " + size(1) + " object=a", // a byte of something
		"C_DeriveKey mechanism=363 data=" + strings.Repeat("0", 32) + " key=a template=0: object=b",
		"C_DeriveKey mechanism=365 parameter=" + ulong(4) + " key=b " + size(16) + " object=c", // 31 zeros and its first digit
		"C_DeriveKey mechanism=1104 data=" + strings.Repeat("3", 32) + " key=c " + size(1) + " object=d",
		"C_WrapKey mechanism=1081 key=6 object=a out=" + strings.Repeat("5", 32), // so that it can be asked for
	}
	if w := heard(t, lines...); !slices.Equal(w.Known(unhex(t, strings.Repeat("5", 32))), []string{".."}) {
		t.Errorf("%q of an image that nobody saw", w.Known(unhex(t, strings.Repeat("5", 32))))
	}
	w := heard(t, append(lines, "C_GetAttributeValue object=d out=11:"+image[:2])...)
	if got := w.Known(unhex(t, strings.Repeat("5", 32))); !slices.Equal(got, []string{"7."}) {
		t.Errorf("%q of the byte, want 7.", got)
	}
}

// TestAssumed: what somebody knows beforehand of a block leads to no more, unless the calls let it.
func TestAssumed(t *testing.T) {
	unwrapped := "C_UnwrapKey mechanism=132 key=7 in=1122334455667788 template=0: object=a"
	text := unhex(t, "1122334455667788")
	w := heard(t, unwrapped)
	if !w.Assume(text, FieldPattern(0, 4, "4012345678909")) || w.Assume(unhex(t, "1122334455667789"), "") {
		t.Error("what is unwrapped is not found, or what is not is")
	}
	if got := w.Known(text); !slices.Equal(got, []string{"04....edcba9876f"}) {
		t.Errorf("%q", got)
	}
	if n := w.Followed(text, FieldPattern(0, 4, "4012345678909")); n != 0 {
		t.Errorf("%d bits of the PIN follow", n)
	}
	shown := heard(t, unwrapped, "C_DeriveKey mechanism=365 parameter="+ulong(8)+" key=a "+size(2)+" object=b", "C_GetAttributeValue object=b out=11:1274")
	shown.Assume(text, FieldPattern(0, 4, "4012345678909"))
	if got := shown.Known(text); !slices.Equal(got, []string{clearField}) || shown.Followed(text, FieldPattern(0, 4, "4012345678909")) != 16 {
		t.Errorf("%q", got)
	}
}

// TestWhatCannotBeComputedIsSaid: nothing passes because this package does not know it.
func TestWhatCannotBeComputedIsSaid(t *testing.T) {
	for name, lines := range map[string][]string{
		"a derivation":             {"C_DeriveKey mechanism=393 key=9 template=0: object=a"},
		"a wrap under a known key": {"C_CreateObject template=11:" + aesKey + " object=7", "C_WrapKey mechanism=1082 key=7 object=a out=" + aesKey},
		"another key derivation":   {"C_DeriveKey mechanism=1050 kdf=2 data=04 key=9 template=0: object=a"},
		"a token that computes otherwise": {"C_CreateObject template=11:aabb object=7", "C_DeriveKey mechanism=364 data=ffff key=7 template=0: object=a",
			"C_GetAttributeValue object=a out=11:5545"},
	} {
		if _, problems := heard(t, lines...).Find(nil); len(problems) == 0 {
			t.Errorf("%s: nothing is said", name)
		}
	}
	if _, _, err := (&Recording{path: record(t, "refused rv=54 session=0\n")}).calls(); err == nil {
		t.Error("a call that was refused passes")
	}
	if _, _, err := (&Recording{path: record(t, "C_Decrypt rv=0 session=1 in=11")}).calls(); err == nil {
		t.Error("a line that was cut passes")
	}
}

func record(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "record")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestChance: short secrets are judged against as likely ones, so that neither chance fails nor a leak passes.
func TestChance(t *testing.T) {
	random := anyRandom(t)
	for name, leaks := range map[string]bool{"chance": false, "leak": true} {
		var lines []string
		var secrets []Secret
		for i := range 500 {
			pin := anyPIN(random, 4)
			secrets = append(secrets, PINSecrets(random, fmt.Sprint(i), pin, "4012345678909")[0])
			secrets[i].From, secrets[i].To = i+1, i+1
			block := make([]byte, 64)
			for j := range block {
				block[j] = byte(random.Uint32())
			}
			text := hex.EncodeToString(block)
			if leaks && i%10 == 0 {
				text = text[:31] + pin + text[35:]
			}
			lines = append(lines, "C_GenerateRandom out="+text)
		}
		found, problems := heard(t, lines...).Find(secrets)
		if len(problems) != 0 || len(found) != 0 != leaks {
			t.Errorf("%s: %v, %v", name, found, problems)
		}
	}
}
