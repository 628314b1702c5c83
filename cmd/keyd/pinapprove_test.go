package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/pinrecord"
)

// FuzzPaper reads any bytes as an approver's file: the one form of one, or an error that does not say
// what was in it, and nothing beside.
func FuzzPaper(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		f.Fatal(err)
	}
	for _, a := range []pinrecord.Approval{
		{Action: pinrecord.Enrol, DeliverTo: der, Subject: pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "m-17", Name: "dora"}},
		{Action: pinrecord.Reset, DeliverTo: der, Subject: pinrecord.Subject{Kind: pinrecord.Cardholder, Name: "card.x"}},
		{Action: pinrecord.Unblock, Subject: pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "m-17", Terminal: "t-1", Name: "dora"}},
	} {
		a.Version, a.Request, a.NotAfter = 1, strings.Repeat("0a", pinrecord.RequestSize), 1_800_000_000
		encoded, err := a.Encode()
		if err != nil {
			f.Fatal(err)
		}
		signed, err := pinrecord.Sign(key, [][]byte{der}, encoded)
		if err != nil {
			f.Fatal(err)
		}
		text, err := ceremony.Encode(&signed)
		if err != nil {
			f.Fatal(err)
		}
		if _, _, err := parsePaper(text, "paper"); err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		f.Add(append(text, '\n'))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, a, err := parsePaper(text, "paper")
		if err != nil {
			if s != nil || a != nil || len(err.Error()) > 200 {
				t.Errorf("something beside an error: %v", err)
			}
			return
		}
		if again, err := ceremony.Encode(s); err != nil || !bytes.Equal(again, text) {
			t.Errorf("%q becomes %q, %v", text, again, err)
		}
		// What an approver is shown before signing has nothing that moves about on a terminal.
		var shown bytes.Buffer
		if err := showApproval(&shown, a, &pinrecord.Approver{ID: "spiffe://bank.example/approvers/anna", Key: &key.PublicKey}); err != nil {
			t.Error(err)
		}
		if i := bytes.IndexFunc(shown.Bytes(), func(r rune) bool { return r != '\n' && (r < ' ' || r > '~') }); i >= 0 {
			t.Errorf("shown: %q", shown.Bytes())
		}
		if _, err := time.Parse(time.RFC3339, time.Unix(a.NotAfter, 0).UTC().Format(time.RFC3339)); err != nil {
			t.Errorf("the end is shown as no time: %v", err)
		}
	})
}
