package officer

import (
	"strings"
	"testing"
	"time"

	"keyd/ceremony"
)

func initDefinition(f *fixture) *ceremony.Definition {
	return &ceremony.Definition{Kind: ceremony.Init, ValidFor: 3600, Roster: f.module.roster, MasterKeys: &ceremony.MasterSpec{Holders: []string{"alice", "bob"}}}
}

// request is what a new token asks of its officers.
func (f *fixture) request(d *ceremony.Definition, change ...func(*ceremony.Opening)) *Request {
	f.t.Helper()
	encoded, err := ceremony.Encode(d)
	must(f.t, err)
	all := append([]func(*ceremony.Opening){func(o *ceremony.Opening) { o.Need.Approvals = 3; o.Key = f.module.pair.PublicKey().Bytes() }}, change...)
	return &Request{Identity: spki(f.t, f.module.key), Opening: fromWire(f.module.opening(encoded, "", all...)), Definition: encoded}
}

func (f *fixture) accepting(r *Request) *Accepting {
	f.t.Helper()
	text, err := r.Encode()
	must(f.t, err)
	a, err := ParseRequest(text)
	must(f.t, err)
	return a
}

func share(t *testing.T) *Secret {
	t.Helper()
	s, err := Random(ceremony.MasterShareSize)
	must(t, err)
	t.Cleanup(s.Destroy)
	return s
}

func TestAcceptance(t *testing.T) {
	f := newFixture(t)
	d := initDefinition(f)
	a := f.accepting(f.request(d))
	if digestOf(a.Identity) != f.module.print() || digestOf(a.Roster) != f.module.rosterPrint() {
		t.Error("the fingerprints are others")
	}
	var all []*Acceptance
	for _, name := range []string{"carol", "bob", "alice"} {
		var secret *Secret
		if a.Share(name) != 0 {
			secret = share(t)
		}
		if got, err := Whose(d.Roster, f.keys[name]); err != nil || got != name {
			t.Errorf("%s's key is that of %q, %v", name, got, err)
		}
		one, err := a.Accept(d, name, f.keys[name], secret, time.Now())
		must(t, err)
		text, err := one.Encode()
		must(t, err)
		one, err = ParseAcceptance(text)
		must(t, err)
		all = append(all, one)
	}
	papers, err := a.Gather(all, time.Now())
	must(t, err)
	if len(papers.Submissions) != 2 || len(papers.Approvals) != 3 {
		t.Error("papers are missing")
	}
	c, err := papers.Check(&f.module.key.PublicKey, d.Roster, time.Now().Unix())
	must(t, err)
	must(t, c.CheckApprovals(""))

	for name, wrong := range map[string]struct {
		list []*Acceptance
		says string
	}{
		"one is missing": {all[:2], "not accepted by alice"},
		"one twice":      {append(all[:2:2], all[1]), "the same officer twice"},
		"without shares": {[]*Acceptance{{Approval: all[0].Approval}, {Approval: all[1].Approval}, {Approval: all[2].Approval}}, "2 shares are missing"},
		"a share of another place": {[]*Acceptance{all[0], {Approval: all[1].Approval, Submission: &ceremony.Submission{
			Statement: all[1].Submission.Statement, Sealed: all[2].Submission.Sealed}}, all[2]}, "sealed component was altered"},
	} {
		if _, err := a.Gather(wrong.list, time.Now()); err == nil || !strings.Contains(err.Error(), wrong.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := a.Gather(all, time.Now().Add(2*time.Hour)); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("too late: %v", err)
	}
}

func TestAcceptanceIsRefused(t *testing.T) {
	f := newFixture(t)
	d := initDefinition(f)
	other := initDefinition(f)
	other.MasterKeys = &ceremony.MasterSpec{Holders: []string{"alice", "carol"}}
	a := f.accepting(f.request(d))
	for name, c := range map[string]struct {
		err  func() error
		says string
	}{
		"another definition":       {func() error { _, err := a.Accept(other, "alice", f.keys["alice"], share(t), time.Now()); return err }, "another definition than yours"},
		"another's key":            {func() error { _, err := a.Accept(d, "alice", f.keys["bob"], share(t), time.Now()); return err }, "not the key of alice"},
		"a holder without a share": {func() error { _, err := a.Accept(d, "alice", f.keys["alice"], nil, time.Now()); return err }, "they need one"},
		"a share of no holder":     {func() error { _, err := a.Accept(d, "carol", f.keys["carol"], share(t), time.Now()); return err }, "masters.holders"},
		"no officer":               {func() error { _, err := Whose(d.Roster, newKey(t)); return err }, "no officer with this key"},
	} {
		if err := c.err(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}

	// Requests that are no good.
	mallory := newModule(t, f.module.roster)
	for name, alter := range map[string]func(*Request){
		"another identity":            func(r *Request) { r.Identity = spki(t, mallory.key) },
		"signed for another identity": func(r *Request) { *r = *f.request(d, func(o *ceremony.Opening) { o.Identity = mallory.print() }) },
		"another roster":              func(r *Request) { *r = *f.request(d, func(o *ceremony.Opening) { o.Roster = strings.Repeat("0", 64) }) },
		"another definition":          func(r *Request) { r.Definition = f.request(other).Definition },
		"no definition of kind init":  func(r *Request) { r.Definition, _ = ceremony.Encode(creating()) },
	} {
		r := f.request(d)
		alter(r)
		text, err := r.Encode()
		must(t, err)
		if _, err := ParseRequest(text); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for _, text := range []string{"", "{}", "null", strings.Repeat("x", maxRequest+1)} {
		if _, err := ParseRequest([]byte(text)); err == nil {
			t.Errorf("%.10q is a request", text)
		}
		if _, err := ParseAcceptance([]byte(text)); err == nil && text != "{}" {
			t.Errorf("%.10q is an acceptance", text)
		}
		if _, err := VerifyRecordFile([]byte(text), Fingerprint{}); err == nil {
			t.Errorf("%.10q is a record", text)
		}
	}
}
