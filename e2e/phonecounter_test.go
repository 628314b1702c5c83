package e2e

import (
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

var addressOnDisplay = regexp.MustCompile(`HTTPS://LOCALHOST:[0-9]+/V/([A-Z2-7]{157})`)

// The terminal shows the address of a void; a supervisor opens it on a phone and approves. The switch
// gets the token by itself and reverses the payment, and the terminal goes on, also after it was killed
// while it waited.
func TestAVoidOnAPhoneAtTheCounter(t *testing.T) {
	h := newHandset(t)
	l := newTillOf(t, h.counter)
	l.terminal("t-1", "m-17", "dev-aes")
	const amount = 12_300
	for _, reference := range []string{"passkey", "pin", "killed", "direct"} {
		l.paid(reference, amount, nil)
	}
	l.serve()
	link, code := h.linked("enrol", "1", "passkey")
	question, user := h.newPasskey(link, code)
	h.set("/api/enrolment/passkey", question, true)

	// shown waits for the address on a terminal's display, and opens it.
	shown := func(display func() string) (code string, v *shownVoid) {
		t.Helper()
		waitUntil(t, "the address on the display", func() bool { return addressOnDisplay.MatchString(display()) })
		code = addressOnDisplay.FindStringSubmatch(display())[1]
		v = new(shownVoid)
		h.posted("/api/void", map[string]string{"code": code}, v)
		return code, v
	}
	onPhone := func(reference string, more ...string) (*running, func() string) {
		out, err := os.Create(l.path("display-" + reference))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close() //nolint:errcheck // the child has its own
		r := l.startInto(t, out, l.args("t-1", append([]string{"--payment", reference, "--phone"}, more...)...)...)
		return r, func() string { return string(readAll(t, out.Name())) }
	}

	terminal, display := onPhone("passkey")
	qr, v := shown(display)
	h.outcome("by passkey", "/api/void/passkey", h.byPasskey(qr, user, v), outcomeOnPhone{Verified: true, State: "AUTHORIZED", Result: "AUTHORIZED", TriesLeft: 3})
	terminal.ends()
	l.shows(display(), "2 choose void", "▀▀▀▀▀▀▀", "3 scan: scan the code with the supervisor's phone", "7 wait: wait for \"Voided\": it is approved on the phone", "VOIDED", "authorised  PHONE_PASSKEY dora", "8 go on")
	l.once("passkey")

	terminal, display = onPhone("pin", "--lang", "zh")
	qr, v = shown(display)
	h.outcome("a wrong PIN", "/api/void/pin", h.byPIN(qr, "dora", "000001", v), outcomeOnPhone{State: "CREATED", Result: "NOT_VERIFIED", TriesLeft: 2})
	h.outcome("by PIN", "/api/void/pin", h.byPIN(qr, "dora", h.pin, v), outcomeOnPhone{Verified: true, State: "AUTHORIZED", Result: "AUTHORIZED", TriesLeft: 2})
	terminal.ends()
	l.shows(display(), "请主管用手机扫码", "已撤销", "PHONE_PIN dora")
	l.once("pin")

	terminal, display = onPhone("killed")
	qr, v = shown(display)
	if err := terminal.command.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = terminal.command.Wait() // it was killed
	h.outcome("without a terminal", "/api/void/passkey", h.byPasskey(qr, user, v), outcomeOnPhone{Verified: true, State: "AUTHORIZED", Result: "AUTHORIZED", TriesLeft: 3})
	out := l.must(l.args("t-1", "--payment", "killed", "--phone")...)
	l.shows(out, "a void is not finished", "VOIDED", "PHONE_PASSKEY dora")
	l.once("killed")

	_, err := l.command("", l.args("t-1", "--phone")...)
	refusedBy(t, "a phone without a payment", err, "--payment")
	if strings.Contains(l.logged(), h.pin) {
		t.Error("a log holds the PIN")
	}
}
