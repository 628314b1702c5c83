package e2e

import (
	"fmt"
	"net"
	"testing"

	"keyd/voidtoken"
)

func port(address string) string {
	_, p, _ := net.SplitHostPort(address) // of a listener
	return p
}

// pages has the hosts of a fleet serve the pages for phones, each at an address of its own for the one name.
func (f *fleet) pages(list []*counter) (phones []*handset) {
	f.Helper()
	for i, n := range f.nodes {
		at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i))}
		if _, err := fmt.Sscan(port(f.phones), &at.Port); err != nil {
			f.Fatal(err)
		}
		n.service.stop()
		p := n.production
		p.more += fmt.Sprintf("web: {listen: %q, certificate: %s/config/server.crt, key: %s/config/server.key}\n", at, p.dir, p.dir)
		p.configure("payments", p.dir+"/token")
		n.again()
		n.write(n.service.dir+"/address", n.address+"\n", 0o644)
		list[i].service = n.service
		phones = append(phones, list[i].handset(f.T, at))
	}
	return phones
}

// Two hosts of a fleet are one name to phones. Links and passkeys are good at either, whoever has made the
// code. A PIN is typed for the host that has made it: the other offers no pad, and a PIN that goes there by
// mistake costs no try.
func TestPhonesAtTwoHosts(t *testing.T) {
	f, list := newCounters(t)
	phones := f.pages(list)
	a, b := phones[0], phones[1]

	link, code := a.linked("enrol", "1", "passkey")
	b.Origin = a.Origin
	question, user := b.newPasskey(link, code)
	b.set("/api/enrolment/passkey", question, true)
	a.set("/api/enrolment/passkey", question, true)

	id, qr, atA := a.voidOnPhone("pay-0001", 12_300)
	atB := new(shownVoid)
	b.posted("/api/void", map[string]string{"code": qr}, atB)
	if !atA.PIN || !atA.Passkey || atB.PIN || atB.Key != nil || !atB.Passkey || atB.Amount != 12_300 || string(atA.Digest) != string(atB.Digest) {
		t.Fatalf("at a %+v, at b %+v", atA, atB)
	}
	a.genuine(atA.Key, atA.CodeKey)
	approved := outcomeOnPhone{Verified: true, State: "AUTHORIZED", Result: "AUTHORIZED", TriesLeft: 3}
	good := b.byPasskey(qr, user, atB)
	for _, h := range []*handset{b, a} {
		h.outcome("by passkey", "/api/void/passkey", good, approved)
	}
	a.tokenOf(id, "pay-0001", 12_300, voidtoken.PhonePasskey)

	id, qr, atA = a.voidOnPhone("pay-0002", 12_300)
	good = a.byPIN(qr, "dora", a.pin, atA)
	for range 5 { // more than there are tries
		if refusal := b.post("/api/void/pin", good, nil); refusal != "POLICY_DENIED" {
			t.Errorf("a PIN for another host: %s", refusal)
		}
	}
	for _, h := range []*handset{a, b} {
		h.outcome("by PIN", "/api/void/pin", good, approved)
	}
	a.tokenOf(id, "pay-0002", 12_300, voidtoken.PhonePIN)

	link, code = a.linked("reset", "2", "supervisor")
	e, s := b.enrolment(link)
	next := randomPIN(t)
	b.set("/api/enrolment/pin", b.newPIN(link, e, s, code, next), true)
	_, qr, atB = b.voidOnPhone("pay-0003", 12_300)
	b.genuine(atB.Key, atB.CodeKey)
	b.outcome("the old PIN", "/api/void/pin", b.byPIN(qr, "dora", a.pin, atB), outcomeOnPhone{State: "CREATED", Result: "NOT_VERIFIED", TriesLeft: 2})
	approved.TriesLeft = 2
	b.outcome("the new one", "/api/void/pin", b.byPIN(qr, "dora", next, atB), approved)
}
