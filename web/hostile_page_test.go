package web

import (
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"keyd/fault"
)

// Nobody is asked for a PIN where the keys are not those of whoever signed the code.
func TestKeysThatAreNotBelieved(t *testing.T) {
	p := newPhone(t, serve(t), "en")
	other := newBank(t)
	for name, change := range map[string]func(*Void){
		"a key that another has signed": func(v *Void) { v.Key = other.signedKey(time.Now().Add(time.Minute)) },
		"another signer of both":        func(v *Void) { v.Key, v.CodeKey = other.signedKey(time.Now().Add(time.Minute)), other.publicKey() },
		"a signer that is none":         func(v *Void) { v.CodeKey = []byte("no key") },
		"a signature that has expired":  func(v *Void) { v.Key = p.signedKey(time.Now().Add(-16 * time.Minute)) },
		"another end":                   func(v *Void) { v.Key.ExpiresAt++ },
		"another merchant":              func(v *Void) { v.Merchant = "m-18" },
		"another point":                 func(v *Void) { v.Key.Point = other.pageKey.PublicKey().Bytes() },
	} {
		p.openVoid(p.newVoid(change))
		p.Title("Approve this void?")
		p.Tap("Use PIN")
		p.Title("Do not enter a PIN")
		if got := p.calls(); !slices.Equal(got, []string{"Void"}) {
			t.Errorf("%s: %q", name, got)
		}
	}
	for name, lie := range map[string]func(*Enrolment){
		"another's name":       func(e *Enrolment) { e.Name = "emil" },
		"another's number":     func(e *Enrolment) { e.Subject[0] ^= 1 },
		"another approval":     func(e *Enrolment) { e.Approval = make([]byte, 32) },
		"another's signature":  func(e *Enrolment) { e.Key = other.signedKey(time.Now().Add(time.Minute)) },
		"a signature that was": func(e *Enrolment) { e.Key = p.signedKey(time.Now().Add(-16 * time.Minute)) },
	} {
		link := p.newLink(dora)
		p.links[link].lie = lie
		p.openLink(link)
		p.Title("Do not enter a PIN")
		if got := p.calls(); !slices.Equal(got, []string{"Enrolment"}) {
			t.Errorf("%s: %q", name, got)
		}
	}
	code := p.newVoid(nil)
	altered := code[:100] + map[bool]string{true: "B", false: "A"}[code[100] == 'A'] + code[101:] // in the signature
	p.voids[altered] = p.voids[code]
	p.openVoid(altered)
	p.Title("Approve this void?")
	p.Tap("Use PIN")
	p.Title("Do not enter a PIN")
	p.Quiet()
}

// What a merchant is called is text. An amount that JavaScript cannot write is not shown.
func TestWhatComesIsText(t *testing.T) {
	p := newPhone(t, serve(t), "en")
	p.openVoid(p.newVoid(func(v *Void) {
		v.Merchant, v.Reference = `<img src=x onerror="document.title='x'">`, `</dd><script>alert(1)</script>`
	}))
	p.Title("Approve this void?")
	p.Shows(`<img src=x onerror="document.title='x'">`, `</dd><script>alert(1)</script>`)
	if got := eval[string](p, `(() => { try { document.body.innerHTML = "<b>x</b>"; return "taken"; } catch (e) { return e.name; } })()`); got != "TypeError" {
		t.Errorf("text became markup: %s", got)
	}
	p.openVoid(p.newVoid(func(v *Void) { v.Amount = 1<<53 + 1 }))
	p.Title("The browser is too old")
	for amount, want := range map[int64]string{1: "0.01", 123456789: "1,234,567.89", 9007199254740991: "90,071,992,547,409.91"} {
		p.openVoid(p.newVoid(func(v *Void) { v.Amount = amount }))
		p.Title("Approve this void?")
		p.Shows(want)
	}
	p.openVoid(p.newVoid(func(v *Void) { v.Amount, v.Currency, v.Digits = 500, "JPY", 0 }))
	p.Title("Approve this void?")
	p.Shows("500", "JPY")
}

// A void ends before somebody's eyes, and what the service may not say, the code says itself.
func TestAVoidThatEnds(t *testing.T) {
	p := newPhone(t, serve(t), "en")
	p.openVoid(p.newVoid(func(v *Void) { v.ExpiresAt = time.Now().Add(2 * time.Second) }))
	p.Title("Expired")
	p.failing(fault.VoidCodeRefused)
	p.openVoid(p.newVoid(nil))
	p.Title("This code cannot be used")
	// The example of docs/void-code.md, long after its end.
	p.Do(chromedp.Navigate("about:blank"))
	p.openVoid(textOfCode)
	if time.Now().After(time.Date(2026, 11, 27, 12, 1, 0, 0, time.UTC)) {
		p.Title("Expired")
	} else {
		p.Title("This code cannot be used")
	}
}

// What was not verified because it was not asked for is told as such, and not as a wrong PIN.
func TestApprovalsThatDoNotCount(t *testing.T) {
	p := newPhone(t, serve(t), "en")
	p.enrolled(dora, "739104")
	for result, title := range map[string]string{
		"METHOD_NOT_ALLOWED": "Not on a phone", "SAME_PERSON": "Not on a phone", "UNAVAILABLE": "The service is busy", "NOT_SCANNED": "Not accepted", "SOMETHING_NEW": "Not accepted",
	} {
		code := p.newVoid(nil)
		p.voids[code].result = result
		p.openVoid(code)
		p.approveByPIN("dora", "739104", "123.45 CNY")
		p.Title(title)
		p.has(code, "CREATED", 3)
	}
	p.Quiet()
}
