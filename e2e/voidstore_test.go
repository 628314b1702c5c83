package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	keydv1 "keyd/api/keyd/v1"
)

// steps are the calls about one payment that is to be voided, each of which is the same request
// however often it is sent.
type steps struct {
	*counter
	reference string
	id, code  string
	n         uint32
}

const stepsAmount = 12300

func (s *steps) names() []string { return []string{"create", "scan", "authorize", "confirm"} }

// take takes a step, and returns its reason and its result.
func (s *steps) take(name string) (why, result string) {
	client := keydv1.NewVoidServiceClient(s.connect(s.tls("switch")))
	request := name + "-" + s.reference
	var v *keydv1.Void
	var err error
	switch name {
	case "create":
		var a *keydv1.CreateVoidResponse
		if a, err = client.CreateVoid(s.ctx(), creation(request, "m-17", s.reference, stepsAmount)); err == nil {
			s.id, s.code, v = a.Void.VoidId, a.Code, a.Void
		}
	case "scan":
		v, err = client.ScanVoid(s.ctx(), &keydv1.ScanVoidRequest{RequestId: request, Code: s.code, Merchant: "m-17"})
	case "authorize":
		subject := supervisorOf("dora")
		e := whose(subject, padOf(s.t, subject, s.pin, s.n).bound(1, digestFor(s.t, fieldsOf(s.id, s.reference, stepsAmount))))
		var a *keydv1.AuthorizeVoidResponse
		if a, err = client.AuthorizeVoid(s.ctx(), authorization(s.id, request, stepsAmount, e)); err == nil {
			v = a.Void
		}
	case "confirm":
		v, err = client.ConfirmVoid(s.ctx(), &keydv1.ConfirmVoidRequest{RequestId: request, VoidId: s.id, Reversed: true})
	}
	return reason(err), v.GetResult()
}

// interrupted goes through a void; before each step what it needs goes away, the step is refused as
// often as a PIN has tries and once more, and is taken when that is there again.
func (s *steps) interrupted(t *testing.T, gone, back func(), refusals ...string) {
	t.Helper()
	want := map[string]string{"create": "CREATED", "scan": "SCANNED", "authorize": "AUTHORIZED", "confirm": "CONFIRMED"}
	for _, name := range s.names() {
		gone()
		refused := 0
		waitUntil(t, name+" is refused", func() bool {
			why, result := s.take(name)
			switch {
			case count(refusals, why) == 1:
				refused++
			case why != "OK" || result != want[name]: // or there was room left
				t.Fatalf("%s: %s %s", name, why, result)
			default:
				return true
			}
			return refused == 4
		})
		back()
		waitUntil(t, name+" is taken", func() bool {
			why, result := s.take(name)
			if why != "OK" && count(refusals, why) == 0 || why == "OK" && result != want[name] {
				t.Fatalf("%s, afterwards: %s %s", name, why, result)
			}
			return why == "OK"
		})
	}
	s.stands("active")
}

// A database that goes in the middle of a void is a refusal that says so, at each step, and the same
// request goes on when it is back. No PIN is blocked by it.
func TestVoidsWhileTheDatabaseIsAway(t *testing.T) {
	server := startPostgres(t)
	c := newCounter(t, onPostgres(t, server)...)
	must := func(f func() error) func() {
		return func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}
	}
	(&steps{counter: c, reference: "pay-1", n: 1}).interrupted(t, must(server.Kill), must(server.Launch), "STORE_UNAVAILABLE", "MODULE_UNAVAILABLE")
}

// Likewise a disk that is full.
func TestVoidsOnAFullDisk(t *testing.T) {
	if !asRoot(t) { // only root can mount
		return
	}
	c := newCounter(t)
	dir := c.dir
	c.stop()
	state := onSmallDisk(t, dir)
	c.service = startIn(t, dir)
	fill := filepath.Join(state, "fill")
	gone := func() {
		if err := writeUntilFull(fill); err != nil {
			t.Fatal(err)
		}
	}
	back := func() {
		if err := os.Remove(fill); err != nil {
			t.Fatal(err)
		}
	}
	for n := range uint32(2) {
		(&steps{counter: c, reference: fmt.Sprintf("pay-%d", n), n: n + 1}).interrupted(t, gone, back, "STORE_UNAVAILABLE", "AUDIT_UNAVAILABLE")
	}
	c.stop()
	if said, err := c.command("", "audit", "verify", "--dir", dir); err != nil {
		t.Errorf("the audit log: %v\n%s", err, said)
	}
}
