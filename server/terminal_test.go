package server

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"strings"
	"testing"

	keydv1 "keyd/api/keyd/v1"
	"keyd/audit"
	"keyd/terminals"
)

// device returns the certificate of a new device, which the authority of the test has signed.
func (f *front) device(change ...func(*x509.Certificate)) []byte {
	f.t.Helper()
	c := clientTemplate()
	c.Subject, c.KeyUsage, c.ExtKeyUsage = pkix.Name{CommonName: "KRD 804-1"}, x509.KeyUsageKeyAgreement, nil
	for _, ch := range change {
		ch(c)
	}
	return f.ca.sign(f.t, c).Certificate[0]
}

// trust makes the authority of the test a root for terminals.
func (f *front) trust() *front {
	f.roots.list = []*x509.Certificate{f.ca.certificate}
	return f
}

// putTerminal registers a terminal past the service.
func (f *front) putTerminal(id string, certificates ...[]byte) {
	f.t.Helper()
	if _, _, err := f.config.Terminals.Register(f.t.Context(), "test", terminals.Registration{ID: id, Owner: "m-1", Model: "P400", Serial: "804-1", Certificates: certificates}, false); err != nil {
		f.t.Fatal(err)
	}
}

// register registers a terminal as an officer.
func (f *front) register(id string, certificates ...[]byte) (any, error) {
	f.t.Helper()
	c := keydv1.NewTerminalServiceClient(f.as("officer-1"))
	return nilAnswer(c.RegisterTerminal(f.t.Context(), &keydv1.RegisterTerminalRequest{
		TerminalId: id, Owner: "m-1", Model: "P400", SerialNumber: "804-1", Certificates: certificates,
	}))
}

// TestTerminalsOfOneMerchant: whose operators a condition limits to their own terminals get
// these, and do not learn of others.
func TestTerminalsOfOneMerchant(t *testing.T) {
	f := newFront(t)
	f.putTerminal("t-own")
	if _, _, err := f.config.Terminals.Register(t.Context(), "test", terminals.Registration{ID: "t-other", Owner: "m-2", Model: "P400", Serial: "1"}, false); err != nil {
		t.Fatal(err)
	}
	c, ctx := keydv1.NewTerminalServiceClient(f.start().as("m-1")), t.Context()
	for id, want := range map[string]string{"t-own": "OK", "t-other": "POLICY_DENIED", "t-none": "POLICY_DENIED"} {
		_, get := c.GetTerminal(ctx, &keydv1.GetTerminalRequest{TerminalId: id})
		_, history := c.ListTerminalEvents(ctx, &keydv1.ListTerminalEventsRequest{TerminalId: id})
		_, suspend := c.SuspendTerminal(ctx, &keydv1.ChangeTerminalRequest{TerminalId: id})
		if reason(get) != want || reason(history) != want || reason(suspend) != want {
			t.Errorf("%s: %v, %v, %v, want %s", id, get, history, suspend, want)
		}
	}
	for owner, want := range map[string]string{"m-1": "OK", "m-2": "POLICY_DENIED", "": "POLICY_DENIED"} {
		if _, err := c.ListTerminals(ctx, &keydv1.ListTerminalsRequest{Owner: owner}); reason(err) != want {
			t.Errorf("a list of %q: %v, want %s", owner, err, want)
		}
	}
	for owner, want := range map[string]string{"m-1": "OK", "m-2": "POLICY_DENIED"} {
		if _, err := c.RegisterTerminal(ctx, &keydv1.RegisterTerminalRequest{TerminalId: "t-new", Owner: owner, Model: "P", SerialNumber: "1"}); reason(err) != want {
			t.Errorf("registered for %s: %v, want %s", owner, err, want)
		}
	}
}

// TestTerminalsOverTheWire takes terminals through their life.
func TestTerminalsOverTheWire(t *testing.T) {
	f := newFront(t).trust().start()
	c, ctx := keydv1.NewTerminalServiceClient(f.as("officer-1")), t.Context()
	entries := 0
	recorded := func(method, detail string) {
		t.Helper()
		entries++
		if r := f.lastRecord(entries); r.Method != "TerminalService/"+method || r.Decision != audit.Allowed || r.Detail != detail {
			t.Errorf("recorded: %+v, want %q", r, detail)
		}
	}
	failed := func(what, want string, err error) {
		t.Helper()
		entries++
		if reason(err) != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	request := func(id string) *keydv1.RegisterTerminalRequest {
		return &keydv1.RegisterTerminalRequest{TerminalId: id, Owner: "m-1", Model: "P400 Plus", SerialNumber: "804-1", Site: "Zürich"}
	}
	certified := request("t-1")
	certified.Certificates = [][]byte{f.device(), f.ca.certificate.Raw}

	certified.ValidateOnly = true
	if a, err := c.RegisterTerminal(ctx, certified); err != nil || a.Unchanged || a.Terminal.TerminalId != "t-1" {
		t.Errorf("validated: %v, %v", a, err)
	}
	recorded("RegisterTerminal", "terminal t-1 was checked, not registered")
	_, err := c.GetTerminal(ctx, &keydv1.GetTerminalRequest{TerminalId: "t-1"})
	failed("what was validated only", "TERMINAL_NOT_FOUND", err)
	if r := f.lastRecord(entries); r.Detail != "terminal t-1" {
		t.Errorf("recorded: %+v", r)
	}
	certified.ValidateOnly = false
	for _, unchanged := range []bool{false, true} {
		if a, err := c.RegisterTerminal(ctx, certified); err != nil || a.Unchanged != unchanged {
			t.Fatalf("registered: %v, %v", a, err)
		}
		recorded("RegisterTerminal", map[bool]string{false: "terminal t-1 was registered", true: "terminal t-1 was registered already"}[unchanged])
	}
	got, err := c.GetTerminal(ctx, &keydv1.GetTerminalRequest{TerminalId: "t-1"})
	if err != nil || got.Owner != "m-1" || got.Model != "P400 Plus" || got.SerialNumber != "804-1" || got.Site != "Zürich" || got.State != keydv1.Terminal_REGISTERED ||
		!bytes.Equal(got.Certificate.Certificate, certified.Certificates[0]) || len(got.Certificate.Issuers) != 1 || got.Certificate.Subject != "CN=KRD 804-1" {
		t.Errorf("%v, %v", got, err)
	}
	recorded("GetTerminal", "terminal t-1")

	if a, err := c.RegisterTerminal(ctx, request("t-2")); err != nil || a.Terminal.Certificate != nil {
		t.Fatal(a, err)
	}
	recorded("RegisterTerminal", "terminal t-2 was registered")
	other := request("t-2")
	other.Owner = "m-2"
	_, err = c.RegisterTerminal(ctx, other)
	failed("another owner's", "TERMINAL_EXISTS", err)
	if r := f.lastRecord(entries); r.Detail != "terminal t-2" {
		t.Errorf("recorded: %+v", r)
	}
	_, err = c.RenewTerminalCertificate(ctx, &keydv1.RenewTerminalCertificateRequest{TerminalId: "t-2", Certificates: certified.Certificates})
	failed("another's key", "PUBLIC_KEY_KNOWN", err)
	if a, err := c.RenewTerminalCertificate(ctx, &keydv1.RenewTerminalCertificateRequest{TerminalId: "t-2", Certificates: [][]byte{f.device()}}); err != nil || a.Certificate == nil {
		t.Error(a, err)
	}
	recorded("RenewTerminalCertificate", "terminal t-2")

	for _, step := range []struct {
		method string
		do     func() (*keydv1.Terminal, error)
		want   keydv1.Terminal_State
	}{
		{"SuspendTerminal", func() (*keydv1.Terminal, error) {
			return c.SuspendTerminal(ctx, &keydv1.ChangeTerminalRequest{TerminalId: "t-1", Reason: "lost"})
		}, keydv1.Terminal_SUSPENDED},
		{"ResumeTerminal", func() (*keydv1.Terminal, error) {
			return c.ResumeTerminal(ctx, &keydv1.ChangeTerminalRequest{TerminalId: "t-1", Reason: "found"})
		}, keydv1.Terminal_REGISTERED},
		{"ReplaceTerminal", func() (*keydv1.Terminal, error) {
			return c.ReplaceTerminal(ctx, &keydv1.ReplaceTerminalRequest{TerminalId: "t-1", ReplacedBy: "t-2", Reason: "broken"})
		}, keydv1.Terminal_REPLACED},
		{"RetireTerminal", func() (*keydv1.Terminal, error) {
			return c.RetireTerminal(ctx, &keydv1.ChangeTerminalRequest{TerminalId: "t-2"})
		}, keydv1.Terminal_RETIRED},
	} {
		got, err := step.do()
		if err != nil || got.State != step.want {
			t.Errorf("%s: %v, %v", step.method, got, err)
		}
		entries++
		if r := f.lastRecord(entries); r.Method != "TerminalService/"+step.method || !strings.HasPrefix(r.Detail, "terminal t-") {
			t.Errorf("recorded: %+v", r)
		}
	}
	_, err = c.ResumeTerminal(ctx, &keydv1.ChangeTerminalRequest{TerminalId: "t-2"})
	failed("a retired one", "TERMINAL_STATE", err)

	var kinds []string
	for token := ""; ; {
		page, err := c.ListTerminalEvents(ctx, &keydv1.ListTerminalEventsRequest{TerminalId: "t-1", PageSize: 2, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		entries++
		for _, e := range page.Events {
			kinds = append(kinds, e.Kind)
			if e.Actor != "spiffe://test.example/officer-1" || e.At == nil {
				t.Errorf("%v", e)
			}
		}
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	if !slices.Equal(kinds, []string{"registered", "suspended", "resumed", "replaced"}) {
		t.Errorf("events: %q", kinds)
	}

	for n := range 5 {
		f.putTerminal(fmt.Sprintf("z-%d", n))
	}
	list := func(r *keydv1.ListTerminalsRequest) (ids []string) {
		t.Helper()
		for {
			page, err := c.ListTerminals(ctx, r)
			if err != nil {
				t.Fatal(err)
			}
			entries++
			for _, one := range page.Terminals {
				ids = append(ids, one.TerminalId)
				if len(one.Certificate.GetCertificate()) > 0 {
					t.Errorf("a list has the certificate of %s", one.TerminalId)
				}
			}
			if r.PageToken = page.NextPageToken; r.PageToken == "" {
				return ids
			}
		}
	}
	for want, r := range map[string]*keydv1.ListTerminalsRequest{
		"t-1 t-2 z-0 z-1 z-2 z-3 z-4": {PageSize: 2}, "z-0 z-1 z-2 z-3 z-4": {Model: "P400"}, "t-2": {State: keydv1.Terminal_RETIRED, Owner: "m-1"}, "": {Owner: "m-2"},
	} {
		if got := strings.Join(list(r), " "); got != want {
			t.Errorf("listed: %q, want %q", got, want)
		}
	}
	for what, r := range map[string]*keydv1.ListTerminalsRequest{
		"a page too large": {PageSize: 1001}, "a token of the caller's": {PageToken: "\x00"}, "no state": {State: 99}, "no owner": {Owner: "a b"}, "no model": {Model: "\n"},
	} {
		_, err := c.ListTerminals(ctx, r)
		failed(what, "REQUEST_INVALID", err)
	}
	for _, token := range []string{"0", "-1", "x", "18446744073709551615"} {
		_, err := c.ListTerminalEvents(ctx, &keydv1.ListTerminalEventsRequest{TerminalId: "t-1", PageToken: token})
		failed("an event's token of the caller's", "REQUEST_INVALID", err)
	}
	for _, id := range []string{"", "a b", "-a", "t-\n", strings.Repeat("x", 65), "0123456789ab"} {
		_, err := c.GetTerminal(ctx, &keydv1.GetTerminalRequest{TerminalId: id})
		failed(id, "REQUEST_INVALID", err)
	}
	_, err = keydv1.NewTerminalServiceClient(f.as("switch")).GetTerminal(ctx, &keydv1.GetTerminalRequest{TerminalId: "t-1"})
	failed("a switch", "POLICY_DENIED", err)
	if r := f.lastRecord(entries); !strings.HasPrefix(r.Detail, "terminal t-1: ") {
		t.Errorf("recorded: %+v", r)
	}
}
