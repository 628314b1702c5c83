package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
)

// of is the shop as somebody else's PIN is about.
func (p *shopAt) of(name string) *shop {
	return &shop{service: p.s, papers: tempDir(p.machine.t), of: []string{"--merchant", "m-17", "--name", name}}
}

// enrolled gives a supervisor a first PIN.
func (p *shopAt) enrolled(name, pin string) {
	s := p.of(name)
	s.entered("set", s.of, true, s.begin("enrol", "1"), pin)
}

// tried insists on whether a supervisor's PIN is right.
func (p *shopAt) tried(what, name, pin string, want bool) {
	p.machine.t.Helper()
	out, err := p.enter("verify", p.of(name).of, pin)
	if right := err == nil && fieldOf(out, "verified") == "true"; err != nil || right != want {
		p.machine.t.Errorf("%s: the PIN of %s is right %t, want %t (%v)", what, name, right, want, err)
	}
}

// fieldOf returns what a command prints behind a word.
func fieldOf(out, word string) string {
	fields := strings.Fields(out)
	for i := range len(fields) - 1 {
		if fields[i] == word {
			return fields[i+1]
		}
	}
	return ""
}

// A database that is restored to an older state brings no PIN back to life that was reset, changed or
// revoked since, as long as the host's ledger is there; what was blocked stays so. Voids are as they
// were, and an authorised one has the token that it had. On another host, with another token and no
// ledger, officers stop the datum key with the takeover, and every PIN is dead until it is reset.
func TestRestoreOfVoidsAndPINs(t *testing.T) {
	p := newShopAt(t)
	const amount = 12300
	pins := map[string][2]string{}
	for _, name := range []string{"stays", "reset", "changed", "revoked", "blocked", "later"} {
		pins[name] = [2]string{randomPIN(t), randomPIN(t)}
		p.enrolled(name, pins[name][0])
	}
	const wrong = "975310"
	for range 3 {
		p.tried("wrong", "blocked", wrong, false)
	}
	id := p.scanned("pay-1", amount)
	a := p.authorize(id, "before", p.pin, amount)
	open, openCode := p.created("pay-2", amount)
	backup := filepath.Join(p.machine.dir, "keyd.backup")
	p.run(0, keydBinary, append([]string{"backup", "--out", backup}, p.client("officer-1")...)...)

	reset := p.of("reset")
	reset.entered("set", reset.of, true, reset.begin("reset", "2"), pins["reset"][1])
	if out, err := p.enter("change", p.of("changed").of, pins["changed"][0], pins["changed"][1]); err != nil || fieldOf(out, "verified") != "true" {
		t.Fatalf("%s, %v", out, err)
	}
	p.command(append([]string{"pin", "revoke", "--reason", "has left"}, p.of("revoked").of...)...)
	for range 3 {
		p.tried("wrong", "later", wrong, false)
	}
	v := new(keydv1.Void)
	p.asked(v, "", "confirm", id)
	p.is(v, keydv1.Void_CONFIRMED, "CONFIRMED", "GO_ON")
	p.asked(v, openCode, "scan", "--merchant", "m-17")
	p.s.stop()

	// The database is lost; token and ledger are not.
	p.clear()
	p.expect(p.run(0, keydBinary, "restore", "--config", p.conf, "--backup", backup, "--tries", "anew"), "has this register")
	p.start()
	p.again()
	refusedBy(t, "before officers accept it", p.ask(v, openCode, "scan", "--merchant", "m-17"), "EPOCH_STALE")
	p.adopt("")
	p.tried("restored", "stays", pins["stays"][0], true)
	for _, name := range []string{"reset", "changed", "revoked"} {
		p.tried("restored, the one before", name, pins[name][0], false)
		p.tried("restored, the one after", name, pins[name][1], false)
	}
	p.tried("restored", "blocked", pins["blocked"][0], false)
	p.of("blocked").stands("blocked")
	for range 3 { // as many tries as there were when the backup was made, and not one more
		p.tried("restored, wrong", "later", wrong, false)
	}
	p.tried("restored, blocked again", "later", pins["later"][0], false)
	// What was used up once is not begun again: the next number is.
	first, second := p.of("reset").approved("reset", "2")
	refusedBy(t, "a version that was begun before", p.refusal("pin", "begin", first, second, "--code-out", first+"-code"), "PIN_RECORD")
	third := p.of("reset")
	third.entered("set", third.of, true, third.begin("reset", "3"), pins["reset"][1])
	p.tried("reset anew", "reset", pins["reset"][1], true)

	p.asked(v, "", "show", id)
	if v.State != keydv1.Void_AUTHORIZED {
		t.Errorf("the void that was confirmed since is %v", v.State)
	}
	if again := p.authorize(id, "before", p.pin, amount); again.Token != a.Token {
		t.Error("the same request gets another token")
	}
	p.asked(v, "", "confirm", id)
	p.is(v, keydv1.Void_CONFIRMED, "CONFIRMED", "GO_ON")
	p.asked(v, openCode, "scan", "--merchant", "m-17") // it was scanned since
	p.is(v, keydv1.Void_SCANNED, "SCANNED", "AUTHORIZE", "OTHER_MEANS")

	// The machine is lost, and the ledger with it.
	p.run(0, keydBinary, append([]string{"backup", "--out", backup + ".2"}, p.client("officer-1")...)...)
	p.s.stop()
	p.clear()
	p.must(os.Remove(filepath.Join(p.machine.dir, "front.ledger")))
	p.lose()
	p.expect(p.run(0, keydBinary, "restore", "--config", p.conf, "--backup", backup+".2", "--tries", "anew"), "takes the register over")
	p.start()
	p.again()
	p.adopt("stopped: [\"pin-records?version=1\"]\n")
	refusedBy(t, "the datum key is stopped", p.refusal(append([]string{"pin", "verify", "--state", p.file("terminals", "supervisor.json"), "--bdk", "bdk-supervisor"}, p.of("stays").of...)...), "KEY_DISABLED")
	d := newDeskOf(t, p.s, p.machine.papers(""))
	d.carryOut(&ceremony.Definition{Kind: ceremony.Create, Key: datumKey(2)})
	stays := p.of("stays")
	stays.entered("set", stays.of, true, stays.begin("reset", "2"), pins["stays"][1])
	p.tried("another host, the one before", "stays", pins["stays"][0], false)
	p.tried("another host, the one after", "stays", pins["stays"][1], true)
	for _, name := range []string{"changed", "revoked", "later"} {
		if out, err := p.enter("verify", p.of(name).of, pins[name][0]); err == nil && fieldOf(out, "verified") == "true" {
			t.Errorf("another host: the PIN of %s is good", name)
		}
	}
	// Key pairs have stayed in the lost token. Its tokens are good as long as the switch has the key.
	refusedBy(t, "no pair", p.ask(new(keydv1.CreateVoidResponse), "", append([]string{"create", "--terminal", "t-1", "--reference", "pay-3"}, facts(amount)...)...), "KEY_SEAL_INVALID")
	for _, name := range []string{"void-codes", "void-tokens"} {
		d.carryOut(&ceremony.Definition{Kind: ceremony.Create, Key: signingPair(name, 2), Overlap: 3600})
	}
	keys := p.read(p.file("voids", "void-tokens.pem"))
	known, err := filepath.Glob(p.file("officers", "*.known.json"))
	p.must(err)
	for _, file := range known { // the officers confirm the new token like the first
		p.must(os.Remove(file))
	}
	p.command("void", "prepare")
	if again := p.authorize(id, "before", pins["stays"][1], amount); again.Token != a.Token {
		t.Error("another host gives another token to the same request")
	}
	token, err := p.authorizedAs("stays", pins["stays"][1], open, "pay-2", amount)
	if err != nil || token == "" {
		t.Fatalf("another host: %v", err)
	}
	p.signedBy(token, open, "pay-2", amount, p.read(p.file("voids", "void-tokens.pem")), keys)
}

// refusal is why a command of the shop fails; a PIN is typed where it asks for one.
func (p *shopAt) refusal(args ...string) error {
	_, err := p.counter.command("975310\n", append(args, "--dir", p.s.dir)...)
	return err
}

// authorizedAs authorises a void by the PIN of a supervisor.
func (p *shopAt) authorizedAs(name, pin, id, reference string, amount int64) (string, error) {
	subject := supervisorOf(name)
	e := whose(subject, padOf(p.machine.t, subject, pin, 77).bound(1, digestFor(p.machine.t, fieldsOf(id, reference, amount))))
	a, err := keydv1.NewVoidServiceClient(p.s.connect(p.s.tls("switch"))).AuthorizeVoid(p.s.ctx(), authorization(id, "as-"+name, amount, e))
	return a.GetToken(), err
}
