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
