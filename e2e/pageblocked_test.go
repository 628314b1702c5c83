package e2e

import (
	"strings"
	"testing"
)

// Three wrong PINs that are typed into the page block a supervisor's PIN everywhere; behind the link of a
// reset another is set, the one before stays dead, and what is revoked approves nothing. The terminal, which
// watches, goes on by itself, and nobody touches it.
func TestAPINIsBlockedAndSetAnewInABrowser(t *testing.T) {
	h := newHandset(t)
	_, qr, _ := h.voidOnPhone("pay-0001", 12_300)
	p := h.browser()
	p.Open("/V/" + qr)
	for _, left := range []string{"2 tries are left", "One try is left"} {
		typesPIN(p, "000001", "123.00")
		p.Title("Not verified")
		p.Shows(left)
		p.Tap("Try again")
	}
	typesPIN(p, "000001", "123.00")
	p.Title("Declined")
	p.Open("/V/" + qr)
	p.Title("Declined")
	h.stands("blocked")
	h.entered("verify", dora, false, h.pin)
	_, qr, _ = h.voidOnPhone("pay-0002", 12_300)
	p.Open("/V/" + qr)
	typesPIN(p, h.pin, "123.00")
	p.Title("Not verified")

	next := randomPIN(t)
	link, code := h.linked("reset", "2", "supervisor")
	setsPIN(p, link, code, next)
	h.stands("active")
	id, qr, _ := h.voidOnPhone("pay-0003", 12_300)
	w := h.watch(t, id)
	w.sees("created")
	p.Open("/V/" + qr)
	typesPIN(p, h.pin, "123.00")
	p.Title("Not verified")
	p.Shows("2 tries are left")
	p.Tap("Try again")
	typesPIN(p, next, "123.00")
	p.Title("Approved")
	w.sees("authorized")
	h.tokenOf(id, "pay-0003", 12_300, "PHONE_PIN")
	h.must("void", "confirm", id, "--dir", h.dir)
	w.sees("confirmed")
	w.ends()
	p.Open("/V/" + qr)
	p.Title("Approved already")

	link, code = h.linked("enrol", "1", "passkey")
	setsPasskey(p, link, code)
	h.must(append([]string{"pin", "revoke", "--kind", "passkey", "--reason", "a phone was lost", "--dir", h.dir}, dora...)...)
	h.must(append([]string{"pin", "revoke", "--reason", "dora has left", "--dir", h.dir}, dora...)...)
	h.stands("revoked")
	_, qr, v := h.voidOnPhone("pay-0004", 12_300)
	if v.State != "CREATED" {
		t.Errorf("%+v", v)
	}
	p.Open("/V/" + qr)
	typesPIN(p, next, "123.00")
	p.Title("Not verified")
	p.Shows("2 tries are left")
	p.Tap("Try again")
	p.Title("Approve this void?")
	p.Tap("Approve with passkey")
	p.Title("Not verified")
	p.Shows("One try is left")
	p.Quiet()
	for _, secret := range []string{h.pin, next, code} {
		if strings.Contains(h.logged(), secret) {
			t.Error("the log holds a PIN or a code")
		}
	}
}
