package e2e

import (
	"sync"
	"testing"

	keydv1 "keyd/api/keyd/v1"
)

// Right PINs at the same moment, more than there are tries: each is right, and none costs the others a
// try.
func TestRightPINsAtOnce(t *testing.T) {
	c := newCounter(t)
	subject := supervisorOf("dora")
	const many = 64
	d := padOf(t, subject, c.pin, 1)
	var requests []*keydv1.VerifyPinRequest
	for i := range uint32(many) {
		requests = append(requests, &keydv1.VerifyPinRequest{Subject: named(subject), Pin: d.entry(i + 1)})
	}
	pins := keydv1.NewPinRecordServiceClient(c.connect(c.tls("switch")))
	var all sync.WaitGroup
	together := make(chan struct{})
	for i, r := range requests {
		all.Go(func() {
			<-together
			if a, err := pins.VerifyPin(c.ctx(), r); err != nil || !a.Verified {
				t.Errorf("request %d: %v, %v", i, a.GetVerified(), err)
			}
		})
	}
	close(together)
	all.Wait()
	c.stands("active")
}

// The same on phones: each is right, one authorises the void, and the others are told that it is.
func TestRightPINsOnPhonesAtOnce(t *testing.T) {
	h := newHandset(t)
	_, qr, v := h.voidOnPhone("pay-0001", 12_300)
	const many = 16
	outcomes := make([]outcomeOnPhone, many)
	var all sync.WaitGroup
	for i := range many {
		question := h.byPIN(qr, "dora", h.pin, v)
		all.Go(func() { h.posted("/api/void/pin", question, &outcomes[i]) })
	}
	all.Wait()
	verified := 0
	for _, o := range outcomes {
		if o.Verified {
			verified++
		} else if o.Result != "ALREADY_AUTHORIZED" {
			t.Errorf("a right PIN is answered by %+v", o)
		}
	}
	if verified != 1 {
		t.Errorf("the void was authorised %d times", verified)
	}
	h.entered("verify", dora, true, h.pin)
}
