package card_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"go.uber.org/goleak"

	"keyd/officer/card"
)

const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

// setup is the test's own way to the library, which writes tokens and keys. It is loaded
// once, after SOFTHSM2_CONF is set; cards share its C_Initialize.
var setup *pkcs11.Ctx

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "keyd-card-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	conf := filepath.Join(dir, "softhsm2.conf")
	text := fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", dir)
	if err := errors.Join(os.WriteFile(conf, text, 0o600), os.Setenv("SOFTHSM2_CONF", conf)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	setup = pkcs11.New(softHSM)
	if setup == nil {
		fmt.Fprintln(os.Stderr, "SoftHSM is not there (apt-get install softhsm2)")
		return 1
	}
	if code := m.Run(); code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// fixture is a fresh token whose keys the test makes.
type fixture struct {
	label, pin string
}

func randomHex(t *testing.T) string {
	b := make([]byte, 6)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

func newToken(t *testing.T) fixture {
	t.Helper()
	f := fixture{"card-" + randomHex(t), randomHex(t)}
	must(t, setup.Initialize())
	defer func() { must(t, setup.Finalize()) }()
	slots, err := setup.GetSlotList(false)
	must(t, err)
	empty := slots[len(slots)-1] // SoftHSM always offers one more
	must(t, setup.InitToken(empty, "so-"+f.pin, f.label))
	session, err := setup.OpenSession(f.slot(t), pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	must(t, err)
	must(t, setup.Login(session, pkcs11.CKU_SO, "so-"+f.pin))
	must(t, setup.InitPIN(session, f.pin))
	must(t, setup.CloseSession(session))
	return f
}

func (f fixture) slot(t *testing.T) uint {
	t.Helper()
	slots, err := setup.GetSlotList(true)
	must(t, err)
	for _, s := range slots {
		if info, err := setup.GetTokenInfo(s); err == nil && strings.TrimRight(info.Label, " ") == f.label {
			return s
		}
	}
	t.Fatalf("no token %s", f.label)
	return 0
}

// with runs f logged in with write access.
func (f fixture) with(t *testing.T, do func(session pkcs11.SessionHandle)) {
	t.Helper()
	must(t, setup.Initialize())
	defer func() { must(t, setup.Finalize()) }()
	session, err := setup.OpenSession(f.slot(t), pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	must(t, err)
	must(t, setup.Login(session, pkcs11.CKU_USER, f.pin))
	do(session)
	must(t, setup.CloseSession(session))
}

var oids = map[string]asn1.ObjectIdentifier{
	"P-224": {1, 3, 132, 0, 33}, "P-256": {1, 2, 840, 10045, 3, 1, 7}, "P-384": {1, 3, 132, 0, 34}, "P-521": {1, 3, 132, 0, 35},
}

type keyOptions struct {
	curve, label string
	id           []byte
	always       bool
}

func generate(t *testing.T, session pkcs11.SessionHandle, o keyOptions) (public, private pkcs11.ObjectHandle) {
	t.Helper()
	params, err := asn1.Marshal(oids[o.curve])
	must(t, err)
	publicTemplate := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, o.label), pkcs11.NewAttribute(pkcs11.CKA_ID, o.id),
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, params), pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true),
	}
	privateTemplate := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, o.label), pkcs11.NewAttribute(pkcs11.CKA_ID, o.id),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		pkcs11.NewAttribute(pkcs11.CKA_ALWAYS_AUTHENTICATE, o.always),
	}
	public, private, err = setup.GenerateKeyPair(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)}, publicTemplate, privateTemplate)
	must(t, err)
	return public, private
}

// asked returns a PIN callback that counts.
func asked(pin string, times *int) func() ([]byte, error) {
	return func() ([]byte, error) { *times++; return []byte(pin), nil }
}

func TestSigns(t *testing.T) {
	for _, curve := range []string{"P-256", "P-384", "P-521"} {
		t.Run(curve, func(t *testing.T) {
			f := newToken(t)
			f.with(t, func(s pkcs11.SessionHandle) { generate(t, s, keyOptions{curve: curve, label: "sign", id: []byte{1}}) })
			times := 0
			c, err := card.Open(softHSM, f.label, "sign", asked(f.pin, &times))
			must(t, err)
			defer c.Close()
			var signer crypto.Signer = c
			public := signer.Public().(*ecdsa.PublicKey)
			if got := public.Params().Name; got != curve {
				t.Errorf("the public key is of %s", got)
			}
			message := []byte("approve")
			d256, d384, d512 := sha256.Sum256(message), sha512.Sum384(message), sha512.Sum512(message)
			// Digests longer than the order of the curve are cut, as Go's own ECDSA does.
			for hash, digest := range map[crypto.Hash][]byte{crypto.SHA256: d256[:], crypto.SHA384: d384[:], crypto.SHA512: d512[:]} {
				for range 8 {
					signature, err := signer.Sign(rand.Reader, digest, hash)
					must(t, err)
					if !ecdsa.VerifyASN1(public, digest, signature) {
						t.Errorf("%v: the signature does not verify", hash)
					}
				}
			}
			if _, err := signer.Sign(nil, d256[:], crypto.SHA384); err == nil {
				t.Error("a digest of another length was signed")
			}
			if times != 1 {
				t.Errorf("the PIN was asked for %d times", times)
			}
			must(t, c.Close())
			must(t, c.Close())
			if _, err := signer.Sign(nil, d256[:], crypto.SHA256); !errors.Is(err, card.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		})
	}
}

func TestSignsConcurrently(t *testing.T) {
	f := newToken(t)
	f.with(t, func(s pkcs11.SessionHandle) { generate(t, s, keyOptions{curve: "P-256", label: "sign", id: []byte{1}}) })
	c, err := card.Open(softHSM, f.label, "", func() ([]byte, error) { return []byte(f.pin), nil })
	must(t, err)
	defer c.Close()
	digest := sha256.Sum256([]byte("x"))
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if _, err := c.Sign(nil, digest[:], crypto.SHA256); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
}

// A key that demands the PIN at every signature gets it, once each.
func TestAlwaysAuthenticate(t *testing.T) {
	f := newToken(t)
	f.with(t, func(s pkcs11.SessionHandle) {
		generate(t, s, keyOptions{curve: "P-384", label: "sign", id: []byte{1}, always: true})
	})
	times, pin := 0, f.pin
	c, err := card.Open(softHSM, f.label, "", func() ([]byte, error) { times++; return []byte(pin), nil })
	must(t, err)
	defer c.Close()
	digest := sha512.Sum384([]byte("x"))
	for range 2 {
		signature, err := c.Sign(nil, digest[:], crypto.SHA384)
		must(t, err)
		if !ecdsa.VerifyASN1(c.Public().(*ecdsa.PublicKey), digest[:], signature) {
			t.Error("the signature does not verify")
		}
	}
	if times != 3 {
		t.Errorf("the PIN was asked for %d times, want 3", times)
	}
	pin = "wrong"
	if _, err := c.Sign(nil, digest[:], crypto.SHA384); !errors.Is(err, card.ErrWrongPIN) || times != 4 {
		t.Errorf("wrong PIN: %v after %d questions", err, times)
	}
	pin = f.pin
	if _, err := c.Sign(nil, digest[:], crypto.SHA384); !errors.Is(err, card.ErrClosed) || times != 4 {
		t.Errorf("after a failed call: %v after %d questions", err, times)
	}
}

func TestWrongPINIsNotRetried(t *testing.T) {
	f := newToken(t)
	f.with(t, func(s pkcs11.SessionHandle) { generate(t, s, keyOptions{curve: "P-256", label: "sign", id: []byte{1}}) })
	times := 0
	if _, err := card.Open(softHSM, f.label, "", asked("not-the-pin", &times)); !errors.Is(err, card.ErrWrongPIN) || times != 1 {
		t.Fatalf("%v after %d questions", err, times)
	} else if strings.Contains(err.Error(), "not-the-pin") {
		t.Error("the error holds the PIN")
	}
	// SoftHSM does not count down: what it would say of a card with one try left is tested
	// in flags_test.go.
	c, err := card.Open(softHSM, f.label, "", asked(f.pin, &times))
	must(t, err)
	// A second login would be answered without a look at the PIN.
	if _, err := card.Open(softHSM, f.label, "", asked("not-the-pin", &times)); err == nil || !strings.Contains(err.Error(), "open already") {
		t.Errorf("a second login: %v", err)
	}
	digest := sha256.Sum256(nil)
	if _, err := c.Sign(nil, digest[:], crypto.SHA256); err != nil {
		t.Errorf("the first card after that: %v", err)
	}
	must(t, c.Close())
}

func TestPINCallback(t *testing.T) {
	f := newToken(t)
	interrupted := errors.New("interrupted")
	if _, err := card.Open(softHSM, f.label, "", func() ([]byte, error) { return nil, interrupted }); !errors.Is(err, interrupted) {
		t.Errorf("its error: %v", err)
	}
	for _, pin := range []string{"", strings.Repeat("1", 257)} {
		if _, err := card.Open(softHSM, f.label, "", func() ([]byte, error) { return []byte(pin), nil }); err == nil || errors.Is(err, card.ErrWrongPIN) {
			t.Errorf("a PIN of %d bytes: %v", len(pin), err)
		}
	}
	if _, err := card.Open(softHSM, f.label, "", nil); err == nil {
		t.Error("a card was opened without a PIN")
	}
	pin := []byte(f.pin)
	_, _ = card.Open(softHSM, f.label, "", func() ([]byte, error) { return pin, nil })
	if !bytes.Equal(pin, make([]byte, len(pin))) {
		t.Error("the PIN was not wiped")
	}
}

func TestWhichKey(t *testing.T) {
	f := newToken(t)
	open := func(label string) error {
		c, err := card.Open(softHSM, f.label, label, func() ([]byte, error) { return []byte(f.pin), nil })
		if err == nil {
			must(t, c.Close())
		}
		return err
	}
	if err := open(""); !errors.Is(err, card.ErrNoKey) || !strings.Contains(err.Error(), "none") {
		t.Errorf("no key: %v", err)
	}
	f.with(t, func(s pkcs11.SessionHandle) {
		generate(t, s, keyOptions{curve: "P-256", label: "one", id: []byte{1}})
		generate(t, s, keyOptions{curve: "P-224", label: "short", id: []byte{9}})
	})
	if err := open(""); err != nil {
		t.Errorf("the only one: %v", err)
	}
	f.with(t, func(s pkcs11.SessionHandle) {
		generate(t, s, keyOptions{curve: "P-256", label: "two\n", id: []byte{2}})
		generate(t, s, keyOptions{curve: "P-256", label: "two\n", id: []byte{3}})
		// Without an ID the label has to do.
		generate(t, s, keyOptions{curve: "P-521", label: "bare"})
	})
	for label, want := range map[string]string{"": "name one by its label", "three": `"three"`, "short": `"short"`, "two\n": "2 have this label"} {
		err := open(label)
		if !errors.Is(err, card.ErrNoKey) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `"one"`) ||
			!strings.Contains(err.Error(), `"two\n"`) || !strings.Contains(err.Error(), `"bare"`) {
			t.Errorf("label %q: %v", label, err)
		}
	}
	for _, label := range []string{"one", "bare"} {
		if err := open(label); err != nil {
			t.Errorf("label %q: %v", label, err)
		}
	}
}

func TestWhichCard(t *testing.T) {
	f := newToken(t)
	_, err := card.Open(softHSM, "another", "", func() ([]byte, error) { t.Error("the PIN was asked for"); return nil, nil })
	if !errors.Is(err, card.ErrNoCard) || !strings.Contains(err.Error(), f.label) {
		t.Errorf("%v", err)
	}
	twin := newToken(t)
	must(t, setup.Initialize())
	slot := twin.slot(t)
	must(t, setup.InitToken(slot, "so-"+twin.pin, f.label))
	must(t, setup.Finalize())
	if _, err := card.Open(softHSM, f.label, "", nil); err == nil || !strings.Contains(err.Error(), "2 cards") {
		t.Errorf("two cards with a label: %v", err)
	}
}

// A card often has a certificate and no public key object.
func TestPublicKeyFromCertificate(t *testing.T) {
	f := newToken(t)
	open := func() (*card.Card, error) {
		return card.Open(softHSM, f.label, "sign", func() ([]byte, error) { return []byte(f.pin), nil })
	}
	f.with(t, func(s pkcs11.SessionHandle) { generate(t, s, keyOptions{curve: "P-384", label: "sign", id: []byte{7}}) })
	c, err := open()
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "officer"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, c.Public(), c) // signed by the card
	must(t, err)
	public := c.Public()
	must(t, c.Close())

	f.with(t, func(s pkcs11.SessionHandle) {
		must(t, setup.FindObjectsInit(s, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY)}))
		objects, _, err := setup.FindObjects(s, 10)
		must(t, err)
		must(t, setup.FindObjectsFinal(s))
		for _, o := range objects {
			must(t, setup.DestroyObject(s, o))
		}
	})
	if _, err := open(); err == nil || !strings.Contains(err.Error(), "neither its public key nor a certificate") {
		t.Errorf("no public key: %v", err)
	}
	put := func(der []byte, label string) {
		f.with(t, func(s pkcs11.SessionHandle) {
			_, err := setup.CreateObject(s, []*pkcs11.Attribute{
				pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE), pkcs11.NewAttribute(pkcs11.CKA_CERTIFICATE_TYPE, pkcs11.CKC_X_509),
				pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_ID, []byte{7}), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
				pkcs11.NewAttribute(pkcs11.CKA_SUBJECT, []byte{0x30, 0}), pkcs11.NewAttribute(pkcs11.CKA_VALUE, der),
			})
			must(t, err)
		})
	}
	put(der, "certificate")
	c, err = open()
	must(t, err)
	if !c.Public().(*ecdsa.PublicKey).Equal(public) {
		t.Error("another public key")
	}
	must(t, c.Close())

	// Another key's certificate with the same ID: nobody can tell which is right.
	other, err := ecdsa.GenerateKey(public.(*ecdsa.PublicKey).Curve, rand.Reader)
	must(t, err)
	foreign, err := x509.CreateCertificate(rand.Reader, template, template, other.Public(), other)
	must(t, err)
	put(foreign, "another")
	if _, err := open(); err == nil || !strings.Contains(err.Error(), "several") {
		t.Errorf("two certificates: %v", err)
	}
}

// A signature that does not fit the public key never leaves.
func TestForeignPublicKey(t *testing.T) {
	f := newToken(t)
	f.with(t, func(s pkcs11.SessionHandle) {
		own, _ := generate(t, s, keyOptions{curve: "P-256", label: "sign", id: []byte{1}})
		_, other := generate(t, s, keyOptions{curve: "P-256", label: "other", id: []byte{2}})
		must(t, setup.DestroyObject(s, own))
		must(t, setup.DestroyObject(s, other))
		must(t, setup.FindObjectsInit(s, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY)}))
		left, _, err := setup.FindObjects(s, 10)
		must(t, err)
		must(t, setup.FindObjectsFinal(s))
		for _, o := range left {
			must(t, setup.SetAttributeValue(s, o, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, []byte{1})}))
		}
	})
	c, err := card.Open(softHSM, f.label, "sign", func() ([]byte, error) { return []byte(f.pin), nil })
	must(t, err)
	defer c.Close()
	digest := sha256.Sum256(nil)
	if signature, err := c.Sign(nil, digest[:], crypto.SHA256); err == nil || signature != nil || !strings.Contains(err.Error(), "does not fit the public key") {
		t.Errorf("%x, %v", signature, err)
	}
}

func TestLibraryPath(t *testing.T) {
	for _, path := range []string{"libsofthsm2.so", "./libsofthsm2.so", "", "/nowhere/libsofthsm2.so", "/etc/passwd"} {
		if _, err := card.Open(path, "x", "", nil); err == nil {
			t.Errorf("%q was loaded", path)
		}
	}
	f := newToken(t)
	f.with(t, func(s pkcs11.SessionHandle) { generate(t, s, keyOptions{curve: "P-256", label: "sign", id: []byte{1}}) })
	link := filepath.Join(t.TempDir(), "link.so")
	must(t, os.Symlink(softHSM, link))
	c, err := card.Open(link, f.label, "", func() ([]byte, error) { return []byte(f.pin), nil })
	must(t, err)
	must(t, c.Close())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
