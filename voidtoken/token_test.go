package voidtoken_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"keyd/ceremony"
	"keyd/voidtoken"
)

const purpose ceremony.Purpose = "keyd void token 1"

var (
	authorizedAt = time.Unix(1795791600, 0)
	someToken    = voidtoken.Token{
		Fields:         someVoid,
		Authorizations: []voidtoken.Authorization{{Method: voidtoken.SupervisorPIN, Subject: "merchant-8.supervisor-2"}},
		AuthorizedAt:   authorizedAt.Unix(), ExpiresAt: authorizedAt.Add(5 * time.Minute).Unix(),
	}
	expected = voidtoken.Expected{
		Fields: someVoid, Methods: [][]voidtoken.Method{{voidtoken.CardholderPIN, voidtoken.SupervisorPIN}, {voidtoken.SupervisorPIN}},
	}
)

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keysOf(t testing.TB, list ...*ecdsa.PrivateKey) voidtoken.Keys {
	t.Helper()
	var public []*ecdsa.PublicKey
	for _, key := range list {
		public = append(public, &key.PublicKey)
	}
	keys, err := voidtoken.NewKeys(public...)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func sign(t testing.TB, key crypto.Signer, token voidtoken.Token) string {
	t.Helper()
	text, err := voidtoken.Sign(key, token)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTokens(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		key, other := newKey(t, curve), newKey(t, elliptic.P256())
		text := sign(t, key, someToken)
		got, err := voidtoken.Verify(text, keysOf(t, other, key), expected, authorizedAt)
		if err != nil {
			t.Fatal(err)
		}
		want := someToken
		want.Key, err = voidtoken.KeyID(&key.PublicKey)
		if err != nil || got.Fields != want.Fields || got.Key != want.Key || got.AuthorizedAt != want.AuthorizedAt || got.ExpiresAt != want.ExpiresAt || !slices.Equal(got.Authorizations, want.Authorizations) {
			t.Errorf("%+v, %v", got, err)
		}
		if fingerprint, err := ceremony.KeyFingerprint(&key.PublicKey); err != nil || fingerprint != got.Key {
			t.Errorf("officers compare %s, a token has %s, %v", fingerprint, got.Key, err)
		}
		if token, err := voidtoken.Verify(text, keysOf(t, other), expected, authorizedAt); !errors.Is(err, voidtoken.ErrKey) || token != nil {
			t.Errorf("by a stranger: %v", err)
		}
	}
}

// A token that was signed once, kept as text: its format does not change unnoticed.
func TestKnownToken(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "token.txt"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile(filepath.Join("testdata", "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := voidtoken.ParseKeys(public)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := voidtoken.Verify(strings.TrimSpace(string(text)), keys, expected, authorizedAt); err != nil {
		t.Error(err)
	}
}

// Every difference is refused, each with an error of its own, and nothing of the token is
// returned.
func TestDifferences(t *testing.T) {
	key := newKey(t, elliptic.P256())
	text, keys := sign(t, key, someToken), keysOf(t, key)
	for _, c := range []struct {
		want   error
		change func(*voidtoken.Expected)
	}{
		{voidtoken.ErrVoid, func(e *voidtoken.Expected) { e.Void = "ff112233445566778899aabbccddeeff" }},
		{voidtoken.ErrMerchant, func(e *voidtoken.Expected) { e.Merchant = "merchant-9" }},
		{voidtoken.ErrMerchant, func(e *voidtoken.Expected) { e.Merchant = "Merchant-8" }},
		{voidtoken.ErrTerminal, func(e *voidtoken.Expected) { e.Terminal = "t-2" }},
		{voidtoken.ErrReference, func(e *voidtoken.Expected) { e.Reference = "112700123457" }},
		{voidtoken.ErrAmount, func(e *voidtoken.Expected) { e.Amount++ }},
		{voidtoken.ErrCurrency, func(e *voidtoken.Expected) { e.Currency = 344 }},
		{voidtoken.ErrMethods, func(e *voidtoken.Expected) { e.Methods = [][]voidtoken.Method{{voidtoken.CardholderPIN}} }},
		{voidtoken.ErrMethods, func(e *voidtoken.Expected) {
			e.Methods = [][]voidtoken.Method{{voidtoken.SupervisorPIN, voidtoken.CardholderPIN}}
		}},
	} {
		e := expected
		c.change(&e)
		if token, err := voidtoken.Verify(text, keys, e, authorizedAt); err != c.want || token != nil { //nolint:errorlint // each has its own
			t.Errorf("%v, want %v", err, c.want)
		}
	}
	both := someToken
	both.Authorizations = append(slices.Clone(both.Authorizations), voidtoken.Authorization{Method: voidtoken.CardholderPIN, Subject: "cardholder"})
	if _, err := voidtoken.Verify(sign(t, key, both), keys, expected, authorizedAt); err != nil {
		t.Errorf("both methods, in whatever order: %v", err)
	}
	one := expected
	one.Methods = one.Methods[1:]
	if _, err := voidtoken.Verify(sign(t, key, both), keys, one, authorizedAt); !errors.Is(err, voidtoken.ErrMethods) {
		t.Errorf("one method more: %v", err)
	}
}

// What is not expected is no wildcard.
func TestMissingExpectations(t *testing.T) {
	key := newKey(t, elliptic.P256())
	text, keys := sign(t, key, someToken), keysOf(t, key)
	refused := func(what string, keys voidtoken.Keys, e voidtoken.Expected, now time.Time) {
		t.Helper()
		if token, err := voidtoken.Verify(text, keys, e, now); !errors.Is(err, voidtoken.ErrExpectation) || token != nil || !strings.Contains(err.Error(), strings.TrimSpace(what)) {
			t.Errorf("without %s: %v", what, err)
		}
	}
	for what, change := range map[string]func(*voidtoken.Expected){
		"void": func(e *voidtoken.Expected) { e.Void = "" }, "merchant": func(e *voidtoken.Expected) { e.Merchant = "" },
		"terminal": func(e *voidtoken.Expected) { e.Terminal = "" }, "reference": func(e *voidtoken.Expected) { e.Reference = "" },
		"amount": func(e *voidtoken.Expected) { e.Amount = 0 }, "currency": func(e *voidtoken.Expected) { e.Currency = 0 },
		"methods": func(e *voidtoken.Expected) { e.Methods = nil }, "methods ": func(e *voidtoken.Expected) { e.Methods = [][]voidtoken.Method{{}} },
		"methods  ":  func(e *voidtoken.Expected) { e.Methods = [][]voidtoken.Method{{"PIN"}} },
		"methods   ": func(e *voidtoken.Expected) { e.Methods = [][]voidtoken.Method{{"SUPERVISOR_PIN", "SUPERVISOR_PIN"}} },
	} {
		e := expected
		change(&e)
		refused(what, keys, e, authorizedAt)
	}
	refused("time", keys, expected, time.Time{})
	refused("keys", voidtoken.Keys{}, expected, authorizedAt)
	refused("void", keys, voidtoken.Expected{}, authorizedAt)
}

func TestTimes(t *testing.T) {
	key := newKey(t, elliptic.P256())
	text, keys := sign(t, key, someToken), keysOf(t, key)
	for after, want := range map[time.Duration]error{
		-voidtoken.Ahead - time.Second: voidtoken.ErrNotYet, -voidtoken.Ahead: nil, 0: nil, 5*time.Minute - time.Nanosecond: nil,
		5 * time.Minute: voidtoken.ErrExpired, 1000 * time.Hour: voidtoken.ErrExpired, -1000 * time.Hour: voidtoken.ErrNotYet,
	} {
		if _, err := voidtoken.Verify(text, keys, expected, authorizedAt.Add(after)); !errors.Is(err, want) {
			t.Errorf("%s after: %v, want %v", after, err, want)
		}
	}
}

func TestTokensThatAreNotSigned(t *testing.T) {
	key := newKey(t, elliptic.P256())
	for what, change := range map[string]func(*voidtoken.Token){
		"no merchant": func(k *voidtoken.Token) { k.Merchant = "" }, "no amount": func(k *voidtoken.Token) { k.Amount = 0 },
		"nobody": func(k *voidtoken.Token) { k.Authorizations = nil },
		"an unknown method": func(k *voidtoken.Token) {
			k.Authorizations = []voidtoken.Authorization{{Method: "TELEPHONE", Subject: "s"}}
		},
		"a PIN": func(k *voidtoken.Token) {
			k.Authorizations = []voidtoken.Authorization{{Method: voidtoken.SupervisorPIN, Subject: "123456"}}
		},
		"a PAN": func(k *voidtoken.Token) {
			k.Authorizations = []voidtoken.Authorization{{Method: voidtoken.CardholderPIN, Subject: "4564320000980369"}}
		},
		"one method twice": func(k *voidtoken.Token) {
			k.Authorizations = []voidtoken.Authorization{{Method: voidtoken.SupervisorPIN, Subject: "s"}, {Method: voidtoken.SupervisorPIN, Subject: "t"}}
		},
		"one person twice": func(k *voidtoken.Token) {
			k.Authorizations = []voidtoken.Authorization{{Method: voidtoken.SupervisorPIN, Subject: "s"}, {Method: voidtoken.RemoteApproval, Subject: "s"}}
		},
		"another order": func(k *voidtoken.Token) {
			k.Authorizations = []voidtoken.Authorization{{Method: voidtoken.CardholderPIN, Subject: "s"}, {Method: voidtoken.SupervisorPIN, Subject: "t"}}
		},
		"no time": func(k *voidtoken.Token) { k.AuthorizedAt = 0 }, "no life": func(k *voidtoken.Token) { k.ExpiresAt = k.AuthorizedAt },
		"a long life":     func(k *voidtoken.Token) { k.ExpiresAt = k.AuthorizedAt + 24*3600 + 1 },
		"an endless life": func(k *voidtoken.Token) { k.AuthorizedAt, k.ExpiresAt = 1, 1<<63-1 },
	} {
		k := someToken
		change(&k)
		if text, err := voidtoken.Sign(key, k); !errors.Is(err, voidtoken.ErrToken) || text != "" {
			t.Errorf("%s: %q, %v", what, text, err)
		}
	}
	wide, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for what, signer := range map[string]crypto.Signer{"P-521": newKey(t, elliptic.P521()), "P-224": newKey(t, elliptic.P224()), "RSA": wide} {
		if text, err := voidtoken.Sign(signer, someToken); !errors.Is(err, voidtoken.ErrKeys) || text != "" {
			t.Errorf("%s: %q, %v", what, text, err)
		}
	}
}

// faulty is a token whose signature has a bit wrong, as after a fault; broken has none.
type faulty struct{ *ecdsa.PrivateKey }

func (f faulty) Sign(random io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	other := slices.Clone(digest)
	other[0] ^= 1
	return f.PrivateKey.Sign(random, other, o)
}

type broken struct{ *ecdsa.PrivateKey }

var errBroken = errors.New("broken")

func (broken) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errBroken }

func TestFaultySigners(t *testing.T) {
	key := newKey(t, elliptic.P256())
	if text, err := voidtoken.Sign(faulty{key}, someToken); err == nil || text != "" {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := voidtoken.Sign(broken{key}, someToken); !errors.Is(err, errBroken) || text != "" {
		t.Errorf("%q, %v", text, err)
	}
}

// A token is signed as every document of keyd is (package ceremony), for a purpose of its own.
func TestTokensAreApart(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		key := newKey(t, curve)
		_, encoded, signature, err := voidtoken.Parse(sign(t, key, someToken))
		if err != nil {
			t.Fatal(err)
		}
		if err := ceremony.Verify(&key.PublicKey, purpose, encoded, signature); err != nil {
			t.Errorf("%s: %v", curve.Params().Name, err)
		}
		for _, other := range []ceremony.Purpose{ceremony.ByOfficer, ceremony.OfOpening, ceremony.OfRecord, ceremony.OfIdentity, ceremony.OfBackup, ceremony.OfInjection, "keyd void 1", ""} {
			signature, err := ceremony.Sign(key, other, encoded)
			if err != nil {
				t.Fatal(err)
			}
			text := base64.RawURLEncoding.EncodeToString(encoded) + "." + base64.RawURLEncoding.EncodeToString(signature)
			if _, err := voidtoken.Verify(text, keysOf(t, key), expected, authorizedAt); !errors.Is(err, voidtoken.ErrSignature) {
				t.Errorf("%q: %v", other, err)
			}
		}
		signature, err = ceremony.Sign(key, purpose, encoded)
		if err != nil {
			t.Fatal(err)
		}
		text := base64.RawURLEncoding.EncodeToString(encoded) + "." + base64.RawURLEncoding.EncodeToString(signature)
		if _, err := voidtoken.Verify(text, keysOf(t, key), expected, authorizedAt); err != nil {
			t.Error(err)
		}
	}
}

// A token's text has one form, but for the signature: s and n-s are both good (FIPS 186-5), and
// therefore the void's identifier counts, as the package comment says.
func TestOneForm(t *testing.T) {
	key := newKey(t, elliptic.P256())
	text, keys := sign(t, key, someToken), keysOf(t, key)
	first, second, _ := strings.Cut(text, ".")
	encoded, err := base64.RawURLEncoding.DecodeString(first)
	if err != nil {
		t.Fatal(err)
	}
	json := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) + "." + second }
	whole := string(encoded)
	for what, text := range map[string]string{
		"nothing": "", "a point": ".", "no signature": first, "an empty signature": first + ".", "an empty document": "." + second, "three parts": text + "." + second,
		"a line feed": text + "\n", "line feeds inside": first[:8] + "\n" + first[8:] + "." + second, "a carriage return": first + "\r." + second, "a space": " " + text,
		"padding": first + "=." + second, "other letters": strings.Replace(base64.StdEncoding.EncodeToString(encoded), "=", "", -1) + "+." + second,
		"too long": text + strings.Repeat("A", voidtoken.MaxToken), "JSON itself": whole + "." + second,
		"spaces": json(strings.Replace(whole, ",", ", ", 1)), "a space behind": json(whole + " "), "a second document": json(whole + "{}"),
		"another member":     json(strings.Replace(whole, "{", `{"admin":true,`, 1)),
		"a member twice":     json(strings.Replace(whole, `"amount":12345`, `"amount":1,"amount":12345`, 1)),
		"another case":       json(strings.Replace(whole, `"amount"`, `"Amount"`, 1)),
		"a fraction":         json(strings.Replace(whole, ":12345", ":12345.0", 1)),
		"an exponent":        json(strings.Replace(whole, ":12345", ":12345e0", 1)),
		"an amount as text":  json(strings.Replace(whole, ":12345", `:"12345"`, 1)),
		"a large amount":     json(strings.Replace(whole, ":12345", ":9223372036854775808", 1)),
		"a large currency":   json(strings.Replace(whole, "156", "65692", 1)), // 156 + 65536
		"an escape":          json(strings.Replace(whole, "merchant-8", `merchant\u002d8`, 1)),
		"null":               json("null"),
		"a list":             json("[]"),
		"a method as number": json(strings.Replace(whole, `"SUPERVISOR_PIN"`, "1", 1)),
	} {
		if token, err := voidtoken.Verify(text, keys, expected, authorizedAt); !errors.Is(err, voidtoken.ErrToken) || token != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, _, signature, err := voidtoken.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for what, wrong := range map[string][]byte{"cut": signature[:len(signature)-1], "longer": append(slices.Clone(signature), 0), "zeros": make([]byte, 64), "no integers": {0x30, 0}} {
		text := first + "." + base64.RawURLEncoding.EncodeToString(wrong)
		if token, err := voidtoken.Verify(text, keys, expected, authorizedAt); !errors.Is(err, voidtoken.ErrSignature) || token != nil {
			t.Errorf("a signature that is %s: %v", what, err)
		}
	}
	// The other s of the same signature.
	r := new(big.Int).SetBytes(signature[4 : 4+signature[3]])
	s := new(big.Int).SetBytes(signature[6+signature[3]:])
	s.Sub(elliptic.P256().Params().N, s)
	number := func(n *big.Int) []byte {
		b := n.Bytes()
		if b[0] >= 0x80 {
			b = append([]byte{0}, b...)
		}
		return append([]byte{2, byte(len(b))}, b...)
	}
	body := append(number(r), number(s)...)
	again := first + "." + base64.RawURLEncoding.EncodeToString(append([]byte{0x30, byte(len(body))}, body...))
	token, err := voidtoken.Verify(again, keys, expected, authorizedAt)
	if err != nil || again == text || token.Void != someVoid.Void {
		t.Errorf("the other s: %v", err)
	}
}

// Every bit of a token counts.
func TestEveryBitCounts(t *testing.T) {
	key := newKey(t, elliptic.P384())
	text, keys := sign(t, key, someToken), keysOf(t, key)
	for i := range text {
		for bit := range 8 {
			changed := []byte(text)
			changed[i] ^= 1 << bit
			if token, err := voidtoken.Verify(string(changed), keys, expected, authorizedAt); err == nil || token != nil {
				t.Fatalf("byte %d, bit %d: %v", i, bit, err)
			}
		}
	}
}

func TestKeyFiles(t *testing.T) {
	block := func(public crypto.PublicKey) string {
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	first, second := newKey(t, elliptic.P256()), newKey(t, elliptic.P384())
	a, b := block(&first.PublicKey), block(&second.PublicKey)
	for what, text := range map[string]string{"two": a + b, "with white space": "\n" + b + "\n\n" + a + " \n", "of another system": strings.ReplaceAll(a+b, "\n", "\r\n")} {
		keys, err := voidtoken.ParseKeys([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		for _, key := range []*ecdsa.PrivateKey{first, second} {
			if _, err := voidtoken.Verify(sign(t, key, someToken), keys, expected, authorizedAt); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var many string
	for range voidtoken.MaxKeys + 1 {
		many += block(&newKey(t, elliptic.P256()).PublicKey)
	}
	for what, text := range map[string]string{
		"nothing": "", "text": "x", "text before": "x" + a, "text between": a + "x\n" + b, "cut": a[:len(a)-30], "a private key": strings.ReplaceAll(a, "PUBLIC", "PRIVATE"),
		"twice": a + b + a, "RSA": block(&rsaKey.PublicKey), "P-521": block(&newKey(t, elliptic.P521()).PublicKey), "a header": strings.Replace(a, "\n", "\nA: b\n\n", 1),
		"too many": many, "too long": a + strings.Repeat("\n", voidtoken.MaxKeyFile), "a broken one before": a[:60] + "\n" + b,
	} {
		if _, err := voidtoken.ParseKeys([]byte(text)); !errors.Is(err, voidtoken.ErrKeys) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := voidtoken.NewKeys(); !errors.Is(err, voidtoken.ErrKeys) {
		t.Errorf("no keys: %v", err)
	}
	if _, err := voidtoken.NewKeys(nil); !errors.Is(err, voidtoken.ErrKeys) {
		t.Errorf("a key that is none: %v", err)
	}
}

// Whatever a module may sign, a switch reads back the same, and no other expectation takes it.
func TestSignedIsVerified(t *testing.T) {
	key := newKey(t, elliptic.P256())
	keys := keysOf(t, key)
	rapid.Check(t, func(t *rapid.T) {
		token := voidtoken.Token{Fields: drawFields(t)}
		var set []voidtoken.Method
		used := rapid.IntRange(1, 1<<len(voidtoken.Methods())-1).Draw(t, "methods")
		for i, m := range voidtoken.Methods() {
			if used>>i&1 == 1 {
				set = append(set, m)
				token.Authorizations = append(token.Authorizations, voidtoken.Authorization{Method: m, Subject: "s" + strconv.Itoa(i)})
			}
		}
		token.AuthorizedAt = rapid.Int64Range(1, 1<<40).Draw(t, "at")
		life := rapid.Int64Range(1, 24*3600).Draw(t, "life")
		token.ExpiresAt = token.AuthorizedAt + life
		now := time.Unix(token.AuthorizedAt+rapid.Int64Range(0, life-1).Draw(t, "later"), 0)
		text, err := voidtoken.Sign(key, token)
		if err != nil || len(text) > voidtoken.MaxToken {
			t.Fatal(len(text), err)
		}
		got, err := voidtoken.Verify(text, keys, voidtoken.Expected{Fields: token.Fields, Methods: [][]voidtoken.Method{set}}, now)
		if err != nil || got.Fields != token.Fields || !slices.Equal(got.Authorizations, token.Authorizations) {
			t.Fatalf("%+v, %v", got, err)
		}
		if other := drawFields(t); other != token.Fields {
			if _, err := voidtoken.Verify(text, keys, voidtoken.Expected{Fields: other, Methods: [][]voidtoken.Method{set}}, now); err == nil {
				t.Fatalf("%+v is taken for %+v", token.Fields, other)
			}
		}
	})
}

// A switch takes the package as it is: it needs nothing but the standard library.
func TestStandardLibraryOnly(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imported := range parsed.Imports {
			read++
			path, err := strconv.Unquote(imported.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") || first == "keyd" || slices.Contains([]string{"net", "os", "syscall", "unsafe", "C"}, first) {
				t.Errorf("%s imports %s", file, path)
			}
		}
	}
	if read < 10 {
		t.Errorf("%d imports are none that were looked at", read)
	}
}

func FuzzParse(f *testing.F) {
	key := newKey(f, elliptic.P256())
	keys := keysOf(f, key)
	text := sign(f, key, someToken)
	first, second, _ := strings.Cut(text, ".")
	f.Add(text)
	f.Add(first + ".")
	f.Add("." + second)
	f.Add("e30.e30")
	f.Fuzz(func(t *testing.T, text string) {
		token, encoded, signature, err := voidtoken.Parse(text)
		if err != nil {
			if !errors.Is(err, voidtoken.ErrToken) || token != nil || encoded != nil || signature != nil {
				t.Fatalf("%v with %+v", err, token)
			}
		} else {
			again, err := voidtoken.Encode(token)
			if err != nil || !bytes.Equal(again, encoded) || base64.RawURLEncoding.EncodeToString(again)+"."+base64.RawURLEncoding.EncodeToString(signature) != text {
				t.Fatalf("%q is read as %+v", text, token)
			}
		}
		if token, err := voidtoken.Verify(text, keys, expected, authorizedAt); err == nil && !strings.HasPrefix(text, first+".") {
			t.Fatalf("%q is taken for signed: %+v", text, token)
		}
	})
}

// FuzzParseDocument reaches what stands behind the text form: the JSON.
func FuzzParseDocument(f *testing.F) {
	key := newKey(f, elliptic.P256())
	_, encoded, _, err := voidtoken.Parse(sign(f, key, someToken))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encoded)
	f.Add([]byte(`{"void":null}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		token, _, _, err := voidtoken.Parse(base64.RawURLEncoding.EncodeToString(document) + ".AA")
		if err != nil {
			if token != nil {
				t.Fatalf("%v with %+v", err, token)
			}
			return
		}
		if token.Validate() != nil || token.Amount <= 0 || len(token.Authorizations) == 0 || token.ExpiresAt <= token.AuthorizedAt {
			t.Fatalf("%+v", token)
		}
		if again, err := voidtoken.Encode(token); err != nil || !bytes.Equal(again, document) {
			t.Fatalf("%q is read as %+v", document, token)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("testdata", "key.pem"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := voidtoken.ParseKeys(text); err != nil && !errors.Is(err, voidtoken.ErrKeys) {
			t.Fatal(err)
		}
	})
}
