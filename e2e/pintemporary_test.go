package e2e

import (
	"strings"
	"testing"
	"time"

	keydv1 "keyd/api/keyd/v1"
)

// A temporary PIN is good until its end, and answered like a wrong one afterwards, whatever it is
// tried for. Who may know sees why.
func TestTemporaryPINs(t *testing.T) {
	c := newCounter(t)
	const amount = 12300
	first, second := c.approved("reset", "2")
	for what, end := range map[string]time.Time{"the past": time.Now().Add(-time.Second), "1970": time.Unix(1, 0)} {
		if out, err := c.command("", "pin", "begin", first, second, "--code-out", first+"-none", "--not-after", end.UTC().Format(time.RFC3339), "--dir", c.dir); err == nil || !strings.Contains(err.Error(), "REQUEST_INVALID") {
			t.Errorf("an end in %s: %s, %v", what, out, err)
		}
	}
	c.stands("active") // nothing of it has begun

	id := c.scanned("pay-1", amount)
	digest := digestFor(t, fieldsOf(id, "pay-1", amount))
	subject := supervisorOf("dora")
	next := randomPIN(t)
	conn := c.connect(c.tls("switch"))
	pins, voids := keydv1.NewPinRecordServiceClient(conn), keydv1.NewVoidServiceClient(conn)
	counter := uint32(0)
	entry := func(pin string) *keydv1.PinEntry {
		counter++
		return padOf(t, subject, pin, 1).entry(counter)
	}
	verified := func(pin string) bool {
		t.Helper()
		a, err := pins.VerifyPin(c.ctx(), &keydv1.VerifyPinRequest{Subject: named(subject), Pin: entry(pin)})
		if err != nil {
			t.Fatal(err)
		}
		return a.Verified
	}
	changed := func(pin, to string) bool {
		t.Helper()
		a, err := pins.ChangePin(c.ctx(), &keydv1.ChangePinRequest{Subject: named(subject), Current: entry(pin), Pin: entry(to)})
		if err != nil {
			t.Fatal(err)
		}
		return a.Verified
	}
	// The end is whole seconds, as commands have it.
	end := time.Now().Add(8 * time.Second).Truncate(time.Second)
	until := []string{"--not-after", end.UTC().Format(time.RFC3339)}
	c.entered("set", dora, true, c.handIn(first, second, until...), c.pin)
	if !verified(c.pin) || !changed(c.pin, next) || !verified(next) {
		t.Error("before its end it is refused")
	}
	other := c.scanned("pay-2", amount)
	a, err := voids.AuthorizeVoid(c.ctx(), authorization(other, "before", amount, whose(subject, padOf(t, subject, next, 2).bound(1, digestFor(t, fieldsOf(other, "pay-2", amount))))))
	if err != nil || !a.Verified {
		t.Errorf("a void before its end: %v, %v", a, err)
	}
	record := func() *keydv1.PinRecord {
		t.Helper()
		r, err := keydv1.NewPinRecordServiceClient(c.connect(c.tls("officer-1"))).GetPinRecord(c.ctx(), &keydv1.GetPinRecordRequest{Subject: named(subject)})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := record(); r.State != keydv1.PinRecord_ACTIVE || !r.NotAfter.AsTime().Equal(end) {
		t.Errorf("after a change it is %v until %v, want %v", r.State, r.NotAfter.AsTime(), end)
	}
	waitUntil(t, "its time is over", func() bool { return record().State == keydv1.PinRecord_ENDED })
	if verified(next) || changed(next, c.pin) {
		t.Error("after its end it is good")
	}
	if a, err = voids.AuthorizeVoid(c.ctx(), authorization(id, "after", amount, whose(subject, padOf(t, subject, next, 2).bound(2, digest)))); err != nil {
		t.Fatal(err)
	}
	c.is(c.without(a), keydv1.Void_SCANNED, "NOT_VERIFIED", "TRY_AGAIN", "OTHER_METHOD", "OTHER_MEANS")
	if r := record(); r.TriesLeft != 0 || r.State != keydv1.PinRecord_ENDED {
		t.Errorf("it is %v with %d tries", r.State, r.TriesLeft)
	}
	if history := c.must(append([]string{"pin", "history", "--dir", c.dir}, dora...)...); !strings.Contains(history, "version 2 until "+end.UTC().Format(time.RFC3339)) {
		t.Errorf("the history does not say why:\n%s", history)
	}

	// One whose end comes before it was set is not set any more, and what follows on it is good.
	end = time.Now().Add(2 * time.Second).Truncate(time.Second)
	code := c.begin("reset", "4", "--not-after", end.UTC().Format(time.RFC3339))
	waitUntil(t, "its time is over", func() bool { return time.Now().After(end) })
	c.entered("set", dora, false, code, c.pin)
	c.entered("set", dora, true, c.begin("reset", "5"), c.pin)
	if !verified(c.pin) {
		t.Error("the one that has no end is refused")
	}
}
