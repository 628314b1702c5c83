package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"keyd/audit"
	"keyd/fault"
	"keyd/pinrecord"
	"keyd/pinsvc/records"
	"keyd/policies"
	"keyd/store"
	"keyd/web"
)

// phonePolicyText lets everything be done on phones, in a service that has none of the keys.
const phonePolicyText = `version: 1
limits:
  default: unlimited
  denials: {per_second: 1, burst: 5}
identities: []
roles: {}
voids:
  token_key: token
  code_key: code
  token_life: 300
  code_life: 120
  code_host: void.example.com
  phone: {page_key: page, set_pin: false}
`

// everyQuestion is everything that phones ask.
func everyQuestion(b web.Backend, ctx context.Context) map[string]error {
	_, look := b.Void(ctx, "A")
	_, passkey := b.ApproveByPasskey(ctx, "A", web.ByPasskey{})
	_, pin := b.ApproveByPIN(ctx, "A", web.ByPIN{})
	_, link := b.Enrolment(ctx, "A")
	_, set := b.SetPIN(ctx, "A", web.NewPIN{})
	_, setPasskey := b.SetPasskey(ctx, "A", web.NewPasskey{})
	return map[string]error{pageVoid: look, pagePasskey: passkey, pagePIN: pin, pageEnrolment: link, pageSetPIN: set, pageSetPasskey: setPasskey}
}

// Without the section about phones everything is denied to them, and recorded as the page's.
func TestPhonesWithoutAPolicy(t *testing.T) {
	f := newFront(t).start()
	got := everyQuestion(f.server.Pages(), t.Context())
	if len(got) != len(PageMethods()) {
		t.Fatalf("%d of %d are tried", len(got), len(PageMethods()))
	}
	for _, method := range PageMethods() {
		if err := got[method]; fault.Of(err).Reason != fault.PolicyDenied {
			t.Errorf("%s: %v", method, err)
		}
	}
	for method := range got {
		found := false
		for _, e := range f.records() {
			found = found || e.Method == method && e.Identity == pageIdentity && e.Decision == audit.Denied && strings.HasPrefix(e.Detail, "the policy lets nothing")
		}
		if !found {
			t.Errorf("%s is not recorded as denied", method)
		}
	}
}

// What anybody can cause without a code or a link that is one leaves a bounded number of entries.
func TestPhonesFloodNoAuditLog(t *testing.T) {
	f := newFront(t).start()
	p, err := policies.Parse([]byte(phonePolicyText))
	if err != nil {
		t.Fatal(err)
	}
	f.server.SetPolicy(p)
	counted, much := 0, 0
	for range 50 {
		_, err := f.server.Pages().Void(t.Context(), "A")
		var tooMany *tooManyError
		switch {
		case errors.As(err, &tooMany):
			much++
		case fault.Of(err).Reason == fault.VoidCodeRefused && fault.Of(err).Detail() == "":
			counted++
		default:
			t.Fatal(err)
		}
	}
	if counted < 5 || counted > 20 || much == 0 {
		t.Errorf("%d refusals were recorded, %d were counted", counted, much)
	}
	if _, err := f.server.Pages().SetPIN(t.Context(), strings.Repeat("A", 26), web.NewPIN{}); fault.Of(err).Reason != fault.PolicyDenied && fault.Of(err).Reason != fault.RateLimited {
		t.Errorf("a PIN although the policy has set_pin: false: %v", err)
	}
}

// A link by which everything is set already is for ever in somebody's mail: asking for it leaves as few entries.
func TestOldLinksFloodNoAuditLog(t *testing.T) {
	f := newFront(t).start()
	p, err := policies.Parse([]byte(phonePolicyText))
	if err != nil {
		t.Fatal(err)
	}
	f.server.SetPolicy(p)
	subject := pinrecord.Subject{Kind: pinrecord.Passkey, Merchant: "m-17", Name: "dora"}
	digest, approval, at := subject.Digest(), sha256.Sum256([]byte("approval")), time.Now().UTC().Truncate(time.Microsecond)
	err = f.store.AddPINRecord(t.Context(), store.PINRecord{
		Subject: digest[:], Kind: string(subject.Kind), Merchant: subject.Merchant, Name: subject.Name, Version: 1, State: store.PINActive, Approval: approval[:],
		Record: []byte("sealed"), Tries: records.Tries, TriesLeft: records.Tries, Events: 1, Revision: 1, CreatedAt: at, ChangedAt: at,
	}, store.PINEvent{Kind: records.EventPasskeySet, At: at})
	if err != nil {
		t.Fatal(err)
	}
	counted, much := 0, 0
	for range 50 {
		_, err := f.server.Pages().Enrolment(t.Context(), records.LinkOf(approval[:]))
		var tooMany *tooManyError
		switch {
		case errors.As(err, &tooMany):
			much++
		case fault.Of(err).Reason == fault.PINRecordState:
			counted++
		default:
			t.Fatal(err)
		}
	}
	if counted < 5 || counted > 20 || much == 0 {
		t.Errorf("%d refusals were recorded, %d were counted", counted, much)
	}
}
