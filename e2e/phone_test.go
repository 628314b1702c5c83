package e2e

import (
	"bytes"
	"strings"
	"testing"

	keydv1 "keyd/api/keyd/v1"
	"keyd/voidtoken"
)

// A supervisor gets a passkey by a link, and approves with it what the code on the terminal says: the
// terminal sees it, and the switch has the token. Revoked, the passkey approves nothing.
func TestAVoidByPasskey(t *testing.T) {
	h := newHandset(t)
	link, code := h.linked("enrol", "1", "passkey")
	wrong, user := h.newPasskey(link, "00000000")
	h.set("/api/enrolment/passkey", wrong, false)
	question, _ := h.newPasskey(link, code)
	h.set("/api/enrolment/passkey", question, true)
	h.set("/api/enrolment/passkey", question, true) // the answer was lost
	if refusal := h.post("/api/enrolment", map[string]string{"link": link}, new(shownLink)); refusal != "PIN_RECORD_STATE" {
		t.Errorf("a link that was used: %s", refusal)
	}
	if refusal := h.post("/api/enrolment", map[string]string{"link": strings.Repeat("A", 26)}, new(shownLink)); refusal != "PIN_RECORD_NOT_FOUND" {
		t.Errorf("a link of nothing: %s", refusal)
	}

	id, qr, v := h.voidOnPhone("pay-0001", 30_000)
	if v.Merchant != "m-17" || v.Amount != 30_000 || v.Currency != "CNY" || v.State != "CREATED" || strings.Contains(v.Reference, "pay") || !v.Passkey || v.PIN || v.Key != nil {
		t.Errorf("shown is %+v", v)
	}
	w := h.watch(t, id)
	w.sees("created")
	good := h.byPasskey(qr, user, v)
	other := *v
	other.Challenge = bytes.Repeat([]byte{1}, 32)
	forged := h.byPasskey(qr, user, &other)
	h.outcome("for another void", "/api/void/passkey", forged, outcomeOnPhone{State: "CREATED", Result: "NOT_VERIFIED", TriesLeft: 2})
	h.outcome("the same again", "/api/void/passkey", forged, outcomeOnPhone{State: "CREATED", Result: "NOT_VERIFIED", TriesLeft: 2})
	h.outcome("approved", "/api/void/passkey", good, outcomeOnPhone{Verified: true, State: "AUTHORIZED", Result: "AUTHORIZED", TriesLeft: 2})
	h.outcome("the same again", "/api/void/passkey", good, outcomeOnPhone{Verified: true, State: "AUTHORIZED", Result: "AUTHORIZED", TriesLeft: 2})
	h.outcome("another assertion", "/api/void/passkey", h.byPasskey(qr, user, v), outcomeOnPhone{State: "AUTHORIZED", Result: "ALREADY_AUTHORIZED", TriesLeft: 2})
	w.sees("authorized")
	burnt := new(shownVoid)
	if h.posted("/api/void", map[string]string{"code": qr}, burnt); burnt.State != "AUTHORIZED" || burnt.Amount != 0 || burnt.Merchant != "" || burnt.Passkey {
		t.Errorf("a code that is burnt shows %+v", burnt)
	}
	_, err := h.command(qr+"\n", "void", "scan", "--merchant", "m-17", "--dir", h.dir)
	refusedBy(t, "a code that is burnt", err, "VOID_CODE_REFUSED")

	a := new(keydv1.AuthorizeVoidResponse)
	h.asked(a, "", "token", id)
	if !a.Verified || a.Token == "" {
		t.Fatalf("the switch gets %+v", a)
	}
	out, err := h.verify(a.Token, "void-tokens.pem", id, "pay-0001", 30_000, string(voidtoken.PhonePasskey))
	if err != nil || !strings.Contains(out, "PHONE_PASSKEY by dora") {
		t.Errorf("the token: %s, %v", out, err)
	}
	h.must("void", "confirm", id, "--dir", h.dir)
	w.sees("confirmed")
	h.asked(a, "", "token", id)
	h.without(a)

	h.must(append([]string{"pin", "revoke", "--kind", "passkey", "--reason", "a phone was lost", "--dir", h.dir}, dora...)...)
	_, qr, v = h.voidOnPhone("pay-0002", 30_000)
	h.outcome("a passkey that was revoked", "/api/void/passkey", h.byPasskey(qr, user, v), outcomeOnPhone{State: "CREATED", Result: "NOT_VERIFIED", TriesLeft: 2})
	h.outcome("nobody's passkey", "/api/void/passkey", h.byPasskey(qr, [32]byte{1}, v), outcomeOnPhone{State: "CREATED", Result: "NOT_VERIFIED", TriesLeft: 1})
	entries := h.must("audit", "tail", "-n", "200", "-o", "json", "--dir", h.dir)
	for _, want := range []string{"Page/Void", "Page/ApproveByPasskey", "Page/SetPasskey"} {
		if !strings.Contains(entries, want) {
			t.Errorf("the audit log has no %s", want)
		}
	}
}

// A supervisor's PIN that is typed on a phone: it is enciphered there for one void, three wrong ones block
// it everywhere, and after a reset by a link the old one is dead.
func TestAVoidByPINOnAPhone(t *testing.T) {
	h := newHandset(t)
	id, qr, v := h.voidOnPhone("pay-0001", 12_300)
	if !v.PIN || !v.Passkey {
		t.Fatalf("shown is %+v", v)
	}
	h.genuine(v.Key, v.CodeKey)
	other := h.byPIN(qr, "dora", h.pin, v)
	_, second, w := h.voidOnPhone("pay-0002", 12_300)
	other["code"] = second
	h.outcome("a block for another void", "/api/void/pin", other, outcomeOnPhone{State: "CREATED", Result: "NOT_VERIFIED", TriesLeft: 2})
	good := h.byPIN(qr, "dora", h.pin, v)
	h.outcome("the right one", "/api/void/pin", good, outcomeOnPhone{Verified: true, State: "AUTHORIZED", Result: "AUTHORIZED", TriesLeft: 3})
	h.outcome("the same again", "/api/void/pin", good, outcomeOnPhone{Verified: true, State: "AUTHORIZED", Result: "AUTHORIZED", TriesLeft: 3})
	a := new(keydv1.AuthorizeVoidResponse)
	h.asked(a, "", "token", id)
	if out, err := h.verify(a.Token, "void-tokens.pem", id, "pay-0001", 12_300, string(voidtoken.PhonePIN)); err != nil || !strings.Contains(out, "PHONE_PIN by dora") {
		t.Errorf("the token: %s, %v", out, err)
	}
	h.outcome("nobody's", "/api/void/pin", h.byPIN(second, "nobody", h.pin, w), outcomeOnPhone{State: "CREATED", Result: "NOT_VERIFIED", TriesLeft: 1})
	h.outcome("wrong", "/api/void/pin", h.byPIN(second, "dora", "000001", w), outcomeOnPhone{State: "DECLINED", Result: "TRIES_USED_UP"})
	_, third, x := h.voidOnPhone("pay-0003", 12_300)
	h.outcome("wrong", "/api/void/pin", h.byPIN(third, "dora", "000001", x), outcomeOnPhone{State: "CREATED", Result: "NOT_VERIFIED", TriesLeft: 2})
	h.outcome("wrong", "/api/void/pin", h.byPIN(third, "dora", "000001", x), outcomeOnPhone{State: "CREATED", Result: "NOT_VERIFIED", TriesLeft: 1})
	h.stands("blocked")

	link, code := h.linked("reset", "2", "supervisor")
	e, s := h.enrolment(link)
	next := randomPIN(t)
	setting := func(code, pin string) map[string]any { return h.newPIN(link, e, s, code, pin) }
	if refusal := h.post("/api/enrolment/pin", setting(code, "123456"), nil); refusal != "PIN_WEAK" {
		t.Errorf("a weak PIN: %s", refusal)
	}
	h.set("/api/enrolment/pin", setting("00000000", next), false)
	question := setting(code, next)
	h.set("/api/enrolment/pin", question, true)
	h.set("/api/enrolment/pin", question, true) // the answer was lost
	h.entered("verify", dora, false, h.pin)
	h.entered("verify", dora, true, next)
	_, fourth, y := h.voidOnPhone("pay-0004", 12_300)
	h.outcome("the old PIN", "/api/void/pin", h.byPIN(fourth, "dora", h.pin, y), outcomeOnPhone{State: "CREATED", Result: "NOT_VERIFIED", TriesLeft: 2})
	h.outcome("the new one", "/api/void/pin", h.byPIN(fourth, "dora", next, y), outcomeOnPhone{Verified: true, State: "AUTHORIZED", Result: "AUTHORIZED", TriesLeft: 2})

	// Above the tier a PIN does not count, and a code that was altered is nothing.
	_, fifth, z := h.voidOnPhone("pay-0005", 30_000)
	if z.PIN || z.Key != nil {
		t.Errorf("above the tier: %+v", z)
	}
	z.Key = v.Key
	h.outcome("above the tier", "/api/void/pin", h.byPIN(fifth, "dora", next, z), outcomeOnPhone{State: "CREATED", Result: "METHOD_NOT_ALLOWED", TriesLeft: 3})
	altered := []byte(fifth)
	altered[20] = 'A' + (altered[20]-'A'+1)%26
	if refusal := h.post("/api/void", map[string]string{"code": string(altered)}, nil); refusal != "VOID_CODE_REFUSED" {
		t.Errorf("a code that was altered: %s", refusal)
	}
	if strings.Contains(h.logged(), next) || strings.Contains(h.logged(), code) {
		t.Error("the log holds a PIN or a code")
	}
}
