package ceremony_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"

	"keyd/ceremony"
)

// A statement is about one ceremony; what it is not about is said, and always the same.
func TestStatementIsAboutOneCeremony(t *testing.T) {
	p := loading()
	s, officer, err := p.roster.Statement(p.papers.Approvals[0])
	if err != nil || officer.Name != "carol" {
		t.Fatal(err)
	}
	if err := s.About(ceremony.Approve, p.opening, p.digest); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*ceremony.Statement){
		"another action":     func(s *ceremony.Statement) { s.Action = ceremony.Submit },
		"another definition": func(s *ceremony.Statement) { s.Definition = "" },
		"another identity":   func(s *ceremony.Statement) { s.Identity = "" },
		"another roster":     func(s *ceremony.Statement) { s.Roster = "" },
		"another ceremony":   func(s *ceremony.Statement) { s.Opening = "" },
	} {
		other := *s
		change(&other)
		if err := other.About(ceremony.Approve, p.opening, p.digest); !errors.Is(err, ceremony.ErrMismatch) || !strings.HasSuffix(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for range 20 {
		if err := (&ceremony.Statement{}).About(ceremony.Approve, p.opening, p.digest); !strings.HasSuffix(err.Error(), "another action") {
			t.Fatalf("of all differences: %v", err)
		}
	}
}

// The papers of a ceremony are good as long as each is what it should be, in whatever order
// they came.
func TestPapersThatAreGood(t *testing.T) {
	p := loading()
	check := func(papers *ceremony.Proceedings) *ceremony.Checked {
		t.Helper()
		c, err := papers.Check(&p.module.PublicKey, &p.roster, opened+5)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := check(&p.papers)
	if c.Missing() != (ceremony.Need{}) || c.Digest != p.digest || c.Definition.Kind != ceremony.Load || len(c.Submissions) != 3 || len(c.Approvals) != 2 {
		t.Errorf("%+v", c)
	}
	if got := c.Officers(); !slices.Equal(got, []string{"alice", "bob", "carol", "dave"}) {
		t.Errorf("officers %v", got)
	}
	if err := c.CheckApprovals("D00DAD"); err != nil {
		t.Error(err)
	}
	for _, other := range []string{"", "D00DAE"} {
		if err := c.CheckApprovals(other); !errors.Is(err, ceremony.ErrMismatch) {
			t.Errorf("approved for %q: %v", other, err)
		}
	}
	shuffled := p.papers
	shuffled.Submissions = slices.Clone(shuffled.Submissions)
	slices.Reverse(shuffled.Submissions)
	if again := check(&shuffled); !slices.Equal(again.ComponentDigests(), c.ComponentDigests()) || again.CheckApprovals("D00DAD") != nil {
		t.Error("the order in which components came matters")
	}
	for n := range 3 {
		some := ceremony.Proceedings{Opening: p.papers.Opening, Definition: p.papers.Definition, Submissions: p.papers.Submissions[:n]}
		if got := check(&some).Missing(); got != (ceremony.Need{Components: 3 - n, Approvals: 2}) {
			t.Errorf("with %d components %+v are missing", n, got)
		}
	}
	fewer := p.papers
	fewer.Submissions = fewer.Submissions[:2]
	if err := check(&fewer).CheckApprovals("D00DAD"); !errors.Is(err, ceremony.ErrMismatch) {
		t.Errorf("an approval of three components is one of two: %v", err)
	}
}

// Each error of papers.
func TestPapersThatAreNot(t *testing.T) {
	stranger := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	for _, c := range []struct {
		name   string
		change func(p *play)
		want   error
	}{
		{"no opening", func(p *play) { p.papers.Opening = ceremony.Signed{} }, ceremony.ErrDocument},
		{"an opening that nobody signed", func(p *play) { p.papers.Opening.Signature = nil }, ceremony.ErrSignature},
		{"an opening by another", func(p *play) {
			p.papers.Opening.Signature = must(ceremony.Sign(stranger, ceremony.OfOpening, p.papers.Opening.Document))
		}, ceremony.ErrSignature},
		{"a record as an opening", func(p *play) {
			p.papers.Opening.Signature = must(ceremony.Sign(p.module, ceremony.OfRecord, p.papers.Opening.Document))
		}, ceremony.ErrSignature},
		{"an opening in another's name", func(p *play) { o := *p.opening; o.Identity = ceremony.Digest(nil); p.open(o) }, ceremony.ErrOpening},
		{"an opening without an identifier", func(p *play) { o := *p.opening; o.ID = ""; p.open(o) }, ceremony.ErrOpening},
		{"an identifier in capitals", func(p *play) { o := *p.opening; o.ID = strings.ToUpper(o.ID); p.open(o) }, ceremony.ErrOpening},
		{"an opening without a definition", func(p *play) { o := *p.opening; o.Definition = ""; p.open(o) }, ceremony.ErrOpening},
		{"an opening without a roster", func(p *play) { o := *p.opening; o.Roster = "x"; p.open(o) }, ceremony.ErrOpening},
		{"another definition", func(p *play) {
			d := definitions()[ceremony.Load]
			d.Reason = "another"
			p.papers.Definition = must(ceremony.Encode(d))
		}, ceremony.ErrOpening},
		{"another kind in the opening", func(p *play) { o := *p.opening; o.Kind = ceremony.Create; p.open(o) }, ceremony.ErrOpening},
		{"a definition that is none", func(p *play) { p.papers.Definition = []byte("{}") }, ceremony.ErrDocument},
		{"a definition that is refused", func(p *play) { p.papers.Definition = must(ceremony.Encode(&ceremony.Definition{Kind: ceremony.Load})) }, ceremony.ErrDefinition},
		{"the moment at which it expires", func(p *play) { o := *p.opening; o.Expires = opened + 5; p.open(o) }, ceremony.ErrExpired},
		{"too many submissions", func(p *play) { p.papers.Submissions = make([]ceremony.Submission, 19) }, ceremony.ErrComplete},
		{"too many approvals", func(p *play) { p.papers.Approvals = make([]ceremony.Signed, ceremony.MaxOfficers+1) }, ceremony.ErrComplete},
		{"a submission that is none", func(p *play) { p.papers.Submissions[0] = ceremony.Submission{} }, ceremony.ErrDocument},
		{"a place too many", func(p *play) { p.papers.Submissions[2] = p.submission("dave", 4) }, ceremony.ErrComplete},
		{"a place before the first", func(p *play) { p.papers.Submissions[2] = p.submission("dave", -1) }, ceremony.ErrComplete},
		{"no place", func(p *play) { p.papers.Submissions[2] = p.submission("dave", 0) }, ceremony.ErrComplete},
		{"a place twice", func(p *play) { p.papers.Submissions[2] = p.submission("dave", 1) }, ceremony.ErrRepeated},
		{"an officer twice", func(p *play) { p.papers.Submissions[2] = p.submission("alice", 3) }, ceremony.ErrRepeated},
		{"another component", func(p *play) { p.papers.Submissions[2].Sealed = p.papers.Submissions[1].Sealed }, ceremony.ErrSealed},
		{"an empty component", func(p *play) { p.papers.Submissions[2].Sealed = []byte{} }, ceremony.ErrSealed},
		{"a large component", func(p *play) { p.papers.Submissions[2].Sealed = make([]byte, ceremony.MaxSealedComponent+1) }, ceremony.ErrSealed},
		{"a submission without a digest", func(p *play) {
			p.papers.Submissions[2] = ceremony.Submission{Statement: p.sign("dave", ceremony.Statement{Action: ceremony.Submit, Index: 3, CheckValue: "0A1B2C"})}
		}, ceremony.ErrDocument},
		{"a submission without a check value", func(p *play) {
			p.papers.Submissions[2] = ceremony.Submission{Statement: p.sign("dave", ceremony.Statement{Action: ceremony.Submit, Index: 3, Component: ceremony.Digest(nil)})}
		}, ceremony.ErrDocument},
		{"a submission that approves", func(p *play) {
			p.papers.Submissions[2] = ceremony.Submission{Statement: p.sign("dave", ceremony.Statement{Action: ceremony.Submit, Index: 3, Component: ceremony.Digest(nil), CheckValue: "0A1B2C", Components: []string{"x"}})}
		}, ceremony.ErrDocument},
		{"an approval as a submission", func(p *play) { p.papers.Submissions[0].Statement = p.papers.Approvals[0] }, ceremony.ErrMismatch},
		{"a submission as an approval", func(p *play) { p.papers.Approvals[0] = p.papers.Submissions[0].Statement }, ceremony.ErrMismatch},
		{"an approval twice", func(p *play) { p.papers.Approvals[1] = p.papers.Approvals[0] }, ceremony.ErrRepeated},
		{"an approval that submits", func(p *play) {
			p.papers.Approvals[1] = p.sign("dave", ceremony.Statement{Action: ceremony.Approve, Component: ceremony.Digest(nil)})
		}, ceremony.ErrDocument},
		{"an approval with an index", func(p *play) {
			p.papers.Approvals[1] = p.sign("dave", ceremony.Statement{Action: ceremony.Approve, Index: 1})
		}, ceremony.ErrDocument},
		{"an approval by another's key", func(p *play) {
			p.papers.Approvals[1].Signature = must(ceremony.Sign(p.officers["alice"], ceremony.ByOfficer, p.papers.Approvals[1].Document))
		}, ceremony.ErrSignature},
		{"an approval by nobody known", func(p *play) {
			p.papers.Approvals[1].Document = bytes.Replace(p.papers.Approvals[1].Document, []byte("dave"), []byte("mallory"), 1)
		}, ceremony.ErrOfficer},
		{"an approval before the opening was another", func(p *play) { o := *p.opening; o.Epoch++; p.open(o) }, ceremony.ErrMismatch},
		{"another roster", func(p *play) { c := *p.cast; c.roster = *p.rosterCopy(); c.roster.Quorum.Roster = 2; p.cast = &c }, ceremony.ErrRosterChanged},
		{"an officer who has left", func(p *play) {
			c := *p.cast
			c.roster = *p.rosterCopy()
			c.roster.Officers = c.roster.Officers[:3]
			p.cast = &c
		}, ceremony.ErrOfficer},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := loading()
			c.change(p)
			got, err := p.papers.Check(&p.module.PublicKey, &p.roster, opened+5)
			if !errors.Is(err, c.want) || got != nil {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// Shares of master keys belong in the places that the definition names, and one officer may
// have one of the present ones and one of the next.
func TestSharesHaveTheirPlaces(t *testing.T) {
	d := definitions()[ceremony.Masters] // alice, dave; before alice, bob
	p := newPlay(d)
	p.submit("alice", "dave", "alice", "bob")
	c, err := p.papers.Check(&p.module.PublicKey, &p.roster, opened+5)
	if err != nil || c.Missing().Components != 0 {
		t.Fatalf("%v, %+v", err, c)
	}
	for _, order := range [][]string{{"dave"}, {"alice", "alice"}, {"alice", "dave", "bob"}, {"alice", "dave", "alice", "alice"}} {
		p := newPlay(d)
		p.submit(order...)
		if _, err := p.papers.Check(&p.module.PublicKey, &p.roster, opened+5); !errors.Is(err, ceremony.ErrMismatch) {
			t.Errorf("%v: %v", order, err)
		}
	}
}

// A record is verified by whoever has it and the fingerprint of the module.
func TestRecordIsVerifiedOffline(t *testing.T) {
	p := loading()
	signed := p.record(nil)
	r, c, err := ceremony.VerifyRecord(&p.module.PublicKey, signed)
	if err != nil || r.Outcome.Epoch != 8 || len(c.Approvals) != 2 || len(c.Submissions) != 3 {
		t.Fatal(err)
	}
	stranger := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	if _, _, err := ceremony.VerifyRecord(&stranger.PublicKey, signed); !errors.Is(err, ceremony.ErrSignature) {
		t.Errorf("by another module: %v", err)
	}
	for i := range signed.Document {
		altered := ceremony.Signed{Document: bytes.Clone(signed.Document), Signature: signed.Signature}
		altered.Document[i] ^= 1
		if r, c, err := ceremony.VerifyRecord(&p.module.PublicKey, altered); !errors.Is(err, ceremony.ErrSignature) || r != nil || c != nil {
			t.Fatalf("byte %d altered: %v", i, err)
		}
	}
	for i := range signed.Signature {
		altered := ceremony.Signed{Document: signed.Document, Signature: bytes.Clone(signed.Signature)}
		altered.Signature[i] ^= 1
		if _, _, err := ceremony.VerifyRecord(&p.module.PublicKey, altered); !errors.Is(err, ceremony.ErrSignature) {
			t.Fatalf("byte %d of the signature altered: %v", i, err)
		}
	}
}

// What a module that lies has signed contradicts itself: the officers' signatures are not its.
func TestRecordsThatContradictThemselves(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(p *play, r *ceremony.Record)
		want   error
	}{
		{"a component less", func(_ *play, r *ceremony.Record) { r.Submissions = r.Submissions[:2] }, ceremony.ErrRecord},
		{"an approval less", func(_ *play, r *ceremony.Record) { r.Approvals = r.Approvals[:1] }, ceremony.ErrRecord},
		{"no papers", func(_ *play, r *ceremony.Record) { r.Submissions, r.Approvals = nil, nil }, ceremony.ErrRecord},
		{"another check value", func(_ *play, r *ceremony.Record) { r.Outcome.CheckValue = "000000" }, ceremony.ErrRecord},
		{"an end before the beginning", func(_ *play, r *ceremony.Record) { r.Time = opened - 1 }, ceremony.ErrRecord},
		{"an end after the end", func(_ *play, r *ceremony.Record) { r.Time = expires }, ceremony.ErrExpired},
		{"another roster", func(p *play, r *ceremony.Record) {
			roster := p.rosterCopy()
			roster.Quorum.Roster = 2
			r.Roster = must(ceremony.Encode(roster))
		}, ceremony.ErrRosterChanged},
		{"a roster that is none", func(_ *play, r *ceremony.Record) { r.Roster = []byte("{}") }, ceremony.ErrDocument},
		{"a roster of one", func(p *play, r *ceremony.Record) {
			roster := p.rosterCopy()
			roster.Officers = roster.Officers[:1]
			r.Roster = must(ceremony.Encode(roster))
		}, ceremony.ErrRoster},
		{"another definition", func(_ *play, r *ceremony.Record) {
			r.Definition = must(ceremony.Encode(definitions()[ceremony.Create]))
		}, ceremony.ErrOpening},
		{"approvals of other components", func(p *play, r *ceremony.Record) {
			r.Submissions = slices.Clone(r.Submissions)
			r.Submissions[0] = ceremony.Submission{Statement: p.submission("alice", 1).Statement}
		}, ceremony.ErrMismatch},
		{"an approval that was made up", func(p *play, r *ceremony.Record) {
			r.Approvals = slices.Clone(r.Approvals)
			r.Approvals[0].Signature = must(ceremony.Sign(p.module, ceremony.ByOfficer, r.Approvals[0].Document))
		}, ceremony.ErrSignature},
		{"an opening that asks for too few", func(p *play, r *ceremony.Record) {
			o := *p.opening
			o.Need = ceremony.Need{Components: 1, Approvals: 1}
			fewer := *p
			fewer.open(o)
			fewer.papers.Submissions, fewer.papers.Approvals = nil, nil
			fewer.submit("alice")
			fewer.approve("D00DAD", "alice")
			r.Proceedings = fewer.papers
		}, ceremony.ErrRecord},
	} {
		p := loading()
		signed := p.record(func(r *ceremony.Record) { c.change(p, r) })
		if r, _, err := ceremony.VerifyRecord(&p.module.PublicKey, signed); !errors.Is(err, c.want) || r != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	p := loading()
	for name, document := range map[string][]byte{"nothing": nil, "another document": p.papers.Opening.Document, "an empty record": []byte("{}")} {
		signed := ceremony.Signed{Document: document, Signature: must(ceremony.Sign(p.module, ceremony.OfRecord, document))}
		if _, _, err := ceremony.VerifyRecord(&p.module.PublicKey, signed); !errors.Is(err, ceremony.ErrDocument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A record of every kind can be as large as papers may be, and is still one.
func TestRecordsOfFullRostersAreRead(t *testing.T) {
	p := loading()
	signed := p.record(nil)
	if len(signed.Document)*8 > ceremony.MaxRecord {
		t.Errorf("a record of 5 statements has %d bytes: one of 41 is larger than %d", len(signed.Document), ceremony.MaxRecord)
	}
}

// What a module says of itself is signed with the key that it names.
func TestIdentityIsSignedByItself(t *testing.T) {
	c := theCast()
	roster := must(ceremony.Encode(&c.roster))
	identity := func(change func(*ceremony.Identity)) ceremony.Signed {
		i := &ceremony.Identity{Key: must(x509.MarshalPKIXPublicKey(&c.module.PublicKey)), Roster: roster, Epoch: 1, Document: ceremony.Digest(nil), Generation: 1, Masters: "0A1B2C", Time: opened}
		if change != nil {
			change(i)
		}
		encoded := must(ceremony.Encode(i))
		return ceremony.Signed{Document: encoded, Signature: must(ceremony.Sign(c.module, ceremony.OfIdentity, encoded))}
	}
	i, key, r, err := ceremony.ParseIdentity(identity(nil))
	if err != nil || !key.Equal(&c.module.PublicKey) || len(r.Officers) != 4 || i.Epoch != 1 {
		t.Fatal(err)
	}
	altered := identity(nil)
	altered.Document = bytes.Replace(altered.Document, []byte(`"epoch":1`), []byte(`"epoch":2`), 1)
	small := c.rosterCopy()
	small.Officers = small.Officers[:1]
	for name, c := range map[string]struct {
		signed ceremony.Signed
		want   error
	}{
		"nothing":             {ceremony.Signed{}, ceremony.ErrDocument},
		"altered":             {altered, ceremony.ErrSignature},
		"another's key":       {identity(func(i *ceremony.Identity) { i.Key = c.roster.Officers[0].Key }), ceremony.ErrSignature},
		"no key":              {identity(func(i *ceremony.Identity) { i.Key = nil }), ceremony.ErrKeyKind},
		"no roster":           {identity(func(i *ceremony.Identity) { i.Roster = nil }), ceremony.ErrDocument},
		"a roster of nobody":  {identity(func(i *ceremony.Identity) { i.Roster = must(ceremony.Encode(small)) }), ceremony.ErrRoster},
		"an opening as it is": {loading().papers.Opening, ceremony.ErrDocument},
	} {
		if i, key, r, err := ceremony.ParseIdentity(c.signed); !errors.Is(err, c.want) || i != nil || key != nil || r != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
