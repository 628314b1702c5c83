package e2e

import (
	"fmt"
	"testing"
)

// runOnPhone does on a phone what is done there: a code and a PIN are typed behind a link, a code for a
// passkey, and PINs for a void.
func (f *secretFlow) runOnPhone(t *testing.T) {
	t.Helper()
	h := f.handset(t, nil)
	h.asking = func(question, answer []byte) { f.said.wrote(question, answer) }
	h.typing = func(number, digits string, block []byte) {
		addPIN(t, f.secrets, "on a phone, number "+fmt.Sprint(len(f.blocks)), digits, number)
		f.blocks = append(f.blocks, block)
	}
	link, code := h.linked("reset", "4", "supervisor")
	e, s := h.enrolment(link)
	next := randomPIN(t)
	setting := func(code string) map[string]any { return h.newPIN(link, e, s, code, next) }
	h.set("/api/enrolment/pin", setting(randomPIN(t)[:8]), false)
	h.set("/api/enrolment/pin", setting(code), true)
	f.pin = next

	_, qr, v := h.voidOnPhone("pay-4", 12300)
	h.outcome("a wrong PIN", "/api/void/pin", h.byPIN(qr, "dora", randomPIN(t), v), outcomeOnPhone{State: "CREATED", Result: "NOT_VERIFIED", TriesLeft: 2})
	h.outcome("the right one", "/api/void/pin", h.byPIN(qr, "dora", next, v), outcomeOnPhone{Verified: true, State: "AUTHORIZED", Result: "AUTHORIZED", TriesLeft: 2})

	link, code = h.linked("enrol", "1", "passkey")
	question, _ := h.newPasskey(link, code)
	h.set("/api/enrolment/passkey", question, true)
}
