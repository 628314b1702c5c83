package server

import (
	"context"
	"testing"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/audit"
	"keyd/fault"
	"keyd/policies"
)

// TestTerminalAsksForItself: it need not name itself, and gets nothing of another's.
func TestTerminalAsksForItself(t *testing.T) {
	root := newMaker(t, nil)
	f := newFrontFor(t, root)
	own, other := root.device(t), root.device(t)
	f.enrol("t-1", own, root)
	f.enrol("t-2", other, root)
	f.start()
	c, ctx := keydv1.NewTerminalServiceClient(f.connect(own.shows(f))), t.Context()
	calls := map[string]func(keydv1.TerminalServiceClient, string) error{
		"GetKeyHost": func(c keydv1.TerminalServiceClient, id string) error {
			return second(c.GetKeyHost(ctx, &keydv1.GetKeyHostRequest{TerminalId: id, Method: keydv1.InjectionMethod_KEY_AGREEMENT}))
		},
		"InjectKeys": func(c keydv1.TerminalServiceClient, id string) error {
			return second(c.InjectKeys(ctx, &keydv1.InjectKeysRequest{TerminalId: id, Request: &keydv1.InjectKeysRequest_Tr34OnePass{Tr34OnePass: true}}))
		},
		"ConfirmKeys": func(c keydv1.TerminalServiceClient, id string) error {
			return second(c.ConfirmKeys(ctx, &keydv1.ConfirmKeysRequest{TerminalId: id, InjectionId: "00112233445566778899aabbccddeeff"}))
		},
		"SignIn": func(c keydv1.TerminalServiceClient, id string) error {
			return second(c.SignIn(ctx, &keydv1.SignInRequest{TerminalId: id}))
		},
	}
	entries := 0
	for method, call := range calls {
		first := ""
		for _, id := range []string{"", "t-1"} {
			got := reason(call(c, id)) // there is no key set, and no injection: it has got as far as that
			if got == "POLICY_DENIED" || got == "OK" || first != "" && got != first {
				t.Errorf("%s for %q: %s, and %s before", method, id, got, first)
			}
			first = got
			entries++
			if r := f.lastRecord(entries); r.Identity != "terminal:t-1" || r.Decision != audit.Failed || r.Rule != "own[0]" {
				t.Errorf("%s for %q: %+v", method, id, r)
			}
		}
		for _, id := range []string{"t-2", "t-none", "T-1", "t-1 ", "*"} {
			if got := reason(call(c, id)); got != "POLICY_DENIED" {
				t.Errorf("%s for %q: %s", method, id, got)
			}
			entries++
			if r := f.lastRecord(entries); r.Identity != "terminal:t-1" || r.Decision != audit.Denied {
				t.Errorf("%s for %q: %+v", method, id, r)
			}
		}
		// Somebody who carries messages has to say whose.
		if got := reason(call(keydv1.NewTerminalServiceClient(f.as("officer-1")), "")); got != "REQUEST_INVALID" {
			t.Errorf("%s by a carrier for nobody: %s", method, got)
		}
		entries++
	}
}

// TestLegacyIsAskedBesides: that a request was allowed says nothing of the legacy form.
func TestLegacyIsAskedBesides(t *testing.T) {
	for rule, want := range map[string]int{ // 0: without the legacy form, 1: with it, 2: nothing

		`{methods: ["TerminalService/SignIn"]}`:                                                 0,
		`{methods: ["TerminalService/SignIn"], legacy: true}`:                                   1,
		`{methods: ["TerminalService/SignIn"], legacy: true, when: 'terminal.model == "P400"'}`: 1,
		`{methods: ["TerminalService/SignIn"], legacy: true, when: 'terminal.model == "P500"'}`: 2,
	} {
		p, err := policies.Parse([]byte("version: 1\nidentities: [{id: spiffe://test.example/tms, roles: [r]}]\nroles:\n  r:\n    - " + rule + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		c := newCall("/keyd.v1.TerminalService/SignIn")
		c.identity, c.policy, c.started = "spiffe://test.example/tms", p, time.Now()
		ctx := c.in(context.Background())
		if err := (gate{}).legacy(ctx); fault.Of(err).Reason != fault.Internal || c.allowed {
			t.Errorf("%s: asked before the request was: %v", rule, err)
		}
		allowed := (gate{}).about(ctx, "TerminalService/SignIn", nil, &policies.Terminal{ID: "t-1", Model: "P400"}) == nil
		if allowed != (want != 2) {
			t.Errorf("%s: allowed %t", rule, allowed)
		}
		err = gate{}.legacy(ctx)
		if (err == nil) != (want == 1) || c.allowed != (want == 1) {
			t.Errorf("%s: the legacy form: %v, allowed %t", rule, err, c.allowed)
		}
		if want == 0 && fault.Of(err).Reason != fault.PolicyDenied {
			t.Errorf("%s: %v", rule, err)
		}
	}
}
