package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	keydv1 "keyd/api/keyd/v1"
)

// keyd void authorize takes a supervisor's PIN and a cardholder's, from two PIN pads, of AES and of
// TDES, verified by a PVV and by an offset.
func TestTwoPINsAtTheCommand(t *testing.T) {
	c := newCounter(t)
	const amount, pin = 300000, "4711"
	pad := func(name string) string { return filepath.Join(c.dir, "terminals", name+".json") }
	authorize := func(a *keydv1.AuthorizeVoidResponse, id, typed string, more ...string) error {
		args := append([]string{"authorize", id, "--name", "dora", "--state", pad("supervisor"), "--bdk", "bdk-supervisor"}, facts(amount)...)
		return c.ask(a, typed, append(args, more...)...)
	}
	for reference, card := range map[string][]string{
		"pvv-aes":     {"--cardholder-state", pad("aes"), "--cardholder-bdk", "bdk-aes", "--verification-key", "pvk-visa", "--pvv", pvvOf(t, pvkVisa, testPAN, 1, pin)},
		"offset-tdes": {"--cardholder-state", pad("tdes"), "--cardholder-bdk", "bdk-tdes", "--cardholder-format", "0", "--verification-key", "pvk-ibm", "--offset", offsetOf(t, pvkIBM, testPAN, pin, len(pin))},
		"offset-3":    {"--cardholder-state", pad("tdes"), "--cardholder-bdk", "bdk-tdes", "--cardholder-format", "3", "--verification-key", "pvk-ibm", "--offset", offsetOf(t, pvkIBM, testPAN, pin, len(pin))},
	} {
		card = append(card, "--cardholder", testPAN)
		id := c.scanned(reference, amount)
		wrong := new(keydv1.AuthorizeVoidResponse)
		if err := authorize(wrong, id, c.pin+"\n4712", card...); err != nil {
			t.Fatalf("%s: %v", reference, err)
		}
		c.is(c.without(wrong), keydv1.Void_SCANNED, "NOT_VERIFIED", "TRY_AGAIN", "OTHER_METHOD", "OTHER_MEANS")
		a := new(keydv1.AuthorizeVoidResponse)
		if err := authorize(a, id, c.pin+"\n"+pin, card...); err != nil || !a.Verified {
			t.Fatalf("%s: %v, %v", reference, a, err)
		}
		if out, err := c.verify(a.Token, "void-tokens.pem", id, reference, amount, "SUPERVISOR_PIN+CARDHOLDER_PIN"); err != nil || !strings.Contains(out, "CARDHOLDER_PIN by cardholder") {
			t.Errorf("%s: the token: %s, %v", reference, out, err)
		}
	}

	id := c.scanned("flags", amount)
	a := new(keydv1.AuthorizeVoidResponse)
	there := []string{"--cardholder", testPAN, "--cardholder-state", pad("aes"), "--cardholder-bdk", "bdk-aes", "--verification-key", "pvk-visa"}
	refusedBy(t, "no value", authorize(a, id, c.pin+"\n"+pin, there...), "with --verification-key and --pvv or --offset")
	refusedBy(t, "two values", authorize(a, id, c.pin+"\n"+pin, append(there, "--pvv", "1234", "--offset", "1234")...), "none of the others can be")
	refusedBy(t, "no card", authorize(a, id, c.pin+"\n"+pin, "--pvv", "1234"), "name the card with --cardholder")
	refusedBy(t, "no pad", authorize(a, id, c.pin+"\n"+pin, "--cardholder", testPAN, "--verification-key", "pvk-visa", "--pvv", "1234"), "cardholder-bdk")
	refusedBy(t, "one line", authorize(a, id, c.pin, append(there, "--pvv", "1234")...), "standard input has a line each for")
	refusedBy(t, "a pad for supervisors", authorize(a, id, c.pin+"\n"+pin, "--cardholder", testPAN, "--cardholder-state", pad("supervisor"), "--cardholder-bdk", "bdk-supervisor", "--verification-key", "pvk-visa", "--pvv", "1234"), "KEY_USAGE_MISMATCH")

	// Neither PIN is shown.
	console := openConsole(t, append([]string{"void", "authorize", id, "--name", "dora", "--state", pad("supervisor"), "--bdk", "bdk-supervisor", "--dir", c.dir, "--pvv", pvvOf(t, pvkVisa, testPAN, 1, pin)}, append(facts(amount), there...)...)...)
	console.expect("PIN for 3000.00 CNY of m-17: ")
	console.say(c.pin)
	console.expect("Cardholder's PIN: ")
	console.say(pin)
	if status, screen := console.end(); status != 0 || strings.Contains(screen, c.pin) || strings.Contains(screen, "\n"+pin) || !strings.Contains(screen, "authorized (AUTHORIZED)") {
		t.Errorf("status %d\n%s", status, screen)
	}
}
