package server

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/fault"
	"keyd/terminals"
)

func TestProblems(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	well := func() *keydv1.GetStatusResponse {
		return &keydv1.GetStatusResponse{
			Tokens:    []*keydv1.Token{{EpochLoaded: 7, EpochPinned: 7}},
			Processes: []*keydv1.Process{{Role: "front", State: "ready"}, {Role: "module", State: "ready"}},
			Tls:       &keydv1.TlsInUse{NotAfter: timestamppb.New(now.AddDate(1, 0, 0)), ClientAuthoritiesUntil: timestamppb.New(now.AddDate(1, 0, 0))},
			Policy:    &keydv1.PolicyInUse{},
		}
	}
	if got := problems(well(), nil, nil, false, "", "", nil, now); len(got) != 0 {
		t.Errorf("all is well: %v", got)
	}
	const note, warning, critical = keydv1.Problem_NOTE, keydv1.Problem_WARNING, keydv1.Problem_CRITICAL
	for name, c := range map[string]struct {
		spoil    func(*keydv1.GetStatusResponse)
		err      error
		missing  error
		drains   bool
		waiting  string
		restored string
		ends     []terminals.End
		severity keydv1.Problem_Severity
		text     string
	}{
		"audit":    {err: errors.New("disk full"), severity: critical, text: "disk full"},
		"database": {missing: fault.Wrap(fault.StoreUnavailable, errors.New("the server is away")), severity: critical, text: "the server is away"},
		"node away": {spoil: func(s *keydv1.GetStatusResponse) {
			s.Nodes = []*keydv1.Node{{Name: "a", Self: true, Epoch: 7}, {Name: "b", Epoch: 7, Age: durationpb.New(time.Minute)}}
		}, severity: warning, text: "node b has not been seen for 1m0s"},
		"node in trouble": {spoil: func(s *keydv1.GetStatusResponse) {
			s.Nodes = []*keydv1.Node{{Name: "a", Self: true, Epoch: 7}, {Name: "b", Epoch: 7, Detail: "no way"}}
		}, severity: warning, text: "node b uses no key: no way"},
		"this node in trouble": {spoil: func(s *keydv1.GetStatusResponse) {
			s.Nodes = []*keydv1.Node{{Name: "a", Self: true, Epoch: 7, Age: durationpb.New(time.Minute), Detail: "no way"}, {Name: "b", Epoch: 7}}
		}, severity: critical, text: "this node uses no key: no way"},
		"waiting in a fleet": {waiting: "version 9, 00ff", spoil: func(s *keydv1.GetStatusResponse) {
			s.Nodes = []*keydv1.Node{{Name: "a", Self: true, Epoch: 7, Detail: "another register"}}
		}, severity: critical, text: "version 9, 00ff"},
		"node behind": {spoil: func(s *keydv1.GetStatusResponse) {
			s.Nodes = []*keydv1.Node{{Name: "a", Self: true, Epoch: 7}, {Name: "b", Epoch: 6}}
		}, severity: note, text: "node b goes by version 6"},
		"checkpoints": {spoil: func(s *keydv1.GetStatusResponse) {
			s.AuditLog = &keydv1.AuditLog{Failing: "no room", Uncovered: 7}
		}, severity: warning, text: "7 entries are not covered): no room"},
		"forgotten":    {spoil: func(s *keydv1.GetStatusResponse) { s.AuditLog = &keydv1.AuditLog{Forgotten: true} }, severity: warning, text: "remembered no checkpoint"},
		"drains":       {drains: true, severity: critical, text: "stops"},
		"waiting":      {waiting: "version 9, 00ff", severity: critical, text: "version 9, 00ff"},
		"restored":     {waiting: "version 9, 00ff", restored: "version 8, 11ee", severity: critical, text: "version 8, 11ee"},
		"no module":    {spoil: func(s *keydv1.GetStatusResponse) { s.Tokens = nil }, severity: critical, text: "no module"},
		"ksn":          {spoil: func(s *keydv1.GetStatusResponse) { s.KeySerialNumbers = &keydv1.KeySerialNumbers{Failing: "x"} }, severity: critical, text: "key serial"},
		"tries":        {spoil: func(s *keydv1.GetStatusResponse) { s.Tokens[0].Velocity = &keydv1.Velocity{Failing: "x"} }, severity: critical, text: "tries"},
		"crowded":      {spoil: func(s *keydv1.GetStatusResponse) { s.Tokens[0].Velocity = &keydv1.Velocity{Crowded: 1} }, severity: warning, text: "velocity.entries"},
		"no register":  {spoil: func(s *keydv1.GetStatusResponse) { s.Tokens[0].EpochLoaded = 0 }, severity: critical, text: "version 7"},
		"old register": {spoil: func(s *keydv1.GetStatusResponse) { s.Tokens[0].EpochLoaded = 6 }, severity: critical, text: "version 6 of the register of officers and keys, and version 7 is pinned"},
		"ended":        {spoil: func(s *keydv1.GetStatusResponse) { s.Processes[1].State = "ended" }, severity: warning, text: "module 0"},
		"long on its way": {spoil: func(s *keydv1.GetStatusResponse) {
			s.Processes[1].State = "waiting"
			s.Processes[1].Since = timestamppb.New(now.Add(-time.Minute))
		}, severity: warning, text: "module 0"},
		"just on its way": {spoil: func(s *keydv1.GetStatusResponse) {
			s.Processes[1].State = "starting"
			s.Processes[1].Since = timestamppb.New(now.Add(-time.Second))
		}, severity: note, text: "module 0"},
		"restarted": {spoil: func(s *keydv1.GetStatusResponse) {
			s.Processes[0].Restarts = 2
			s.Processes[0].LastExit = "signal: killed"
		}, severity: note, text: "signal: killed"},
		"policy":      {spoil: func(s *keydv1.GetStatusResponse) { s.Policy.LastFailure = &keydv1.FailedReload{Why: "line 3"} }, severity: warning, text: "line 3"},
		"certificate": {spoil: func(s *keydv1.GetStatusResponse) { s.Tls.LastFailure = &keydv1.FailedReload{Why: "no PEM"} }, severity: warning, text: "no PEM"},
		"expires":     {spoil: func(s *keydv1.GetStatusResponse) { s.Tls.NotAfter = timestamppb.New(now.AddDate(0, 0, 7)) }, severity: warning, text: "7 days"},
		"pages": {spoil: func(s *keydv1.GetStatusResponse) {
			s.Pages = &keydv1.PagesInUse{NotAfter: timestamppb.New(now.AddDate(0, 0, 7)), LastFailure: nil}
		}, severity: warning, text: "the certificate of the pages for phones expires in 7 days"},
		"pages over": {spoil: func(s *keydv1.GetStatusResponse) {
			s.Pages = &keydv1.PagesInUse{NotAfter: timestamppb.New(now.AddDate(0, 0, -1))}
		}, severity: critical, text: "the certificate of the pages for phones expired"},
		"pages kept": {spoil: func(s *keydv1.GetStatusResponse) {
			s.Pages = &keydv1.PagesInUse{NotAfter: timestamppb.New(now.AddDate(1, 0, 0)), LastFailure: &keydv1.FailedReload{Why: "no PEM"}}
		}, severity: warning, text: "pages for phones are not in use: no PEM"},
		"expired": {spoil: func(s *keydv1.GetStatusResponse) { s.Tls.NotAfter = timestamppb.New(now.AddDate(0, 0, -1)) }, severity: critical, text: "expired"},
		"authority": {spoil: func(s *keydv1.GetStatusResponse) {
			s.Tls.ClientAuthoritiesUntil = timestamppb.New(now.AddDate(0, 0, 7))
		}, severity: warning, text: "client authority"},
		"confinement": {spoil: func(s *keydv1.GetStatusResponse) {
			s.FrontConfinement = []*keydv1.Measure{{Name: "seccomp", State: "off", Detail: "no"}}
		}, severity: note, text: "seccomp"},
		"Vault": {spoil: func(s *keydv1.GetStatusResponse) { s.Vault = &keydv1.Vault{Problem: "is sealed"} }, severity: warning, text: "Vault: is sealed"},
		"not renewed": {spoil: func(s *keydv1.GetStatusResponse) {
			s.Vault = &keydv1.Vault{Certificates: []*keydv1.VaultCertificate{{Directory: "/d", Problem: "permission denied"}}}
		}, severity: warning, text: "/d is not renewed: permission denied"},
		"a client's expired": {spoil: func(s *keydv1.GetStatusResponse) {
			s.Vault = &keydv1.Vault{Certificates: []*keydv1.VaultCertificate{{Directory: "/d", NotAfter: timestamppb.New(now)}}}
		}, severity: warning, text: "/d expired"},
		"overdue": {spoil: func(s *keydv1.GetStatusResponse) { renewing(s, now, -7*time.Hour) }, severity: warning, text: "the server certificate expires"},
		"not the one in use": {spoil: func(s *keydv1.GetStatusResponse) {
			renewing(s, now, time.Hour)
			s.Tls.Serial = "2"
		}, severity: warning, text: "the server certificate expires"},
		"a maker's list": {ends: []terminals.End{
			{Kind: terminals.EndMakerList, Name: "0011223344556677", At: now.AddDate(0, 0, 2)}, {Kind: terminals.EndMakerList, Name: "8899aabbccddeeff", At: now.AddDate(0, 0, 7)},
		}, severity: warning, text: "issuer key 0011223344556677) expires in 2 days"},
		"a host's list": {ends: []terminals.End{
			{Kind: terminals.EndHostList, Name: "kdh-rsa", At: now.Add(-time.Second)}, {Kind: terminals.EndHostList, Name: "kdh-ec", At: now.AddDate(0, 0, 4)},
		}, severity: critical, text: "key host kdh-rsa expired"},
		"a host's certificate": {ends: []terminals.End{
			{Kind: terminals.EndHostCertificate, Name: "kdh-ec", At: now.AddDate(0, 0, 29)}, {Kind: terminals.EndHostCertificate, Name: "kdh-rsa", At: now.AddDate(0, 0, 31)},
		}, severity: warning, text: "key host kdh-ec, or of one of its issuers, expires in 29 days"},
		"development": {spoil: func(s *keydv1.GetStatusResponse) { s.Development = true }, severity: note, text: "development"},
	} {
		s := well()
		if c.spoil != nil {
			c.spoil(s)
		}
		got := problems(s, c.err, c.missing, c.drains, c.waiting, c.restored, c.ends, now)
		if len(got) != 1 || got[0].Severity != c.severity || !strings.Contains(got[0].Text, c.text) {
			t.Errorf("%s: %v", name, got)
		}
	}
	s := well()
	if renewing(s, now, time.Hour); len(problems(s, nil, nil, false, "", "", nil, now)) != 0 {
		t.Error("a certificate with a short life that is renewed in time is a problem")
	}
	s = well()
	s.Development, s.Tokens = true, nil
	s.Policy.LastFailure = &keydv1.FailedReload{}
	if got := problems(s, nil, nil, false, "", "", nil, now); len(got) != 3 || got[0].Severity != critical || got[1].Severity != warning || got[2].Severity != note {
		t.Errorf("not the worst first: %v", got)
	}
}

// renewing gives a server a certificate of Vault's for a day, which is to be renewed after
// that time and expires 8 hours later.
func renewing(s *keydv1.GetStatusResponse, now time.Time, in time.Duration) {
	until := timestamppb.New(now.Add(in + 8*time.Hour))
	s.Tls.Serial, s.Tls.NotAfter = "1", until
	s.Vault = &keydv1.Vault{Certificates: []*keydv1.VaultCertificate{{Directory: "/d", Server: true, Serial: "1", NotAfter: until, RenewAt: timestamppb.New(now.Add(in))}}}
}
