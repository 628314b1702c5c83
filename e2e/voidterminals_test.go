package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	keydv1 "keyd/api/keyd/v1"
	"keyd/pinrecord"
)

// Voids at terminals of other kinds: TDES DUKPT in both formats, a supervisor of one terminal, a
// cardholder by IBM 3624 alone and with a supervisor, and key serial numbers that are accepted once,
// for whichever of the services that take them.
func TestVoidsAtOtherTerminals(t *testing.T) {
	ofRecords := func(k *testKey) { k.PINKind, k.Direction = "record", "incoming" }
	ring := &keyring{names: map[string]string{}}
	tdesBDK := ring.add("B0", "T", "X", "89E15C0B3D7A2F466D4A91C35E0B7F28", ofRecords)
	onceBDK := ring.add("B0", "A", "X", "3B7C90D1E2F5A4481627384950A1B2C3", ofRecords, once)
	dir := filepath.Join(tempDir(t), "dev")
	c := &counter{shop: &shop{service: startWith(t, dir, nil, ring.keys...), papers: tempDir(t)}, pin: randomPIN(t)}
	c.must("pin", "prepare", "--dir", dir)
	c.must("void", "prepare", "--dir", dir)
	c.entered("set", dora, true, c.begin("enrol", "1"), c.pin)
	const amount, large = 12300, 300000
	subject := supervisorOf("dora")
	pad := func(bdk string, s pinrecord.Subject, pin string, n uint32) *terminal {
		d := newTerminal(t, ring, bdk, n)
		d.pin, d.pan = pin, s.Number()
		return d
	}
	pins := keydv1.NewPinRecordServiceClient(c.connect(c.tls("switch")))

	for i, iso3 := range []bool{false, true} { // TDES DUKPT
		reference := []string{"pay-iso0", "pay-iso3"}[i]
		id := c.scanned(reference, amount)
		d := pad(tdesBDK, subject, c.pin, 1)
		d.iso3 = iso3
		n := uint32(3 * i)
		if a, err := pins.VerifyPin(c.ctx(), &keydv1.VerifyPinRequest{Subject: named(subject), Pin: d.entry(n + 1)}); err != nil || !a.Verified {
			t.Errorf("%s: %v, %v", reference, a, err)
		}
		digest := digestFor(t, fieldsOf(id, reference, amount))
		unbound := d.bound(n+2, digest)
		unbound.Mac[0] ^= 1
		a, err := c.send(id, "unbound", amount, whose(subject, unbound))
		if err != nil {
			t.Fatal(err)
		}
		c.is(c.without(a), keydv1.Void_SCANNED, "NOT_VERIFIED", "TRY_AGAIN", "OTHER_METHOD", "OTHER_MEANS")
		if a, err = c.send(id, "bound", amount, whose(subject, d.bound(n+3, digest))); err != nil || !a.Verified || a.Token == "" {
			t.Errorf("%s: %v, %v", reference, a, err)
		}
	}

	// A supervisor of one terminal, and somebody whom nobody knows, at another one.
	tom := pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "m-17", Terminal: "t-1", Name: "tom"}
	bound := &shop{service: c.service, papers: tempDir(t), of: []string{"--merchant", "m-17", "--terminal", "t-1", "--name", "tom"}}
	tomsPIN := randomPIN(t)
	bound.entered("set", bound.of, true, bound.begin("enrol", "1"), tomsPIN)
	id := c.scanned("pay-tom", amount)
	if a, err := c.send(id, "tom", amount, whose(tom, padOf(t, tom, tomsPIN, 5).bound(1, digestFor(t, fieldsOf(id, "pay-tom", amount))))); err != nil || !a.Verified {
		t.Errorf("at his terminal: %v, %v", a, err)
	}
	elsewhere, code := c.createdAt("t-2", "pay-elsewhere", amount)
	c.asked(new(keydv1.Void), code, "scan", "--merchant", "m-17")
	fields := fieldsOf(elsewhere, "pay-elsewhere", amount)
	fields.Terminal = "t-2"
	nobody := tom
	nobody.Name = "nobody"
	said := map[string]string{}
	for n, s := range []pinrecord.Subject{tom, nobody} {
		_, err := c.send(elsewhere, s.Name, amount, whose(s, padOf(t, s, tomsPIN, 6).bound(uint32(n+1), digestFor(t, fields))))
		said[s.Name] = reason(err)
	}
	if said["tom"] != "REQUEST_INVALID" || said["nobody"] != said["tom"] {
		t.Errorf("at another terminal: %v", said)
	}
	if a, err := c.send(elsewhere, "dora", amount, whose(subject, padOf(t, subject, c.pin, 6).bound(3, digestFor(t, fields)))); err != nil || !a.Verified {
		t.Errorf("one of the whole merchant: %v, %v", a, err)
	}

	// A cardholder by IBM 3624.
	const right, wrong = "4711", "4712"
	datum := offset(offsetOf(t, pvkIBM, testPAN, right, len(right)))
	card := newTerminal(t, sampled, "bdk-aes", 1)
	card.pan = testPAN
	cardholder := func(pin string, counter uint32, id, reference string, amount int64) *keydv1.VoidPinEntry {
		card.pin = pin
		e := card.bound(counter, digestFor(t, fieldsOf(id, reference, amount)))
		e.Whose = &keydv1.VoidPinEntry_Cardholder{Cardholder: &keydv1.CardholderPin{VerificationKeyId: "pvk-ibm", PrimaryAccountNumber: testPAN, Expected: datum}}
		return e
	}
	id = c.scanned("pay-card", amount)
	a, err := c.send(id, "wrong", amount, cardholder(wrong, 1, id, "pay-card", amount))
	if err != nil {
		t.Fatal(err)
	}
	c.is(c.without(a), keydv1.Void_SCANNED, "NOT_VERIFIED", "TRY_AGAIN", "OTHER_METHOD", "OTHER_MEANS")
	if a, err = c.send(id, "right", amount, cardholder(right, 2, id, "pay-card", amount)); err != nil || !a.Verified {
		t.Errorf("by IBM 3624: %v, %v", a, err)
	}
	id = c.scanned("pay-both", large)
	dorasAt := func(counter uint32) *keydv1.VoidPinEntry {
		return whose(subject, pad(tdesBDK, subject, c.pin, 2).bound(counter, digestFor(t, fieldsOf(id, "pay-both", large))))
	}
	if a, err = c.send(id, "one-wrong", large, cardholder(wrong, 3, id, "pay-both", large), dorasAt(1)); err != nil {
		t.Fatal(err)
	}
	c.is(c.without(a), keydv1.Void_SCANNED, "NOT_VERIFIED", "TRY_AGAIN", "OTHER_METHOD", "OTHER_MEANS")
	if a, err = c.send(id, "both", large, cardholder(right, 4, id, "pay-both", large), dorasAt(2)); err != nil || !a.Verified {
		t.Errorf("both: %v, %v", a, err)
	}
	if out, err := c.verify(a.GetToken(), "void-tokens.pem", id, "pay-both", large, "SUPERVISOR_PIN+CARDHOLDER_PIN"); err != nil || !strings.Contains(out, "CARDHOLDER_PIN by cardholder") {
		t.Errorf("the token: %s, %v", out, err)
	}

	// A key serial number that one service has accepted is no good at the other.
	id = c.scanned("pay-once", amount)
	digest := digestFor(t, fieldsOf(id, "pay-once", amount))
	d := pad(onceBDK, subject, c.pin, 1)
	verify := func(counter uint32) (bool, string) {
		a, err := pins.VerifyPin(c.ctx(), &keydv1.VerifyPinRequest{Subject: named(subject), Pin: d.entry(counter)})
		return a.GetVerified(), reason(err)
	}
	if ok, why := verify(1); !ok || why != "OK" {
		t.Errorf("%t, %s", ok, why)
	}
	if _, err := c.send(id, "replayed", amount, whose(subject, d.bound(1, digest))); reason(err) != "KSN_REPLAYED" {
		t.Errorf("verified before: %v", err)
	}
	if a, err = c.send(id, "fresh", amount, whose(subject, d.bound(2, digest))); err != nil || !a.Verified {
		t.Errorf("%v, %v", a, err)
	}
	if again, err := c.send(id, "fresh", amount, whose(subject, d.bound(2, digest))); err != nil || again.Token != a.GetToken() {
		t.Errorf("the same request: %v", err)
	}
	if _, why := verify(2); why != "KSN_REPLAYED" {
		t.Errorf("authorised before: %s", why)
	}
	if ok, why := verify(3); !ok || why != "OK" {
		t.Errorf("%t, %s", ok, why)
	}
	c.stands("active")
}

// createdAt is created, for another terminal.
func (c *counter) createdAt(terminal, reference string, amount int64) (id, code string) {
	c.t.Helper()
	a := new(keydv1.CreateVoidResponse)
	c.asked(a, "", append([]string{"create", "--terminal", terminal, "--reference", reference}, facts(amount)...)...)
	return a.Void.VoidId, a.Code
}

// A PIN that is revoked at one host of a fleet, or reset there, is dead at the other at once: in the
// very next request.
func TestRevocationOnOtherHosts(t *testing.T) {
	_, hosts := newCounters(t)
	one, two := hosts[0], hosts[1]
	subject := supervisorOf("dora")
	pins := keydv1.NewPinRecordServiceClient(two.connect(two.tls("switch")))
	counter := uint32(0)
	right := func(pin string) bool {
		t.Helper()
		counter++
		a, err := pins.VerifyPin(two.ctx(), &keydv1.VerifyPinRequest{Subject: named(subject), Pin: padOf(t, subject, pin, 1).entry(counter)})
		if err != nil {
			t.Fatal(err)
		}
		return a.Verified
	}
	if !right(one.pin) {
		t.Fatal("at the other host it is refused")
	}
	next := randomPIN(t)
	code := one.begin("reset", "2")
	if right(one.pin) {
		t.Error("a PIN that is being reset is good at the other host")
	}
	one.entered("set", dora, true, code, next)
	if !right(next) || right(one.pin) {
		t.Error("the other host does not go by the new one")
	}
	one.must(append([]string{"pin", "revoke", "--reason", "has left", "--dir", one.dir}, dora...)...)
	if right(next) {
		t.Error("a PIN that was revoked is good at the other host")
	}
	two.stands("revoked")
}
