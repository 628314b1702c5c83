package voidtoken_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"keyd/voidtoken"
)

// someVoid is the void of the package comment.
var someVoid = voidtoken.Fields{
	Void: "00112233445566778899aabbccddeeff", Merchant: "merchant-8", Terminal: "t-1", Reference: "112700123456", Amount: 12345, Currency: voidtoken.CNY,
}

// The bytes of the package comment are those of the void above, put together here once more by
// hand, and the digest is theirs.
func TestDigestOfThePackageComment(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var written []byte
	for _, line := range regexp.MustCompile(`(?m)^//\tbytes  ([0-9a-f ]+)$`).FindAllSubmatch(text, -1) {
		b, err := hex.DecodeString(strings.ReplaceAll(string(line[1]), " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		written = append(written, b...)
	}
	byHand := []byte("keyd void 1\x00\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff\x0amerchant-8\x03t-1\x0c112700123456\x00\x00\x00\x00\x00\x00\x30\x39\x00\x9c")
	if !bytes.Equal(written, byHand) {
		t.Errorf("the comment has\n%x\nfor\n%x", written, byHand)
	}
	digest, err := someVoid.Digest()
	if err != nil || digest != sha256.Sum256(byHand) {
		t.Errorf("digest %x, %v", digest, err)
	}
	if line := "//\tdigest " + hex.EncodeToString(digest[:]) + "\n"; !strings.Contains(string(text), line) {
		t.Errorf("the comment lacks %q", line)
	}
}

func drawName(t *rapid.T, what string) string {
	return rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,63}`).Draw(t, what)
}

func drawFields(t *rapid.T) voidtoken.Fields {
	return voidtoken.Fields{
		Void:     hex.EncodeToString(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "void")),
		Merchant: drawName(t, "merchant"), Terminal: drawName(t, "terminal"), Reference: drawName(t, "reference"),
		Amount: rapid.Int64Min(1).Draw(t, "amount"), Currency: rapid.SampledFrom([]voidtoken.Currency{36, 156, 392, 840, 978}).Draw(t, "currency"),
	}
}

// unpack reads the binary form as the package comment has it, and knows nothing of how it is made.
func unpack(b []byte) (f voidtoken.Fields, rest []byte) {
	f.Void, b = hex.EncodeToString(b[12:28]), b[28:]
	for _, to := range []*string{&f.Merchant, &f.Terminal, &f.Reference} {
		*to, b = string(b[1:1+b[0]]), b[1+b[0]:]
	}
	f.Amount, f.Currency = int64(binary.BigEndian.Uint64(b)), voidtoken.Currency(binary.BigEndian.Uint16(b[8:]))
	return f, b[10:]
}

// The encoding is unambiguous: the fields follow from it, whatever they are.
func TestDigestIsOverEveryField(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := drawFields(t)
		b, err := voidtoken.Binary(&f)
		if err != nil {
			t.Fatal(err)
		}
		if again, rest := unpack(b); again != f || len(rest) > 0 || string(b[:12]) != "keyd void 1\x00" {
			t.Fatalf("%+v became %+v and %x", f, again, rest)
		}
		digest, err := f.Digest()
		if err != nil || digest != sha256.Sum256(b) {
			t.Fatalf("%x, %v", digest, err)
		}
	})
}

func TestFieldsThatNoVoidHas(t *testing.T) {
	for what, change := range map[string]func(*voidtoken.Fields){
		"void":      func(f *voidtoken.Fields) { f.Void = strings.ToUpper(f.Void) },
		"void ":     func(f *voidtoken.Fields) { f.Void = f.Void[2:] },
		"merchant":  func(f *voidtoken.Fields) { f.Merchant = "" },
		"merchant ": func(f *voidtoken.Fields) { f.Merchant = strings.Repeat("m", 65) },
		"terminal":  func(f *voidtoken.Fields) { f.Terminal = "t 1" },
		"terminal ": func(f *voidtoken.Fields) { f.Terminal = "-t" },
		"reference": func(f *voidtoken.Fields) { f.Reference = "1127\n" },
		"amount":    func(f *voidtoken.Fields) { f.Amount = 0 },
		"amount ":   func(f *voidtoken.Fields) { f.Amount = -1 },
		"currency":  func(f *voidtoken.Fields) { f.Currency = 0 },
		"currency ": func(f *voidtoken.Fields) { f.Currency = 959 }, // gold
	} {
		f := someVoid
		change(&f)
		if err := f.Validate(); !errors.Is(err, voidtoken.ErrFields) || !strings.Contains(err.Error(), ": "+strings.TrimSpace(what)+" ") {
			t.Errorf("%s: %v", what, err)
		}
		if digest, err := f.Digest(); !errors.Is(err, voidtoken.ErrFields) || digest != [32]byte{} {
			t.Errorf("%s: digest %x, %v", what, digest, err)
		}
	}
}

func TestSubjects(t *testing.T) {
	for _, s := range []string{"supervisor-2", "merchant-8.supervisor-2", "A", "cardholder.MFRGGZDFMZTWQ2LKNNWG23TPOA", "s12345678901"} {
		if !voidtoken.ValidSubject(s) {
			t.Errorf("%q is refused", s)
		}
	}
	for _, s := range []string{
		"", "123456", "888888", "4564320000980369", "pan4564320000980369", "pan.4564-3200-0098-0369", "c_4564_3200_0098_0369", "s123456789012", "s 1", "s\x00", "ü", "a/b",
		strings.Repeat("s", 65), "-s", "s1234567890123456789",
	} {
		if voidtoken.ValidSubject(s) {
			t.Errorf("%q can stand for a person", s)
		}
	}
}
