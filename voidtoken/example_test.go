package voidtoken_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"keyd/voidtoken"
)

// payment is what a switch has of a payment.
type payment struct {
	merchant, reference string
	amount              int64
	voided              string // identifier of the void that reversed it
}

// reverse takes the place of the switch's own transaction, in which the payment is reversed and
// the void's identifier kept.
func (p *payment) reverse(void string) error {
	switch p.voided {
	case void:
		return nil // a retry: answered as the first time
	case "":
		p.voided = void
		return nil
	}
	return errors.New("the payment was voided by another void")
}

// What a switch does with a void token. docs/switch-integrator.md shows the part between the
// marks.
func ExampleVerify() {
	signer, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader) // in life a key of the module's
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&signer.PublicKey)
	if err != nil {
		panic(err)
	}
	pemFile := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	now := time.Unix(1795791660, 0)
	text, err := voidtoken.Sign(signer, voidtoken.Token{
		Fields:         someVoid,
		Authorizations: []voidtoken.Authorization{{Method: voidtoken.SupervisorPIN, Subject: "merchant-8.supervisor-2"}},
		AuthorizedAt:   now.Unix() - 60, ExpiresAt: now.Unix() + 240,
	})
	if err != nil {
		panic(err)
	}
	request := struct{ Void, Token, Terminal string }{someVoid.Void, text, "t-1"}
	p := payment{merchant: "merchant-8", reference: "112700123456", amount: 12345}

	check := func(p *payment) error {
		// docs: begin
		keys, err := voidtoken.ParseKeys(pemFile) // once, and again when keys change
		if err != nil {
			return err
		}
		token, err := voidtoken.Verify(request.Token, keys, voidtoken.Expected{
			Fields: voidtoken.Fields{
				Void:      request.Void,     // from the terminal's request
				Terminal:  request.Terminal, // the one that is connected, not what it says
				Merchant:  p.merchant,       // the rest from your own record of the payment
				Reference: p.reference,
				Amount:    p.amount,
				Currency:  voidtoken.CNY,
			},
			Methods: [][]voidtoken.Method{{voidtoken.SupervisorPIN}, {voidtoken.SupervisorPIN, voidtoken.CardholderPIN}},
		}, now)
		if err != nil {
			return err // do not reverse; voidtoken.ErrAmount and so on say what differs
		}
		return p.reverse(token.Void) // one transaction: keep the identifier, refuse another
		// docs: end
	}
	fmt.Println(check(&p), p.voided)
	p.amount++
	fmt.Println(check(&p))
	// Output:
	// <nil> 00112233445566778899aabbccddeeff
	// the void token is for another amount
}

// What a terminal makes its MAC over.
func ExampleFields_Digest() {
	fields := voidtoken.Fields{
		Void: "00112233445566778899aabbccddeeff", Merchant: "merchant-8", Terminal: "t-1", Reference: "112700123456", Amount: 12345, Currency: voidtoken.CNY,
	}
	digest, err := fields.Digest()
	fmt.Printf("%s %x %v\n", fields.Currency.Format(fields.Amount), digest, err)
	// Output: 123.45 CNY 175a2e7924c60c4a12e8905d37e5a261de57be4d3fc7c979c1c04834613e35ce <nil>
}

// The guide shows what is compiled here, line for line.
func TestTheGuideShowsTheExample(t *testing.T) {
	lines := func(text string) (list []string) {
		for line := range strings.Lines(text) {
			if line = strings.Join(strings.Fields(line), " "); line != "" {
				list = append(list, line)
			}
		}
		return list
	}
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(source), "// docs: begin\n")
	want, _, _ := strings.Cut(rest, "// docs: end\n")
	guide, err := os.ReadFile("../docs/switch-integrator.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(guide), "\n## Before you reverse a payment\n")
	_, rest, _ = strings.Cut(section, "```go\n")
	shown, _, _ := strings.Cut(rest, "```\n")
	if got, want := lines(shown), lines(want); len(want) < 10 || !slices.Equal(got, want) {
		t.Errorf("the guide shows\n%s\nthe example is\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
