package officer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// cheap is the least that a file may ask for.
var cheap = cost{1 << 15, 1, 1}

func answering(passphrase string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(passphrase), nil }
}

func signs(t *testing.T, s crypto.Signer, public *ecdsa.PublicKey) {
	t.Helper()
	digest := sha512.Sum384([]byte("approve"))
	signature, err := s.Sign(rand.Reader, digest[:], crypto.SHA384)
	must(t, err)
	if !ecdsa.VerifyASN1(public, digest[:], signature) || !s.Public().(*ecdsa.PublicKey).Equal(public) {
		t.Error("it signs with another key")
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "officer.key")
	public, err := CreateKey(path, []byte("correct horse"))
	must(t, err)
	if public.Curve != elliptic.P384() {
		t.Errorf("the key is of %s", public.Params().Name)
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	text, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Contains(text, []byte("KDF: scrypt 131072 8 1\n")) {
		t.Errorf("not the cost that it should be:\n%s", text)
	}
	passphrase := []byte("correct horse")
	s, err := OpenKey(path, func() ([]byte, error) { return passphrase, nil })
	must(t, err)
	signs(t, s, public)
	if !bytes.Equal(passphrase, make([]byte, len(passphrase))) {
		t.Error("the passphrase was not wiped")
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if got := fmt.Sprintf(verb, s); got != "officer's key" {
			t.Errorf("%s prints %q", verb, got)
		}
	}
	if _, err := OpenKey(path, answering("wrong")); !errors.Is(err, ErrWrongPassphrase) || errors.Is(err, ErrDamaged) {
		t.Errorf("a wrong passphrase: %v", err)
	}
	if _, err := OpenKey(path, answering("")); !errors.Is(err, ErrEmptyPassphrase) {
		t.Errorf("an empty passphrase: %v", err)
	}
	if _, err := OpenKey(path, nil); err == nil {
		t.Error("it was opened without a passphrase")
	}
	interrupted := errors.New("interrupted")
	if _, err := OpenKey(path, func() ([]byte, error) { return nil, interrupted }); !errors.Is(err, interrupted) {
		t.Errorf("the callback's error: %v", err)
	}
}

func TestKeyIsNeverOverwritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "officer.key")
	must(t, os.WriteFile(path, []byte("precious"), 0o600))
	link := filepath.Join(dir, "link.key")
	must(t, os.Symlink(filepath.Join(dir, "nowhere"), link))
	for _, p := range []string{path, link} {
		if _, err := createKey(p, []byte("correct horse"), cheap); !errors.Is(err, fs.ErrExist) {
			t.Errorf("CreateKey: %v", err)
		}
		if _, err := CreateUnprotectedKey(p); !errors.Is(err, fs.ErrExist) {
			t.Errorf("CreateUnprotectedKey: %v", err)
		}
		// One that appears while scrypt runs counts too.
		if err := writeKey(p, []byte("x")); !errors.Is(err, fs.ErrExist) {
			t.Errorf("writeKey: %v", err)
		}
	}
	if text, _ := os.ReadFile(path); string(text) != "precious" {
		t.Errorf("the file holds %q", text)
	}
	if _, err := os.Lstat(link); err != nil {
		t.Error("the link is gone")
	}
}

func TestPassphraseIsDemanded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "officer.key")
	if _, err := CreateKey(path, nil); !errors.Is(err, ErrEmptyPassphrase) {
		t.Error(err)
	}
	if _, err := CreateKey(path, []byte("1234567")); err == nil {
		t.Error("a passphrase of 7 bytes was taken")
	}
	if _, err := CreateKey(path, make([]byte, 513)); err == nil {
		t.Error("a passphrase of 513 bytes was taken")
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file was made all the same")
	}
}

func TestUnprotectedKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "officer.key")
	public, err := CreateUnprotectedKey(path)
	must(t, err)
	s, err := OpenKey(path, func() ([]byte, error) { t.Error("a passphrase was asked for"); return nil, nil })
	must(t, err)
	signs(t, s, public)
	text, err := os.ReadFile(path)
	must(t, err)
	if block, rest := pem.Decode(text); block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
		t.Errorf("not plain PKCS#8:\n%s", text)
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	must(t, os.WriteFile(path, append(text, text...), 0o600))
	if _, err := OpenKey(path, nil); !errors.Is(err, ErrDamaged) {
		t.Errorf("two keys in one file: %v", err)
	}
}

func TestForeignKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "officer.key")
	write := func(key any) {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		must(t, err)
		must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		must(t, err)
		write(key)
		s, err := OpenKey(path, nil)
		must(t, err)
		signs(t, s, &key.PublicKey)
	}
	short, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	must(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	for _, key := range []any{short, rsaKey, edKey} {
		write(key)
		if _, err := OpenKey(path, nil); err == nil {
			t.Errorf("%T was taken", key)
		}
	}
}

func TestKeyFileOfOthers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "officer.key")
	_, err := CreateUnprotectedKey(path)
	must(t, err)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602} {
		must(t, os.Chmod(path, mode))
		if _, err := OpenKey(path, nil); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
	if _, err := OpenKey(dir, nil); err == nil {
		t.Error("a directory was opened")
	}
	pipe := filepath.Join(dir, "pipe")
	must(t, unix.Mkfifo(pipe, 0o600))
	if _, err := OpenKey(pipe, nil); err == nil {
		t.Error("a pipe was opened")
	}
	if _, err := OpenKey(filepath.Join(dir, "nothing"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "long"), make([]byte, 9000), 0o600))
	if _, err := OpenKey(filepath.Join(dir, "long"), nil); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

// Whatever byte is changed, the file is called damaged, and nobody's passphrase wrong.
func TestEveryDamageIsNoticed(t *testing.T) {
	_, text, err := makeKey([]byte("x"), cheap)
	must(t, err)
	never := func() ([]byte, error) { t.Error("a passphrase was asked for"); return nil, nil }
	for i := range text {
		altered := bytes.Clone(text)
		altered[i] ^= 1
		if _, err := openKey(altered, never); !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d: %v", i, err)
		}
		if _, err := openKey(text[:i], never); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut off at %d: %v", i, err)
		}
	}
	for _, altered := range [][]byte{append([]byte("x\n"), text...), append(bytes.Clone(text), '\n'), append(bytes.Clone(text), text...), bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))} {
		if _, err := openKey(altered, never); !errors.Is(err, ErrDamaged) {
			t.Errorf("%v", err)
		}
	}
}

// Who alters a field and computes the checksum anew is noticed by the cipher.
func TestAlteredFieldsAreNoticed(t *testing.T) {
	_, text, err := makeKey([]byte("x"), cheap)
	must(t, err)
	_, other, err := makeKey([]byte("x"), cheap)
	must(t, err)
	fresh := func(text []byte) *sealedKey {
		k, _, err := parseSealedKey(text)
		must(t, err)
		return k
	}
	second := fresh(other)
	for name, c := range map[string]struct {
		alter func(*sealedKey)
		want  error
	}{
		"nothing":    {func(*sealedKey) {}, nil},
		"public key": {func(k *sealedKey) { k.public = second.public }, ErrDamaged},
		"nonce":      {func(k *sealedKey) { k.nonce[0] ^= 1 }, ErrDamaged},
		"body":       {func(k *sealedKey) { k.sealed[0] ^= 1 }, ErrDamaged},
		"other body": {func(k *sealedKey) { k.sealed = second.sealed }, ErrDamaged},
		"no body":    {func(k *sealedKey) { k.sealed = nil }, ErrDamaged},
		// These change what scrypt returns: nothing tells them from a wrong passphrase.
		"salt":  {func(k *sealedKey) { k.salt[0] ^= 1 }, ErrWrongPassphrase},
		"cost":  {func(k *sealedKey) { k.cost.p = 2 }, ErrWrongPassphrase},
		"proof": {func(k *sealedKey) { k.proof[0] ^= 1 }, ErrWrongPassphrase},
	} {
		k := fresh(text)
		c.alter(k)
		if _, err := openKey(k.encode(), answering("x")); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestCostIsBounded(t *testing.T) {
	_, text, err := makeKey([]byte("x"), cheap)
	must(t, err)
	for _, c := range []struct {
		cost cost
		ok   bool
	}{
		{standardCost, true}, {cost{1 << 19, 8, 4}, true}, {cost{1 << 18, 16, 1}, true},
		{cost{1 << 19, 16, 1}, false}, {cost{1 << 20, 1, 1}, false}, {cost{1 << 14, 8, 1}, false}, {cost{1<<17 + 1, 8, 1}, false},
		{cost{1 << 17, 8, 5}, false}, {cost{1 << 17, 17, 1}, false}, {cost{1 << 17, 0, 1}, false}, {cost{1 << 17, 8, 0}, false}, {cost{-1 << 17, 8, 1}, false},
	} {
		k, _, err := parseSealedKey(text)
		must(t, err)
		k.cost = c.cost
		if _, _, err := parseSealedKey(k.encode()); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.cost, err)
		}
	}
}

func TestKeyDirectoryIsMissing(t *testing.T) {
	if _, err := CreateUnprotectedKey(filepath.Join(t.TempDir(), "nothing", "officer.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzKeyFile(f *testing.F) {
	_, text, err := makeKey([]byte("x"), cheap)
	must(f, err)
	f.Add(text)
	f.Add([]byte("-----BEGIN KEYD OFFICER KEY-----\nVersion: 1\n\n-----END KEYD OFFICER KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		k, public, err := parseSealedKey(text)
		if err != nil {
			if k != nil || public != nil || !errors.Is(err, ErrDamaged) {
				t.Errorf("%v, %v, %v", k, public, err)
			}
			return
		}
		if !bytes.Equal(k.encode(), text) || !k.cost.valid() || !officerCurve(public.Curve) {
			t.Error("a file is taken that keyd does not write")
		}
	})
}

func TestPublicPEM(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		must(t, err)
		text, err := PublicPEM(&key.PublicKey)
		must(t, err)
		for _, text := range [][]byte{text, append([]byte("\n "), append(text, '\n', '\n')...), bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))} {
			got, err := ParsePublicPEM(text)
			must(t, err)
			if !key.PublicKey.Equal(got) {
				t.Error("another key came back")
			}
		}
		for name, bad := range map[string][]byte{
			"two":     append(bytes.Clone(text), text...),
			"text":    append([]byte("x\n"), text...),
			"cut off": text[:len(text)-2],
			"headers": bytes.Replace(text, []byte("\n"), []byte("\nA: b\n\n"), 1),
			"long":    append(bytes.Clone(text), bytes.Repeat([]byte(" "), 5000)...),
		} {
			if got, err := ParsePublicPEM(bad); err == nil || got != nil {
				t.Errorf("%s: taken", name)
			}
		}
	}
	short, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	must(t, err)
	edPublic, _, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	for _, key := range []crypto.PublicKey{&short.PublicKey, edPublic, nil, (*ecdsa.PublicKey)(nil)} {
		if _, err := PublicPEM(key); err == nil {
			t.Errorf("%T was taken", key)
		}
	}
	for _, key := range []crypto.PublicKey{&short.PublicKey, edPublic} {
		if der, err := x509.MarshalPKIXPublicKey(key); err == nil {
			if _, err := ParsePublicPEM(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})); err == nil {
				t.Errorf("%T was read", key)
			}
		}
	}
	_, secret, err := makeKey([]byte("x"), cheap)
	must(t, err)
	if _, err := ParsePublicPEM(secret); err == nil || !strings.Contains(err.Error(), "private key") {
		t.Errorf("a private key: %v", err)
	}
}

func FuzzPublicPEM(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(f, err)
	text, err := PublicPEM(&key.PublicKey)
	must(f, err)
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := ParsePublicPEM(text)
		if err != nil {
			if key != nil {
				t.Error("a key and an error")
			}
			return
		}
		again, err := PublicPEM(key)
		must(t, err)
		if second, err := ParsePublicPEM(again); err != nil || !second.(*ecdsa.PublicKey).Equal(key) {
			t.Errorf("%v", err)
		}
	})
}
