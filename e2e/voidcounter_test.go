package e2e

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	keydv1 "keyd/api/keyd/v1"
)

// The whole flow, as the manual has it: what terminals show, what the switch does, and what keyd has of
// it, with a real service, a real token and PINs of two people.
func TestVoidsAtTheCounter(t *testing.T) {
	l := newTill(t)
	l.terminal("t-aes", "m-17", "dev-aes")
	l.terminal("t-tdes", "m-17", "dev-tdes")
	l.terminal("t-other", "m-18", "dev-aes")
	const small, large, pin = 12300, 300000, "4711"
	pvv := map[string]any{"pan": testPAN, "verification_key": "pvk-visa", "key_index": 1, "pvv": pvvOf(t, pvkVisa, testPAN, 1, pin)}
	offset := map[string]any{"pan": testPAN, "verification_key": "pvk-ibm", "offset": offsetOf(t, pvkIBM, testPAN, pin, len(pin))}
	for _, p := range []string{"supervisor", "tdes-0", "cancelled", "no-pin", "elsewhere", "scanned", "declined", "foreign", "typing"} {
		l.paid(p, small, nil)
	}
	l.paid("both", large, pvv)
	l.paid("alone", large, offset)
	l.paid("both-tdes", large, offset)
	l.paid("cardholder", small, pvv)
	l.paid("session", small, offset)
	l.paid("huge", 600000, nil)
	l.serve()

	// A wrong PIN, then the right one.
	out, err := l.voids("t-aes", "supervisor", "000001\ny\n"+l.pin+"\ny\n")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l.shows(out, "1 switch on: connected", "2 choose void", "▀▀▀▀▀▀▀", "3 scan: the code is good", "4 amount:", "m-17", "******isor", "123.00 CNY", "5 PIN: Supervisor's PIN", "6 confirm:", "sent.",
		"wrong PIN, tries left: 2", "try again slowly", "5 PIN:", "6 confirm:", "7 wait: VOIDED", "VOID", "merchant  m-17", "payment  ******isor", "amount  -123.00 CNY", "authorised  SUPERVISOR_PIN dora", "8 go on: go on with the sale")
	if strings.Contains(out, l.pin) || strings.Contains(out, "000001") {
		t.Error("the display shows a PIN")
	}
	l.once("supervisor")
	out, err = l.voids("t-aes", "supervisor", "")
	refusedBy(t, "once more", err, "ALREADY_VOIDED")
	if exitStatus(err) != 3 {
		t.Errorf("status %d", exitStatus(err))
	}
	l.shows(out, "ALREADY VOIDED", "go on with the sale")

	// The other terminals and PINs, and the display in Chinese.
	for _, try := range []struct {
		id, reference, typed string
		flags, want          []string
	}{
		{"t-tdes", "tdes-0", l.pin + "\ny\n", nil, []string{"SUPERVISOR_PIN dora"}},
		{"t-aes", "both", l.pin + "\n" + pin + "\n", []string{"--cardholder", testPAN, "--yes"}, []string{"SUPERVISOR_PIN dora", "CARDHOLDER_PIN cardholder"}},
		{"t-tdes", "both-tdes", l.pin + "\n" + pin + "\n", []string{"--cardholder", testPAN, "--yes", "--format", "3"}, []string{"SUPERVISOR_PIN dora", "CARDHOLDER_PIN cardholder"}},
	} {
		out, err := l.voids(try.id, try.reference, try.typed, append(try.flags, "--lang", "zh")...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", try.reference, err, out)
		}
		l.shows(out, append([]string{"1 开机: 已联网", "4 核对金额", "5 输入密码: 主管密码", "6 确认", "7 等待: 已撤销", "撤销凭条"}, append(try.want, "8 继续收款: 继续收款，并保存小票")...)...)
		l.once(try.reference)
	}
	alone := func(id, reference, typed string, more ...string) (string, error) {
		return l.command(typed, l.args(id, append([]string{"--payment", reference, "--cardholder", testPAN, "--yes"}, more...)...)...)
	}
	if out, err = alone("t-aes", "cardholder", "4712\n"+pin+"\n"); err != nil {
		t.Fatalf("a cardholder alone: %v\n%s", err, out)
	}
	l.shows(out, "Cardholder's PIN", "tries left: 2", "CARDHOLDER_PIN cardholder")
	l.must("terminal", "simulate", "sign-in", "--state", l.path("t-tdes"), "--dir", l.dir)
	if out, err = alone("t-tdes", "session", pin+"\n", "--session"); err != nil {
		t.Fatalf("under session keys: %v\n%s", err, out)
	}
	l.once("session")

	// What does not come to an end.
	out, err = l.voids("t-aes", "cancelled", l.pin+"\nn\n")
	refusedBy(t, "cancelled", err, "the void is cancelled")
	l.shows(out, "6 confirm", "CANCELLED", "begin again")
	out, err = l.voids("t-aes", "no-pin", "\n")
	refusedBy(t, "no PIN", err, "the void is cancelled")
	l.shows(out, "5 PIN", "CANCELLED")
	_, err = l.voids("t-aes", "no-pin", l.pin+"\n", "--session")
	refusedBy(t, "a supervisor under session keys", err, "a session key carries no supervisor's PIN")
	if out, err = l.voids("t-aes", "no-pin", l.pin+"\ny\n"); err != nil { // what waits goes on, without the flag
		t.Errorf("after it: %v\n%s", err, out)
	}
	l.shows(out, "2 choose void: a void is not finished", "VOIDED")
	out, err = l.voids("t-aes", "huge", "")
	refusedBy(t, "too much", err, "ABOVE_LIMIT")
	l.shows(out, "ABOVE THE LIMIT")
	for _, reference := range []string{"cancelled", "huge"} {
		l.never(reference)
	}

	_, err = l.voids("t-aes", "elsewhere", "")
	refusedBy(t, "nobody types", err, "standard input has ended")
	if _, err = l.command("\n", l.args("t-aes", "--supervisor", "dora")...); err == nil {
		t.Error("cancelled, and carried out")
	}
	// What a supervisor alone cannot approve waits for somebody elsewhere, and goes on with the cardholder.
	waiting := l.start(t, l.pin+"\ny\n", l.args("t-aes", "--payment", "alone", "--supervisor", "dora")...)
	waitUntil(t, "the void is scanned", func() bool {
		list := new(keydv1.ListVoidsResponse)
		l.asked(list, "", "list", "--merchant", "m-17", "--state", "scanned")
		return slices.ContainsFunc(list.Voids, func(v *keydv1.Void) bool { return v.Reference == "alone" })
	})
	if err := waiting.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = waiting.command.Wait() // it was killed
	if out, err = l.voids("t-aes", "alone", l.pin+"\n"+pin+"\ny\n", "--cardholder", testPAN); err != nil {
		t.Errorf("with the cardholder: %v\n%s", err, out)
	}
	l.once("alone")

	// Nobody speaks for another terminal or shop.
	_, err = l.voids("t-other", "foreign", l.pin+"\ny\n")
	refusedBy(t, "another merchant's payment", err, "no such payment of this merchant's")
	id, code := l.createdAt("t-aes", "foreign", small)
	_, err = l.command(code+"\n"+l.pin+"\ny\n", l.args("t-tdes", "--supervisor", "dora")...)
	refusedBy(t, "another terminal's code", err, "the code is for terminal t-aes")
	l.must("void", "cancel", id, "--dir", l.dir)
	l.forget("t-tdes")
	l.never("foreign")

	// The code comes from elsewhere, in a file; the PIN has no echo.
	_, code = l.createdAt("t-aes", "typing", small)
	if err := os.WriteFile(l.path("code"), []byte(code+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	console := openConsole(t, l.args("t-aes", "--code", l.path("code"), "--supervisor", "dora")...)
	console.expect("PIN: ")
	console.say(l.pin)
	console.expect("y/n: ")
	console.say("y")
	if status, screen := console.end(); status != 0 || strings.Contains(screen, l.pin) || !strings.Contains(screen, "VOIDED") {
		t.Errorf("status %d, the screen shows the PIN: %t\n%s", status, strings.Contains(screen, l.pin), screen)
	}
	l.once("typing")

	// Three wrong PINs: this void is declined, and the supervisor's PIN is blocked.
	out, err = l.voids("t-aes", "declined", "000001\n000001\n000001\n", "--yes")
	refusedBy(t, "three wrong PINs", err, "the void is declined (TRIES_USED_UP)")
	l.shows(out, "tries left: 2", "tries left: 1", "DECLINED. Nothing was taken back", "use another means of payment")
	l.never("declined")
	l.stands("blocked")

	text, err := os.ReadFile(l.path("journal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{l.pin, testPAN} {
		if strings.Contains(string(text), secret) || strings.Contains(l.logged(), secret) {
			t.Error("the journal or a log holds a PIN or a card's number")
		}
	}
	if err := l.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := l.process.Wait(); err != nil {
		t.Errorf("the switch after SIGTERM: %v", err)
	}
	out, err = l.command("", l.args("t-aes", "--payment", "scanned", "--supervisor", "dora", "--timeout", "1s")...)
	if exitStatus(err) != 4 || !strings.Contains(err.Error(), "call the acquirer") || strings.Contains(out, "connected") {
		t.Errorf("without a switch: %v\n%s", err, out)
	}
}
