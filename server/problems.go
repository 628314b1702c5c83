package server

import (
	"fmt"
	"slices"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/fault"
	"keyd/supervisor/child"
	"keyd/terminals"
)

// expiresSoon is how long before the end of a certificate an operator is told.
const expiresSoon = 30 * 24 * time.Hour

// listExpiresSoon is the same of a revocation list, whose successor comes late by nature.
const listExpiresSoon = 3 * 24 * time.Hour

// startsFast is how long a process may be on its way before an operator is warned.
const startsFast = 10 * time.Second

// problems says what is wrong, the worst first: of what a status holds, and what it does
// not. unwritable is why the audit log cannot be written, unreadable why the database cannot be
// read, or nil; waiting is the register that officers can have the token join or take over, or
// nothing; restored the one of a backup, likewise. ends are of what terminals get keys by.
func problems(s *keydv1.GetStatusResponse, unwritable, unreadable error, drains bool, waiting, restored string, ends []terminals.End, now time.Time) (list []*keydv1.Problem) {
	add := func(severity keydv1.Problem_Severity, format string, args ...any) {
		list = append(list, &keydv1.Problem{Severity: severity, Text: fmt.Sprintf(format, args...)})
	}
	if unwritable != nil {
		add(keydv1.Problem_CRITICAL, "the audit log cannot be written, so nothing is done: %v", unwritable)
	}
	if unreadable != nil {
		cause := unreadable
		if f := fault.Of(unreadable); f.Unwrap() != nil {
			cause = f.Unwrap()
		}
		add(keydv1.Problem_CRITICAL, "the database does not answer, so what needs it is refused: %v", cause)
	}
	if drains {
		add(keydv1.Problem_CRITICAL, "the service stops")
	}
	switch {
	case restored != "":
		add(keydv1.Problem_CRITICAL, "no key can be used: the database was restored from a backup, with the register of officers and keys %s, which officers have to take over (a ceremony of kind adopt; docs/backup.md)", restored)
	case waiting != "":
		add(keydv1.Problem_CRITICAL, "no key can be used: the database holds the register of another token, %s, which officers can have this one join, or take over if that token is lost (a ceremony of kind join or adopt)", waiting)
	}
	if len(s.Tokens) == 0 {
		add(keydv1.Problem_CRITICAL, "no module answers, so nothing can be done")
	}
	if why := s.GetKeySerialNumbers().GetFailing(); why != "" {
		add(keydv1.Problem_CRITICAL, "the record of key serial numbers fails: %s", why)
	}
	if l := s.GetAuditLog(); l != nil {
		if l.Failing != "" {
			add(keydv1.Problem_WARNING, "no checkpoint of the audit log can be made (%d entries are not covered): %s", l.Uncovered, l.Failing)
		}
		if l.Forgotten {
			add(keydv1.Problem_WARNING, "the modules remembered no checkpoint of the audit log, although it had some: their file is new or was lost. Compare a checkpoint that was noted elsewhere: keyd audit verify --checkpoint FILE")
		}
	}
	for _, t := range s.Tokens {
		switch loaded, pinned := t.EpochLoaded, t.EpochPinned; {
		case loaded == 0:
			add(keydv1.Problem_CRITICAL, "module %d has no register of officers and keys, and refuses every key: its front could not bring version %d, which is pinned", t.Module, pinned)
		case loaded != pinned:
			add(keydv1.Problem_CRITICAL, "module %d refuses every key: it has version %d of the register of officers and keys, and version %d is pinned", t.Module, loaded, pinned)
		}
		if why := t.GetVelocity().GetFailing(); why != "" {
			add(keydv1.Problem_CRITICAL, "module %d cannot count tries, and refuses what needs it: %s", t.Module, why)
		}
		if n := t.GetVelocity().GetCrowded(); n > 0 {
			add(keydv1.Problem_WARNING, "module %d: accounts had to share an entry of the table of tries %d times: raise velocity.entries", t.Module, n)
		}
	}
	fleetProblems(add, s.Nodes, waiting != "" || restored != "")
	for _, p := range s.Processes {
		name := p.Role
		if p.Role == child.RoleModule {
			name = fmt.Sprintf("module %d", p.Index)
		}
		switch {
		case p.State == string(child.PhaseEnded):
			add(keydv1.Problem_WARNING, "%s has ended for good (%s); the log says why: mend that, then restart keyd", name, p.LastExit)
		case p.State != string(child.PhaseReady):
			severity := keydv1.Problem_WARNING
			if now.Sub(p.Since.AsTime()) < startsFast {
				severity = keydv1.Problem_NOTE // what is being replaced is no alarm
			}
			add(severity, "%s is %s, not ready", name, p.State)
		case p.Restarts > 0:
			add(keydv1.Problem_NOTE, "%s was started again %d times; the one before ended with: %s", name, p.Restarts, p.LastExit)
		}
	}
	if f := s.GetPolicy().GetLastFailure(); f != nil {
		add(keydv1.Problem_WARNING, "the newest policy is not in use: %s", f.Why)
	}
	if f := s.GetTls().GetLastFailure(); f != nil {
		add(keydv1.Problem_WARNING, "the newest certificate, key and client authorities are not in use: %s", f.Why)
	}
	if f := s.GetPages().GetLastFailure(); f != nil {
		add(keydv1.Problem_WARNING, "the newest certificate and key of the pages for phones are not in use: %s", f.Why)
	}
	expiryWithin := func(soon time.Duration, what string, at time.Time) {
		switch left := at.Sub(now); {
		case left <= 0:
			add(keydv1.Problem_CRITICAL, "%s expired at %s", what, at.UTC().Format(time.DateTime))
		case left < soon:
			add(keydv1.Problem_WARNING, "%s expires in %d days, at %s UTC", what, int(left.Hours()/24), at.UTC().Format(time.DateTime))
		}
	}
	expiry := func(what string, at time.Time) { expiryWithin(expiresSoon, what, at) }
	for _, e := range ends {
		switch e.Kind {
		case terminals.EndMakerList:
			expiryWithin(listExpiresSoon, fmt.Sprintf("the terminals of an issuer get no keys without a valid list: its revocation list (issuer key %s)", e.Name), e.At)
		case terminals.EndHostList:
			expiryWithin(listExpiresSoon, fmt.Sprintf("terminals take no keys by TR-34 without a valid list: the revocation list of key host %s", e.Name), e.At)
		default:
			expiry("the certificate of key host "+e.Name+", or of one of its issuers,", e.At)
		}
	}
	if at := s.GetTls().GetNotAfter(); at != nil && !renewed(s, s.GetTls().GetSerial(), now) {
		expiry("the server certificate", at.AsTime())
	}
	if at := s.GetPages().GetNotAfter(); at != nil && !renewed(s, s.GetPages().GetSerial(), now) {
		expiry("the certificate of the pages for phones", at.AsTime())
	}
	if why := s.GetVault().GetProblem(); why != "" {
		add(keydv1.Problem_WARNING, "Vault: %s", why)
	}
	for _, c := range s.GetVault().GetCertificates() {
		switch {
		case c.Problem != "":
			add(keydv1.Problem_WARNING, "the certificate in %s is not renewed: %s", c.Directory, c.Problem)
		case c.NotAfter != nil && !now.Before(c.NotAfter.AsTime()):
			add(keydv1.Problem_WARNING, "the certificate in %s expired at %s UTC", c.Directory, c.NotAfter.AsTime().Format(time.DateTime))
		}
	}
	if at := s.GetTls().GetClientAuthoritiesUntil(); at != nil {
		expiry("a client authority", at.AsTime())
	}
	notConfined(add, "the front", s.FrontConfinement)
	for _, t := range s.Tokens {
		notConfined(add, fmt.Sprintf("module %d", t.Module), t.Confinement)
	}
	if s.Development {
		add(keydv1.Problem_NOTE, "this is a development service: the keys are known")
	}
	slices.SortStableFunc(list, func(a, b *keydv1.Problem) int { return int(b.Severity) - int(a.Severity) })
	return list
}

// unseen is after how long without a sign of a node an operator is told.
const unseen = 15 * time.Second

// fleetProblems are those of the nodes of a fleet, this one among them; explained says
// that why this one uses no key was said.
func fleetProblems(add func(keydv1.Problem_Severity, string, ...any), nodes []*keydv1.Node, explained bool) {
	newest := uint64(0)
	for _, n := range nodes {
		newest = max(newest, n.Epoch)
	}
	for _, n := range nodes {
		switch {
		case n.Self && n.Detail != "" && !explained:
			add(keydv1.Problem_CRITICAL, "this node uses no key: %s", n.Detail)
		case n.Self:
		case n.Age.AsDuration() > unseen:
			add(keydv1.Problem_WARNING, "node %s has not been seen for %s: start it, or forget it (keyd fleet forget %s)", n.Name, n.Age.AsDuration().Round(time.Second), n.Name)
		case n.Detail != "":
			add(keydv1.Problem_WARNING, "node %s uses no key: %s", n.Name, n.Detail)
		case n.Epoch < newest:
			add(keydv1.Problem_NOTE, "node %s goes by version %d of the register of officers and keys, another node by version %d", n.Name, n.Epoch, newest)
		}
	}
}

// renewed reports whether a certificate with a serial number is the server's that Vault keeps, in use and
// not yet to be renewed: however short its life, nobody has to do anything.
func renewed(s *keydv1.GetStatusResponse, serial string, now time.Time) bool {
	for _, c := range s.GetVault().GetCertificates() {
		if c.Server && c.Serial != "" && c.Serial == serial && c.Problem == "" {
			return now.Before(c.RenewAt.AsTime().Add(c.NotAfter.AsTime().Sub(c.RenewAt.AsTime()) / 2))
		}
	}
	return false
}

func notConfined(add func(keydv1.Problem_Severity, string, ...any), who string, list []*keydv1.Measure) {
	for _, m := range list {
		if m.State != "on" {
			add(keydv1.Problem_NOTE, "%s: %s is %s: %s", who, m.Name, m.State, m.Detail)
		}
	}
}
