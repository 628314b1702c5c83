package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
	"keyd/officer"
	"keyd/policies"
	"keyd/voidtoken"
)

// shopAt is a production service of one host at which a shop may void payments.
type shopAt struct {
	*machine
	*counter
}

func newShopAt(t *testing.T) *shopAt {
	t.Helper()
	m := newMachineWith(t, string(policies.Dev))
	p := &shopAt{machine: m}
	p.again()
	newDeskOf(t, m.s, m.papers("")).furnish(m.production)
	p.command("pin", "prepare")
	p.command("void", "prepare")
	p.pin = randomPIN(t)
	p.entered("set", dora, true, p.begin("enrol", "1"), p.pin)
	return p
}

// again has the commands of the shop find the service that runs now.
func (p *shopAt) again() {
	p.must(os.WriteFile(filepath.Join(p.s.dir, "address"), []byte(p.s.address+"\n"), 0o644))
	was := p.counter
	p.counter = &counter{shop: &shop{service: p.s, papers: tempDir(p.machine.t)}}
	if was != nil {
		p.pin = was.pin
	}
}

func (p *shopAt) must(err error)         { p.machine.must(err) }
func (p *shopAt) command(args ...string) { p.counter.must(append(args, "--dir", p.s.dir)...) }

// verified says whether a supervisor's PIN is right, at a device with a counter.
func (p *shopAt) verified(pin string, bdk string, d *terminal, counter uint32) (bool, error) {
	subject := supervisorOf("dora")
	d.pin, d.pan, d.bdk = pin, subject.Number(), bdk
	a, err := keydv1.NewPinRecordServiceClient(p.s.connect(p.s.tls("switch"))).VerifyPin(p.s.ctx(), &keydv1.VerifyPinRequest{Subject: named(subject), Pin: d.entry(counter)})
	return a.GetVerified(), err
}

// authorizedAt authorises a void at a device.
func (p *shopAt) authorizedAt(id, reference, bdk string, amount int64, d *terminal, counter uint32) (string, error) {
	subject := supervisorOf("dora")
	d.pin, d.pan, d.bdk = p.pin, subject.Number(), bdk
	e := whose(subject, d.bound(counter, digestFor(p.machine.t, fieldsOf(id, reference, amount))))
	a, err := keydv1.NewVoidServiceClient(p.s.connect(p.s.tls("switch"))).AuthorizeVoid(p.s.ctx(), authorization(id, fmt.Sprintf("at-%s-%d", reference, counter), amount, e))
	return a.GetToken(), err
}

// signedBy insists on whose key has signed a token.
func (p *shopAt) signedBy(token, id, reference string, amount int64, right, wrong []byte) {
	t := p.machine.t
	t.Helper()
	want := voidtoken.Expected{Fields: fieldsOf(id, reference, amount), Methods: [][]voidtoken.Method{{voidtoken.SupervisorPIN}}}
	for public, good := range map[string]bool{string(right): true, string(wrong): false, string(right) + string(wrong): true} {
		known, err := voidtoken.ParseKeys([]byte(public))
		p.must(err)
		if _, err := voidtoken.Verify(token, known, want, time.Now()); (err == nil) != good {
			t.Errorf("the token of %s, with keys of which one has signed it %t: %v", reference, good, err)
		}
	}
}

// Every key of voids and of PIN records gets another version, and the master keys as well, while
// voids are under way: what was made under the earlier ones is good until it ends, what is new comes
// under the new ones. A version that is stopped is refused by name, and costs nobody a try.
func TestRotationOfTheKeysOfVoids(t *testing.T) {
	p := newShopAt(t)
	const amount = 12300
	renewed := &keyring{keys: []testKey{{Name: "bdk-supervisor", Algorithm: "A", Value: "00112233445566778899AABBCCDDEEFF"}}}
	old, young := newTerminal(t, sampled, "bdk-supervisor", 1), newTerminal(t, renewed, "bdk-supervisor", 1)
	tokens := p.file("voids", "void-tokens.pem")
	before := p.read(tokens)
	shown, shownCode := p.created("pay-1", amount)
	second := p.scanned("pay-2", amount)
	first, err := p.authorizedAt(second, "pay-2", "bdk-supervisor", amount, old, 1)
	p.must(err)

	d := newDeskOf(t, p.s, p.machine.papers(""))
	for _, name := range []string{"void-codes", "void-tokens"} {
		d.carryOut(&ceremony.Definition{Kind: ceremony.Create, Key: signingPair(name, 2), Overlap: 3600})
	}
	d.carryOut(&ceremony.Definition{Kind: ceremony.Create, Key: datumKey(2), Overlap: 3600})
	d.finish(d.components(baseKey("bdk-supervisor", 2), unhex(t, renewed.keys[0].Value)))
	p.command("void", "prepare") // writes the new public keys
	after := p.read(tokens)
	if bytes.Equal(before, after) {
		t.Error("the public key is the one before")
	}
	v := new(keydv1.Void)
	p.asked(v, shownCode, "scan", "--merchant", "m-17")
	p.is(v, keydv1.Void_SCANNED, "SCANNED", "AUTHORIZE", "OTHER_MEANS")
	p.signedBy(first, second, "pay-2", amount, before, after)
	token, err := p.authorizedAt(shown, "pay-1", "bdk-supervisor?version=1", amount, old, 2)
	p.must(err)
	p.signedBy(token, shown, "pay-1", amount, after, before)
	third := p.scanned("pay-3", amount)
	token, err = p.authorizedAt(third, "pay-3", "bdk-supervisor", amount, young, 1)
	p.must(err)
	p.signedBy(token, third, "pay-3", amount, after, before)
	if ok, err := p.verified(p.pin, "bdk-supervisor", old, 3); ok || err != nil {
		t.Errorf("a terminal with the earlier key under the name of the later: %t, %v", ok, err)
	}

	// A record goes on with its own version of the key, and gets the new one when it is reset.
	stop := func(kind ceremony.Kind, name string, version uint32) {
		t.Helper()
		opened := d.mustBegin(&ceremony.Definition{Kind: kind, Target: &ceremony.KeyRef{Name: name, Version: version}})
		opened, err := d.approve("officer-1", opened)
		if err == nil && opened.State == keydv1.Ceremony_OPEN {
			_, err = d.approve("officer-2", opened)
		}
		p.must(err)
	}
	counter := uint32(1)
	tries := func(what, want string) {
		t.Helper()
		counter++
		if ok, err := p.verified(p.pin, "bdk-supervisor", young, counter); reason(err) != want || ok != (want == "OK") {
			t.Errorf("%s: %t, %v, want %s", what, ok, err, want)
		}
	}
	tries("a record of the earlier version", "OK")
	for range 4 {
		stop(ceremony.Stop, "pin-records", 1)
		tries("its version is stopped", "KEY_DISABLED")
		stop(ceremony.Start, "pin-records", 1)
	}
	tries("it is started again", "OK") // and none of that has cost a try
	stop(ceremony.Stop, "pin-records", 1)
	p.pin = randomPIN(t)
	code := p.begin("reset", "2")
	digits := []string{code, p.pin}
	subject := supervisorOf("dora")
	var entries []*keydv1.PinEntry
	for _, typed := range digits {
		counter++
		young.pin, young.pan, young.bdk = typed, subject.Number(), "bdk-supervisor"
		entries = append(entries, young.entry(counter))
	}
	set, err := keydv1.NewPinRecordServiceClient(p.s.connect(p.s.tls("switch"))).SetPin(p.s.ctx(), &keydv1.SetPinRequest{Subject: named(subject), Code: entries[0], Pin: entries[1]})
	if err != nil || !set.Verified {
		t.Fatalf("%v, %v", set, err)
	}
	tries("a record that was reset, without the earlier version", "OK")

	// Other master keys: records are sealed anew, and then the earlier ones are destroyed.
	d.masters(p.machine)
	tries("before it is sealed anew, or after", "OK")
	retire := &ceremony.Definition{Kind: ceremony.Retire}
	waitUntil(t, "everything is sealed anew", func() bool {
		opened, err := d.begin(retire)
		if err != nil {
			return false
		}
		for _, name := range officers[:2] {
			opened, err = d.approve(name, opened)
			p.must(err)
		}
		return opened.State == keydv1.Ceremony_COMPLETED
	})
	tries("the earlier master keys are gone", "OK")

	// What is stopped is refused by name, and the void stands as it was.
	last, lastCode := p.created("pay-4", amount)
	stop(ceremony.Stop, "void-codes", 2)
	refusedBy(t, "no codes are signed", p.ask(new(keydv1.CreateVoidResponse), "", append([]string{"create", "--terminal", "t-1", "--reference", "pay-5"}, facts(amount)...)...), "KEY_DISABLED")
	refusedBy(t, "no codes are believed", p.ask(v, lastCode, "scan", "--merchant", "m-17"), "KEY_DISABLED")
	stop(ceremony.Start, "void-codes", 2)
	p.asked(v, lastCode, "scan", "--merchant", "m-17")
	for _, name := range []string{"void-tokens", "bdk-supervisor"} {
		for range 4 {
			stop(ceremony.Stop, name, 2)
			counter++
			if _, err := p.authorizedAt(last, "pay-4", "bdk-supervisor", amount, young, counter); reason(err) != "KEY_DISABLED" {
				t.Errorf("without %s: %v", name, err)
			}
			stop(ceremony.Start, name, 2)
		}
	}
	if token, err = p.authorizedAt(last, "pay-4", "bdk-supervisor", amount, young, counter+1); err != nil || token == "" {
		t.Errorf("with all of them again: %t, %v", token != "", err)
	}
}

// masters has officers make other master keys, of shares that two of them bring.
func (d *desk) masters(m *machine) {
	d.t.Helper()
	holders := officers[:2]
	opened := d.mustBegin(&ceremony.Definition{Kind: ceremony.Masters, MasterKeys: &ceremony.MasterSpec{Holders: holders, Previous: holders}})
	for i, share := range [][]byte{bytes.Repeat([]byte{0x3C, 0x71}, 16), bytes.Repeat([]byte{0xA9, 0x14}, 16), m.share(holders[0]), m.share(holders[1])} {
		check, err := officer.CheckValue("A", share)
		m.must(err)
		opened, err = d.submit(holders[i%2], opened, i+1, share, check, false)
		m.must(err)
	}
	for _, name := range holders {
		var err error
		opened, err = d.approve(name, opened)
		m.must(err)
	}
	if opened.State != keydv1.Ceremony_COMPLETED {
		d.t.Fatalf("after the last approval: %v", opened)
	}
}
