package officer

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
)

// wantRefused checks an error that says what is wrong, and that the service was told
// nothing after it.
func wantRefused(t *testing.T, f *fixture, calls int, err error, says string) {
	t.Helper()
	if !errors.Is(err, ErrNotBelieved) || !strings.Contains(err.Error(), says) {
		t.Errorf("the error is %v; it should say %q", err, says)
	}
	if len(f.calls) != calls {
		t.Errorf("the service was called on: %v", f.calls)
	}
}

// A ceremony of another node's token is no attack, and nothing is signed for it here.
func TestCeremonyOfAnotherNode(t *testing.T) {
	f := newFixture(t)
	p := f.entered()
	other := newModule(t, f.module.roster)
	f.lie = func(c *keydv1.Ceremony) {
		c.Node = "keyd-b"
		c.Opening = other.opening(c.Definition, "alice", func(o *ceremony.Opening) { o.ID = c.CeremonyId })
	}
	_, err := f.as("carol").Papers(t.Context(), p.Opening.ID)
	if !errors.Is(err, ErrElsewhere) || errors.Is(err, ErrNotBelieved) || !strings.HasSuffix(err.Error(), "keyd keyd-b: send the papers there (--server)") {
		t.Errorf("the error is %v", err)
	}
	// The node itself has no such excuse.
	c := f.as("carol")
	c.Module.Node = "keyd-b"
	if _, err := c.Papers(t.Context(), p.Opening.ID); !errors.Is(err, ErrNotBelieved) {
		t.Errorf("the error is %v", err)
	}
}

func TestCeremonyWithComponents(t *testing.T) {
	f := newFixture(t)
	p := f.entered()
	if p.CheckValue == "" || p.Vouched != "the service's word only" {
		t.Errorf("the check value is %q, %s", p.CheckValue, p.Vouched)
	}
	if action, names := p.Waiting(f.module.roster); action != ceremony.Approve || !slices.Equal(names, []string{"alice", "bob", "carol"}) {
		t.Errorf("%s is awaited of %v", action, names)
	}
	p, err := f.as("bob").Approve(t.Context(), p, strings.ToLower(p.CheckValue))
	must(t, err)
	if p.Record != nil || Lacks(p.Missing().Components, p.Missing().Approvals) != "1 approval" {
		t.Error("one approval is enough")
	}
	if _, err := f.as("bob").Approve(t.Context(), p, p.CheckValue); err == nil || !strings.Contains(err.Error(), "has approved it already") {
		t.Errorf("a second approval: %v", err)
	}
	p, err = f.as("carol").Approve(t.Context(), p, p.CheckValue)
	must(t, err)
	if p.Record == nil || p.State != keydv1.Ceremony_COMPLETED || p.Vouched != "signed by the module" {
		t.Errorf("after both approvals: %v, %s", p.State, p.Vouched)
	}
	text, err := p.RecordFile(f.as("alice").Module)
	must(t, err)
	a, err := VerifyRecordFile(text, f.as("alice").Module.Identity)
	must(t, err)
	if len(a.Checked.Submissions) != 2 || len(a.Checked.Approvals) != 2 || a.Outcome.CheckValue != p.CheckValue {
		t.Error("the record has something else in it")
	}
	if _, err := f.as("alice").Approve(t.Context(), p, p.CheckValue); err == nil || !strings.Contains(err.Error(), "carried out") {
		t.Errorf("an approval afterwards: %v", err)
	}
}

// The module's identity: what was confirmed, and nothing else.
func TestAnotherModule(t *testing.T) {
	f := newFixture(t)
	known, err := Load(filepath.Join(t.TempDir(), "known.json"))
	must(t, err)
	right := f.as("alice").Module
	must(t, known.Trust("keyd:7443", right.Identity, right.Roster))

	other := newModule(t, f.module.roster)
	f.who = other.identity
	m, err := FetchModule(t.Context(), f.conn)
	must(t, err)
	if err := known.Check("keyd:7443", m.Identity, m.Roster); !errors.Is(err, ErrIdentityChanged) {
		t.Errorf("another module: %v", err)
	}

	// Another roster under the right key.
	mallory := newKey(t)
	changed := *f.module.roster
	changed.Officers = slices.Clone(changed.Officers)
	changed.Officers[2].Key = spki(t, mallory)
	same := *f.module
	same.roster = &changed
	f.who = same.identity
	m, err = FetchModule(t.Context(), f.conn)
	must(t, err)
	if err := known.Check("keyd:7443", m.Identity, m.Roster); !errors.Is(err, ErrRosterChanged) {
		t.Errorf("another roster: %v", err)
	}

	// The right key's document, signed by another, or altered.
	for name, alter := range map[string]func(*keydv1.SignedDocument){
		"signed by another": func(d *keydv1.SignedDocument) { d.Signature = other.identity().Signature },
		"altered":           func(d *keydv1.SignedDocument) { d.Document[len(d.Document)-3] ^= 1 },
		"nothing":           func(d *keydv1.SignedDocument) { d.Document, d.Signature = nil, nil },
		"signed for something else": func(d *keydv1.SignedDocument) {
			signature, err := ceremony.Sign(f.module.key, ceremony.OfRecord, d.Document)
			must(t, err)
			d.Signature = signature
		},
	} {
		f.who = func() *keydv1.SignedDocument { d := f.module.identity(); alter(d); return d }
		if _, err := FetchModule(t.Context(), f.conn); !errors.Is(err, ErrNotBelieved) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOfficersKey(t *testing.T) {
	f := newFixture(t)
	c := f.as("alice")
	if err := c.As("alice", f.keys["bob"]); err == nil || !strings.Contains(err.Error(), "not the key of alice") {
		t.Errorf("another officer's key: %v", err)
	}
	if err := c.As("mallory", f.keys["bob"]); err == nil || !strings.Contains(err.Error(), "alice, bob, carol") {
		t.Errorf("no officer: %v", err)
	}
	reader := NewClient(f.conn, c.Module)
	if _, err := reader.BeginCeremony(t.Context(), creating()); err == nil || !strings.Contains(err.Error(), "--officer-key") {
		t.Errorf("no key at all: %v", err)
	}
}

// Begin: the module's opening has to be of the officer's definition.
func TestBeginIsChecked(t *testing.T) {
	other := creating()
	other.Key.Name = "mallory"
	for name, c := range map[string]struct {
		set  func(f *fixture)
		says string
	}{
		"another definition, opened": {func(f *fixture) {
			f.begin = func([]byte) []byte { b, _ := ceremony.Encode(other); return b }
		}, "another definition than yours"},
		"another definition, shown": {func(f *fixture) {
			f.lie = func(c *keydv1.Ceremony) { c.Definition, _ = ceremony.Encode(other) }
		}, "another definition than the one that it shows"},
		"another module's opening": {func(f *fixture) {
			m := newModule(f.t, f.module.roster)
			f.lie = func(c *keydv1.Ceremony) {
				c.Opening = m.opening(c.Definition, "alice", func(o *ceremony.Opening) { o.ID = c.CeremonyId; o.Identity = f.module.print() })
			}
		}, "not by the module that you confirmed"},
		"an opening that names another module": {func(f *fixture) {
			f.alter = func(o *ceremony.Opening) { o.Identity = strings.Repeat("0", 64) }
		}, "not by the module that you confirmed"},
		"another roster": {func(f *fixture) {
			f.alter = func(o *ceremony.Opening) { o.Roster = strings.Repeat("0", 64) }
		}, "another roster than the one that you confirmed"},
		"another officer's": {func(f *fixture) {
			f.alter = func(o *ceremony.Opening) { o.Officer = "bob" }
		}, "begun by bob"},
		"another identifier": {func(f *fixture) {
			f.lie = func(c *keydv1.Ceremony) { c.CeremonyId = strings.Repeat("a", 32) }
		}, "of another ceremony"},
		"nothing": {func(f *fixture) {
			f.lie = func(c *keydv1.Ceremony) { proto.Reset(c) }
		}, "it answers with"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			c.set(f)
			_, err := f.as("alice").BeginCeremony(t.Context(), creating())
			if name == "another roster" { // the papers of which nobody can finish are no lie
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v", err)
				}
				return
			}
			wantRefused(t, f, 1, err, c.says)
		})
	}
}

func TestPapersAreChecked(t *testing.T) {
	stranger := newKey(t)
	var another string
	for name, c := range map[string]struct {
		lie  func(f *fixture, c *keydv1.Ceremony)
		says string
	}{
		"another ceremony": {func(f *fixture, c *keydv1.Ceremony) { c.CeremonyId = another }, "it answers with"},
		"a component dropped, and approved without": {func(f *fixture, c *keydv1.Ceremony) {
			c.Submissions[1] = resigned(f, f.keys["bob"], c.Submissions[1], func(s *ceremony.Statement) { s.Component = strings.Repeat("0", 64) })
		}, "has approved other components"},
		"an officer's statement altered": {func(f *fixture, c *keydv1.Ceremony) {
			c.Submissions[0] = resigned(f, stranger, c.Submissions[0], func(s *ceremony.Statement) { s.CheckValue = "000000" })
		}, "not what an officer of the roster has signed"},
		"the same component twice": {func(f *fixture, c *keydv1.Ceremony) { c.Submissions[1] = c.Submissions[0] }, "not what an officer of the roster has signed"},
		"an approval by a stranger": {func(f *fixture, c *keydv1.Ceremony) {
			c.Approvals = append(c.Approvals, resigned(f, stranger, c.Approvals[0], func(s *ceremony.Statement) { s.Officer = "mallory" }))
		}, "not what an officer of the roster has signed"},
		"a component among the approvals":     {func(f *fixture, c *keydv1.Ceremony) { c.Approvals[0] = c.Submissions[0] }, "not what an officer of the roster has signed"},
		"another check value than approved":   {func(f *fixture, c *keydv1.Ceremony) { c.CheckValue = "000000" }, "bob has approved the check value"},
		"no check value":                      {func(f *fixture, c *keydv1.Ceremony) { c.CheckValue = "" }, "bob has approved the check value"},
		"a check value that moves the cursor": {func(f *fixture, c *keydv1.Ceremony) { c.CheckValue = "\x1b[2J\x1b[" }, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			another = f.open(creating()).Opening.ID
			p := f.entered()
			p, err := f.as("bob").Approve(t.Context(), p, p.CheckValue)
			must(t, err)
			calls := len(f.calls)
			f.lie = func(m *keydv1.Ceremony) { c.lie(f, m) }
			_, err = f.as("carol").Papers(t.Context(), p.Opening.ID)
			wantRefused(t, f, calls, err, c.says)
		})
	}
}

// resigned returns a statement altered and signed again.
func resigned(f *fixture, key *ecdsa.PrivateKey, from *keydv1.SignedDocument, change func(*ceremony.Statement)) *keydv1.SignedDocument {
	f.t.Helper()
	s, err := ceremony.Decode[ceremony.Statement](from.Document, ceremony.MaxDocument)
	must(f.t, err)
	change(s)
	return signed(f.t, key, ceremony.ByOfficer, s)
}

// The check value of the whole key is the front's word before anybody has approved it: the
// officer's own knowledge decides.
func TestSwappedCheckValue(t *testing.T) {
	f := newFixture(t)
	p := f.entered()
	right := p.CheckValue
	f.lie = func(c *keydv1.Ceremony) { c.CheckValue = "C0FFEE" }
	p, err := f.as("carol").Papers(t.Context(), p.Opening.ID)
	must(t, err)
	if p.Vouched != "the service's word only" {
		t.Errorf("%s: who says so?", p.Vouched)
	}
	calls := len(f.calls)
	if _, err := f.as("carol").Approve(t.Context(), p, right); err == nil || !strings.Contains(err.Error(), "it is another key. Approve nothing") {
		t.Errorf("another key: %v", err)
	}
	if _, err := p.Confirm(right, false); err == nil {
		t.Error("another key was confirmed")
	}
	if _, err := p.Confirm("", true); err == nil {
		t.Error("a key with a check value was confirmed without it")
	}
	if len(f.calls) != calls {
		t.Errorf("the service was called on: %v", f.calls)
	}

	// Where the definition demands one, or the module has signed one, no other is shown.
	for name, c := range map[string]struct {
		d     *ceremony.Definition
		alter func(*ceremony.Opening)
		says  string
	}{
		"demanded": {func() *ceremony.Definition { d := loading(); d.CheckValue = "08D7B4"; return d }(), nil, "the definition demands 08D7B4"},
		"signed":   {creating(), func(o *ceremony.Opening) { o.CheckValue = "08D7B4" }, "the module signed 08D7B4"},
	} {
		f := newFixture(t)
		f.alter = c.alter
		f.lie = func(c *keydv1.Ceremony) { c.CheckValue = "C0FFEE" }
		_, err := f.as("alice").BeginCeremony(t.Context(), c.d)
		if wantRefused(t, f, 1, err, c.says); t.Failed() {
			t.Log(name)
		}
	}
}

func TestRecordsAreChecked(t *testing.T) {
	for name, c := range map[string]struct {
		lie  func(f *fixture, c *keydv1.Ceremony)
		says string
	}{
		"of another module": {func(f *fixture, c *keydv1.Ceremony) {
			c.Record = newModule(f.t, f.module.roster).record(c, ceremony.Outcome{Epoch: 2})
		}, "the record of the ceremony is not by the module that you confirmed"},
		"of another ceremony": {func(f *fixture, c *keydv1.Ceremony) {
			c.Opening = f.module.opening(c.Definition, "alice", func(o *ceremony.Opening) { o.ID = c.CeremonyId; o.Opened-- })
		}, "the record is of another ceremony"},
		"another check value":   {func(f *fixture, c *keydv1.Ceremony) { c.CheckValue = "000000" }, "the module's record says"},
		"a key block of nobody": {func(f *fixture, c *keydv1.Ceremony) { c.KeyBlock = "D0112P0AE00E0000" }, "not the one that the module wrote"},
		"too few approvals": {func(f *fixture, c *keydv1.Ceremony) {
			c.Approvals = c.Approvals[:1]
			c.Record = f.module.record(c, ceremony.Outcome{Epoch: 2})
		}, "approvals are missing"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			p := f.open(creating())
			p, err := f.as("alice").Approve(t.Context(), p, "")
			must(t, err)
			p, err = f.as("bob").Approve(t.Context(), p, "")
			must(t, err)
			calls := len(f.calls)
			f.lie = func(m *keydv1.Ceremony) { c.lie(f, m) }
			_, err = f.as("carol").Papers(t.Context(), p.Opening.ID)
			wantRefused(t, f, calls, err, c.says)
		})
	}
}

// COMPLETED is believed with a record only.
func TestCompletedWithoutRecord(t *testing.T) {
	f := newFixture(t)
	p := f.open(creating())
	f.lie = func(c *keydv1.Ceremony) { c.State = keydv1.Ceremony_COMPLETED }
	_, err := f.as("alice").Papers(t.Context(), p.Opening.ID)
	wantRefused(t, f, 1, err, "no record")
}

func TestSubmitIsChecked(t *testing.T) {
	f := newFixture(t)
	p := f.open(loading())
	other := loading()
	other.Key.Mode = "B"
	_, err := f.as("alice").Submit(t.Context(), p, other, 1, random16(t))
	wantRefused(t, f, 1, err, "another definition than yours")
	alice := f.as("alice")
	if _, err := alice.Submit(t.Context(), p, loading(), 3, random16(t)); err == nil || !strings.Contains(err.Error(), "1 to 2") {
		t.Errorf("place 3 of 2: %v", err)
	}
	if _, err := alice.Approve(t.Context(), p, "08D7B4"); err == nil || !strings.Contains(err.Error(), "2 components are missing") {
		t.Errorf("an approval before the components: %v", err)
	}
	p, err = alice.Submit(t.Context(), p, loading(), 2, random16(t))
	must(t, err)
	if _, err := alice.Submit(t.Context(), p, loading(), 1, random16(t)); err == nil || !strings.Contains(err.Error(), "nobody enters two") {
		t.Errorf("two components of one officer: %v", err)
	}
	if place, err := p.Place("bob"); err != nil || place != 1 {
		t.Errorf("bob's place is %d, %v", place, err)
	}
	alice.clock = func() time.Time { return time.Now().Add(2 * time.Hour) }
	if _, err := alice.Submit(t.Context(), p, loading(), 1, random16(t)); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("too late: %v", err)
	}
	if len(f.sealed) != 1 {
		t.Errorf("the service has got %d components", len(f.sealed))
	}
}

// A service that drops what it was given is noticed.
func TestDroppedStatement(t *testing.T) {
	f := newFixture(t)
	p := f.open(creating())
	f.lie = func(c *keydv1.Ceremony) { c.Approvals = nil }
	if _, err := f.as("alice").Approve(t.Context(), p, ""); err == nil || !strings.Contains(err.Error(), "without your approval") {
		t.Errorf("%v", err)
	}
}

// Whoever is in the roster now can call off what was begun under another one.
func TestAbortUnderAnotherRoster(t *testing.T) {
	f := newFixture(t)
	id := f.open(creating()).Opening.ID
	f.keys["carol"] = newKey(t)
	f.module.roster = newRoster(t, f.keys)
	bob := f.as("bob")
	if _, err := bob.Papers(t.Context(), id); !errors.Is(err, ceremony.ErrRosterChanged) {
		t.Errorf("papers of another roster: %v", err)
	}
	p, err := bob.OpeningOf(t.Context(), id)
	must(t, err)
	p, err = bob.Abort(t.Context(), p)
	must(t, err)
	if p.Open(time.Now()) || p.Unchecked == "" {
		t.Error("it is open still, or its statements are believed")
	}
}

func TestContextEnds(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.as("alice").Papers(ctx, strings.Repeat("a", 32)); err == nil {
		t.Error("no error")
	}
}

// A new roster is proven by the officers of the one before.
func TestRecordOfARoster(t *testing.T) {
	f := newFixture(t)
	before := f.as("alice").Module
	others := map[string]*ecdsa.PrivateKey{"alice": f.keys["alice"], "bob": f.keys["bob"], "carol": newKey(t)}
	d := &ceremony.Definition{Kind: ceremony.Change, ValidFor: 3600, Roster: newRoster(t, others)}
	p := f.open(d)
	for _, name := range []string{"alice", "bob"} {
		var err error
		p, err = f.as(name).Approve(t.Context(), p, "")
		must(t, err)
	}
	text, err := p.RecordFile(before)
	must(t, err)
	a, err := VerifyRecordFile(text, before.Identity)
	must(t, err)
	f.module.roster = d.Roster
	after := f.as("bob").Module
	must(t, a.Brings(before.Roster, after.Roster))
	if err := a.Brings(after.Roster, after.Roster); err == nil || !strings.Contains(err.Error(), "another roster than the one that you confirmed") {
		t.Errorf("from another roster: %v", err)
	}
	if err := a.Brings(before.Roster, before.Roster); err == nil || !strings.Contains(err.Error(), "brings another roster") {
		t.Errorf("to another roster: %v", err)
	}
	if _, err := VerifyRecordFile(text, after.Roster); err == nil || !strings.Contains(err.Error(), "by another module") {
		t.Errorf("of another module: %v", err)
	}
}
