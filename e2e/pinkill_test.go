package e2e

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	keydv1 "keyd/api/keyd/v1"
)

// moduleTries is how often modules compare a subject's PIN in a day.
const moduleTries = 40

// Wrong PINs at VerifyPin, ChangePin and AuthorizeVoid without end, on each kind of database, while
// anything is killed: never a fourth is compared. How many were is what the modules say: they count
// each before they compare, and allow no more than a limit. What is left of it afterwards, for right
// PINs, says how many there were.
func TestNeverAFourthTry(t *testing.T) {
	onBothKilled(t, neverAFourth)
}

func neverAFourth(c *chaos) {
	dir := filepath.Join(tempDir(c.T), "dev")
	c.flags = append(c.flags, "--verify-limits", fmt.Sprintf("%d,%d,%d", moduleTries, moduleTries, moduleTries))
	c.service = startWith(c.T, dir, c.flags)
	s := &counter{shop: &shop{service: c.service, papers: tempDir(c.T)}, pin: randomPIN(c.T)}
	s.must("pin", "prepare", "--dir", dir)
	s.must("void", "prepare", "--dir", dir)
	s.entered("set", dora, true, s.begin("enrol", "1"), s.pin)
	subject := supervisorOf("dora")
	const amount = 12300
	var ids []string
	for n := range 4 {
		ids = append(ids, s.scanned(fmt.Sprintf("pay-%d", n), amount))
	}
	var all sync.WaitGroup
	for n := range killShops {
		conn := c.service.connect(c.service.tls("switch"))
		pins, voids := keydv1.NewPinRecordServiceClient(conn), keydv1.NewVoidServiceClient(conn)
		pad := padOf(c, subject, "000001", uint32(n+1))
		all.Go(func() {
			for i := uint32(1); !c.stopped(); i++ {
				c.done.Add(1)
				verified, err := settled(c.Context(), func(string) { c.interrupts.Add(1) }, func(ctx context.Context) (bool, error) {
					switch id := ids[n%len(ids)]; i % 3 {
					case 0:
						digest := digestFor(c, fieldsOf(id, fmt.Sprintf("pay-%d", n%len(ids)), amount))
						a, err := voids.AuthorizeVoid(ctx, authorization(id, fmt.Sprintf("wrong-%d-%d", n, i), amount, whose(subject, pad.bound(i, digest))))
						return a.GetVerified() || a.GetToken() != "", err
					case 1:
						a, err := pins.ChangePin(ctx, &keydv1.ChangePinRequest{Subject: named(subject), Current: pad.entry(2 * i), Pin: pad.entry(2*i + 1)})
						return a.GetVerified(), err
					}
					a, err := pins.VerifyPin(ctx, &keydv1.VerifyPinRequest{Subject: named(subject), Pin: pad.entry(i)})
					return a.GetVerified(), err
				})
				if err != nil || verified {
					c.Errorf("a wrong PIN: %t, %v", verified, err)
					return
				}
			}
		})
	}
	c.killAll(dir)
	all.Wait()
	s.service = c.service // the machine may have been killed
	s.stands("blocked")
	s.entered("verify", dora, false, s.pin)
	if n := c.compared(s); n > 3 {
		c.Errorf("%d wrong PINs were compared", n)
	} else {
		c.Logf("%d wrong PINs were compared, of %d that came", n, c.done.Load())
	}
}

// compared gives a blocked subject another PIN, and returns how often modules had compared the one
// before: they count for the subject, whichever PIN it has.
func (c *chaos) compared(s *counter) int {
	s.pin = randomPIN(c.T)
	s.entered("set", dora, true, s.begin("reset", "2"), s.pin)
	subject := supervisorOf("dora")
	pad := padOf(c, subject, s.pin, killShops+1)
	pins := keydv1.NewPinRecordServiceClient(s.connect(s.tls("switch")))
	for left := range uint32(moduleTries + 1) {
		a, err := pins.VerifyPin(s.ctx(), &keydv1.VerifyPinRequest{Subject: named(subject), Pin: pad.entry(left + 1)})
		switch {
		case reason(err) == "RATE_LIMITED":
			return int(moduleTries - left)
		case err != nil || !a.Verified:
			c.Fatalf("the right PIN: %v, %v", a, err)
		}
	}
	c.Fatal("the modules count nothing")
	return 0
}
