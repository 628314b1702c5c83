package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"keyd/voidtoken"
)

const (
	void    = "00112233445566778899aabbccddeeff"
	another = "ffeeddccbbaa99887766554433221100"
)

// opened is a book of one payment, whose journal is in dir.
func opened(t testing.TB, dir string) *book {
	t.Helper()
	payments := filepath.Join(dir, "payments")
	if err := os.WriteFile(payments, []byte(`{"terminals":{"t-1":"m-17"},"payments":[{"reference":"pay-1","merchant":"m-17","amount":12300,"currency":156}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := open(payments, filepath.Join(dir, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.journal.Close() }) // some have been closed
	return b
}

// signer signs tokens as a module does, and serves whoever has its public key.
func signer(t *testing.T) (*ecdsa.PrivateKey, voidtoken.Keys) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := voidtoken.ParseKeys(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return key, keys
}

func tokenOf(t *testing.T, key *ecdsa.PrivateKey, id string, at time.Time, change ...func(*voidtoken.Token)) string {
	t.Helper()
	token := voidtoken.Token{
		Fields:         voidtoken.Fields{Void: id, Merchant: "m-17", Terminal: "t-1", Reference: "pay-1", Amount: 12300, Currency: voidtoken.CNY},
		Authorizations: []voidtoken.Authorization{{Method: voidtoken.SupervisorPIN, Subject: "dora"}},
		AuthorizedAt:   at.Unix(), ExpiresAt: at.Unix() + 300,
	}
	for _, c := range change {
		c(&token)
	}
	text, err := voidtoken.Sign(key, token)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// rewritten is the same token with its signature written in the second way.
func rewritten(t *testing.T, key *ecdsa.PrivateKey, token string) string {
	t.Helper()
	says, signature, _ := strings.Cut(token, ".")
	der, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		t.Fatal(err)
	}
	var s struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &s); err != nil {
		t.Fatal(err)
	}
	s.S.Sub(key.Params().N, s.S)
	if der, err = asn1.Marshal(s); err != nil {
		t.Fatal(err)
	}
	return says + "." + base64.RawURLEncoding.EncodeToString(der)
}

// A token reverses its payment once, whatever comes again and also after a restart; nothing else
// does.
func TestAPaymentIsReversedOnce(t *testing.T) {
	dir := t.TempDir()
	key, keys := signer(t)
	stranger, _ := signer(t)
	now := time.Now()
	token := tokenOf(t, key, void, now)
	reversals := 0
	serverOn := func(b *book) *server { return &server{keys: keys, book: b, reversed: func() { reversals++ }} }
	s := serverOn(opened(t, dir))
	p := s.book.payments["pay-1"]
	reverse := func(id, token string) error { return s.reverse("t-1", id, &p, token, now) }

	for what, bad := range map[string]string{
		"a stranger's":     tokenOf(t, stranger, void, now),
		"another amount":   tokenOf(t, key, void, now, func(k *voidtoken.Token) { k.Amount++ }),
		"another payment":  tokenOf(t, key, void, now, func(k *voidtoken.Token) { k.Reference = "pay-2" }),
		"another terminal": tokenOf(t, key, void, now, func(k *voidtoken.Token) { k.Terminal = "t-2" }),
		"another void":     tokenOf(t, key, another, now),
		"a phone's beside a cardholder's": tokenOf(t, key, void, now, func(k *voidtoken.Token) {
			k.Authorizations = []voidtoken.Authorization{{Method: voidtoken.CardholderPIN, Subject: "cardholder"}, {Method: voidtoken.PhonePIN, Subject: "dora"}}
		}),
		"one that has expired": tokenOf(t, key, void, now.Add(-time.Hour)),
		"none":                 "",
	} {
		if err := reverse(void, bad); err == nil || s.book.voided("pay-1") {
			t.Fatalf("%s reverses the payment: %v", what, err)
		}
	}
	check := func(when string) {
		t.Helper()
		for range 2 {
			if err := errors.Join(reverse(void, token), reverse(void, rewritten(t, key, token))); err != nil {
				t.Errorf("%s: the same token: %v", when, err)
			}
		}
		if err := reverse(void, tokenOf(t, key, void, now.Add(-time.Second))); !errors.Is(err, errAnother) {
			t.Errorf("%s: another token of the same void: %v", when, err)
		}
		if err := reverse(another, tokenOf(t, key, another, now)); !errors.Is(err, errOther) {
			t.Errorf("%s: another void of the payment: %v", when, err)
		}
		lines, err := os.ReadFile(filepath.Join(dir, "journal"))
		if err != nil || bytes.Count(lines, []byte(`"reversed":true`)) != 1 || !s.book.voided("pay-1") || len(s.book.untold()) != 1 {
			t.Errorf("%s: %s, %v", when, lines, err)
		}
	}
	check("at first")
	for _, torn := range []string{"", `{"void":"` + another + `","reference":"pay-1","rever`} {
		if _, err := s.book.journal.WriteString(torn); err != nil {
			t.Fatal(err)
		}
		if _, err := open(filepath.Join(dir, "payments"), filepath.Join(dir, "journal")); err == nil {
			t.Fatal("two switches have one journal")
		}
		if err := s.book.journal.Close(); err != nil {
			t.Fatal(err)
		}
		s = serverOn(opened(t, dir))
		check("after a restart")
	}
	e, _ := s.book.outcome(void)
	s.book.done(e)
	if left := s.book.untold(); len(left) != 0 {
		t.Errorf("keyd knows, and is told of %q", left)
	}
}

// What was given up is never carried out, and what was carried out is not given up.
func TestAVoidThatWasGivenUp(t *testing.T) {
	b := opened(t, t.TempDir())
	b.giveUp(void)
	if err := b.reverse("pay-1", void, "token"); !errors.Is(err, errAnother) || b.voided("pay-1") {
		t.Errorf("it is carried out: %v", err)
	}
	if err := b.reverse("pay-1", another, "token"); err != nil {
		t.Fatal(err)
	}
	b.giveUp(another)
	if e, decided := b.outcome(another); !decided || !e.Reversed {
		t.Error("what was reversed is given up")
	}
}

// Whatever is in a journal, the switch reads it or says that it cannot, and reads the same again.
func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"void":"` + void + `","reference":"pay-1","token":"aa","reversed":true}` + "\n"))
	f.Add([]byte(`{"void":"` + void + `","reference":"pay-1","token":"aa","reversed":true,"done":true}` + "\n" + `{"void":"`))
	f.Add([]byte("\n"))
	f.Add([]byte{0xff, '\n'})
	f.Fuzz(func(t *testing.T, journal []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, "journal")
		if err := os.WriteFile(path, journal, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "payments"), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		var before map[string]entry
		for range 2 {
			b, err := open(filepath.Join(dir, "payments"), path)
			if err != nil {
				if before != nil {
					t.Fatalf("it is read once, and not again: %v", err)
				}
				return
			}
			if err := b.journal.Close(); err != nil {
				t.Fatal(err)
			}
			if before != nil && len(before) != len(b.voids) {
				t.Fatal("it is another journal the second time")
			}
			before = b.voids
		}
	})
}
