package quorum_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/quorum"
	"keyd/hsm/module/internal/token"
)

// zone is the ceremony that most refusals are about: a key from two components.
func zone(b *bench) *run {
	b.Helper()
	return b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Load, Key: spec("zone", "K1", "A", 32, "B", "N"), Components: 2})
}

// ready is zone with everything that it takes.
func ready(b *bench) *run {
	b.Helper()
	r := zone(b)
	r.submitAll(random(32))
	r.approve("alice", "bob")
	return r
}

// Papers that are not what they seem are refused, each for its own reason, and what is refused
// by Check is by CarryOut.
func TestHostilePapers(t *testing.T) {
	b := newBench(t)
	other := ready(b) // another ceremony for the same definition
	foreign := newBench(t)
	value := random(32)
	for _, c := range []struct {
		name   string
		change func(r *run)
		want   fault.Reason
	}{
		{"nothing is wrong", func(*run) {}, 0},
		{"one officer alone", func(r *run) { r.papers.Submissions, r.papers.Approvals = r.papers.Submissions[:1], nil }, fault.QuorumMissing},
		{"one approval", func(r *run) { r.papers.Approvals = r.papers.Approvals[:1] }, fault.QuorumMissing},
		{"one component, two approvals", func(r *run) {
			r.papers.Submissions, r.papers.Approvals = r.papers.Submissions[:1], nil
			r.approve("alice", "bob")
		}, fault.QuorumMissing},
		{"an officer brings both components", func(r *run) {
			r.papers.Submissions[1] = r.submission("alice", 2, random(32))
		}, fault.OfficerRepeated},
		{"two officers in one place", func(r *run) { r.papers.Submissions[1] = r.submission("bob", 1, random(32)) }, fault.OfficerRepeated},
		{"an officer approves twice", func(r *run) { r.papers.Approvals[1] = r.papers.Approvals[0] }, fault.OfficerRepeated},
		{"an officer approves twice, signed anew", func(r *run) { r.papers.Approvals = r.papers.Approvals[:1]; r.approve("alice") }, fault.OfficerRepeated},
		{"a third component", func(r *run) {
			r.papers.Submissions = append(r.papers.Submissions, r.submission("carol", 3, random(32)))
		}, fault.CeremonyClosed},
		{"a component in place 0", func(r *run) { r.papers.Submissions[1] = r.submission("bob", 0, random(32)) }, fault.CeremonyClosed},
		{"a component in place -1", func(r *run) { r.papers.Submissions[1] = r.submission("bob", -1, random(32)) }, fault.CeremonyClosed},
		{"another check value of a component", func(r *run) {
			s := r.submission("bob", 2, random(32))
			r.papers.Submissions[1] = resign(r, s, func(s *ceremony.Statement) { s.CheckValue = "123456" })
		}, fault.CheckValueMismatch},
		{"no check value of a component", func(r *run) {
			r.papers.Submissions[1] = resign(r, r.submission("bob", 2, random(32)), func(s *ceremony.Statement) { s.CheckValue = "" })
		}, fault.RequestInvalid},
		{"another check value of the key", func(r *run) {
			r.papers.Approvals[1] = r.statement("bob", &ceremony.Statement{Action: ceremony.Approve, CheckValue: "123456", Components: r.components()})
		}, fault.StatementMismatch},
		{"no check value of the key", func(r *run) {
			r.papers.Approvals[1] = r.statement("bob", &ceremony.Statement{Action: ceremony.Approve, Components: r.components()})
		}, fault.StatementMismatch},
		{"a component altered on the way", func(r *run) { r.papers.Submissions[0].Sealed[150] ^= 1 }, fault.ComponentInvalid},
		{"a component's point altered", func(r *run) { r.papers.Submissions[0].Sealed[10] ^= 1 }, fault.ComponentInvalid},
		{"a component withheld", func(r *run) { r.papers.Submissions[0].Sealed = nil }, fault.ComponentInvalid},
		{"an empty component", func(r *run) { r.papers.Submissions[0].Sealed = []byte{} }, fault.ComponentInvalid},
		{"a component cut short", func(r *run) { r.papers.Submissions[0].Sealed = r.papers.Submissions[0].Sealed[:133] }, fault.ComponentInvalid},
		{"a component put in another's place", func(r *run) {
			a, b := &r.papers.Submissions[0], &r.papers.Submissions[1]
			a.Sealed, b.Sealed = b.Sealed, a.Sealed
		}, fault.ComponentInvalid},
		{"a component sealed for another place", func(r *run) {
			s := r.submission("bob", 1, random(32)) // sealed for place 1, signed for 2
			r.papers.Submissions[1] = resign(r, s, func(s *ceremony.Statement) { s.Index = 2 })
		}, fault.ComponentInvalid},
		{"a component sealed for another officer", func(r *run) {
			s := r.submission("carol", 2, random(32))
			statement := decode(r, s)
			r.papers.Submissions[1] = ceremony.Submission{Sealed: s.Sealed, Statement: r.sign("bob", statement)}
		}, fault.ComponentInvalid},
		{"a component sealed for another ceremony", func(r *run) {
			s := other.submission("bob", 2, random(32))
			r.papers.Submissions[1] = resign(r, s, func(s *ceremony.Statement) { s.Opening = r.digest })
		}, fault.ComponentInvalid},
		{"a component of another length", func(r *run) { r.papers.Submissions[1] = r.submission("bob", 2, random(24)) }, fault.ComponentInvalid},
		{"a component from another ceremony", func(r *run) { r.papers.Submissions[1] = other.papers.Submissions[1] }, fault.StatementMismatch},
		{"an approval from another ceremony", func(r *run) { r.papers.Approvals[1] = other.papers.Approvals[1] }, fault.StatementMismatch},
		{"an approval over other components", func(r *run) {
			r.papers.Submissions[1] = r.submission("bob", 2, split(value, 2)[1])
		}, fault.StatementMismatch},
		{"an approval over fewer components", func(r *run) {
			digests := r.components()[:1]
			check, err := r.check()
			r.must(err)
			r.papers.Approvals[1] = r.statement("bob", &ceremony.Statement{Action: ceremony.Approve, CheckValue: check, Components: digests})
		}, fault.StatementMismatch},
		{"a submission as an approval", func(r *run) { r.papers.Approvals[1] = r.papers.Submissions[1].Statement }, fault.StatementMismatch},
		{"an approval as a submission", func(r *run) { r.papers.Submissions[1].Statement = r.papers.Approvals[1] }, fault.StatementMismatch},
		{"a begin as an approval", func(r *run) { r.papers.Approvals[1] = r.wish("bob", r.def) }, fault.StatementMismatch},
		{"an abort as an approval", func(r *run) { r.papers.Approvals[1] = r.statement("bob", &ceremony.Statement{Action: ceremony.Abort}) }, fault.StatementMismatch},
		{"an approval with a component in it", func(r *run) {
			s := decode(r, ceremony.Submission{Statement: r.papers.Approvals[1]})
			s.Index = 1
			r.papers.Approvals[1] = r.sign("bob", s)
		}, fault.RequestInvalid},
		{"an approval for another roster", func(r *run) {
			s := decode(r, ceremony.Submission{Statement: r.papers.Approvals[1]})
			s.Roster = r.digest
			r.papers.Approvals[1] = r.sign("bob", s)
		}, fault.StatementMismatch},
		{"an approval for another module", func(r *run) {
			s := decode(r, ceremony.Submission{Statement: r.papers.Approvals[1]})
			s.Identity = r.digest
			r.papers.Approvals[1] = r.sign("bob", s)
		}, fault.StatementMismatch},
		{"an approval for another definition", func(r *run) {
			s := decode(r, ceremony.Submission{Statement: r.papers.Approvals[1]})
			s.Definition = r.digest
			r.papers.Approvals[1] = r.sign("bob", s)
		}, fault.StatementMismatch},
		{"an approval altered", func(r *run) {
			r.papers.Approvals[1].Document = bytes.Replace(r.papers.Approvals[1].Document, []byte(`"time":1`), []byte(`"time":2`), 1)
		}, fault.SignatureInvalid},
		{"an approval in another's name", func(r *run) {
			r.papers.Approvals[1].Document = bytes.Replace(r.papers.Approvals[1].Document, []byte(`"bob"`), []byte(`"dave"`), 1)
		}, fault.SignatureInvalid},
		{"an approval by nobody known", func(r *run) {
			r.papers.Approvals[1].Document = bytes.Replace(r.papers.Approvals[1].Document, []byte(`"bob"`), []byte(`"mallory"`), 1)
		}, fault.OfficerUnknown},
		{"an approval without a signature", func(r *run) { r.papers.Approvals[1].Signature = nil }, fault.SignatureInvalid},
		{"an approval that is no document", func(r *run) { r.papers.Approvals[1].Document = []byte("yes") }, fault.RequestInvalid},
		{"an approval in other spelling", func(r *run) {
			r.papers.Approvals[1].Document = append(bytes.Clone(r.papers.Approvals[1].Document), '\n')
		}, fault.RequestInvalid},
		{"the opening altered", func(r *run) {
			r.papers.Opening.Document = bytes.Replace(r.papers.Opening.Document, []byte(`"components":2`), []byte(`"components":1`), 1)
		}, fault.SignatureInvalid},
		{"the opening signed by another token", func(r *run) {
			o := *r.opening
			r.papers.Opening = foreign.signAsModule(&o)
		}, fault.SignatureInvalid},
		{"the opening of another token", func(r *run) { r.papers.Opening = ready(foreign).papers.Opening }, fault.SignatureInvalid},
		{"an opening of another ceremony", func(r *run) { r.papers.Opening = other.papers.Opening }, fault.StatementMismatch},
		{"no opening", func(r *run) { r.papers.Opening = ceremony.Signed{} }, fault.RequestInvalid},
		{"the definition swapped", func(r *run) {
			d := &ceremony.Definition{Kind: ceremony.Load, Key: spec("zone", "K1", "A", 32, "B", "E"), Components: 2}
			r.papers.Definition = r.encode(d)
		}, fault.StatementMismatch},
		{"the definition swapped for one of another kind", func(r *run) {
			r.papers.Definition = r.encode(&ceremony.Definition{Kind: ceremony.Stop, Target: ref("zone")})
		}, fault.StatementMismatch},
		{"the definition in other spelling", func(r *run) { r.papers.Definition = append(bytes.Clone(r.papers.Definition), ' ') }, fault.RequestInvalid},
		{"no definition", func(r *run) { r.papers.Definition = nil }, fault.RequestInvalid},
		{"an expired ceremony", func(r *run) { r.now = r.now.Add(time.Hour) }, fault.CeremonyExpired},
		{"too many approvals", func(r *run) {
			for range ceremony.MaxOfficers {
				r.papers.Approvals = append(r.papers.Approvals, r.papers.Approvals[0])
			}
		}, fault.CeremonyClosed},
		{"too many components", func(r *run) {
			for range 2 * ceremony.MaxComponents {
				r.papers.Submissions = append(r.papers.Submissions, r.papers.Submissions[0])
			}
		}, fault.CeremonyClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.TB, foreign.TB = t, t
			now := b.now
			defer func() { b.now = now }()
			r := zone(b)
			defer r.abort()
			r.submitAll(value)
			r.approve("alice", "bob")
			c.change(r)
			_, err := r.check()
			if c.want != 0 && fault.Of(err).Reason != c.want && (err != nil || c.want != fault.QuorumMissing) {
				t.Errorf("Check: %v", err)
			}
			_, err = r.carryOut()
			if c.want == 0 {
				b.must(err)
				return
			}
			refused(t, err, c.want)
		})
	}
}

// abort has the ceremony called off, so that it takes no room in the token.
func (r *run) abort() {
	r.Helper()
	epoch, err := r.callOff(r.roster.Officers[0].Name)
	if fault.Of(err).Reason == fault.SignatureInvalid || fault.Of(err).Reason == fault.RequestInvalid || fault.Of(err).Reason == fault.StatementMismatch || fault.Of(err).Reason == fault.CeremonyExpired {
		return // the papers are no good; what is open expires
	}
	r.must(err)
	r.must(r.commitEpoch(epoch))
	r.epoch = epoch
}

func (r *run) callOff(officer string) (epoch []byte, err error) {
	r.Helper()
	statement := r.statement(officer, &ceremony.Statement{Action: ceremony.Abort})
	err = r.token.Do(func(s *token.Session) (err error) { epoch, err = r.engine.Abort(s, &r.papers, statement); return err })
	if err != nil && epoch != nil {
		r.Error("an epoch was returned with an error")
	}
	return epoch, err
}

// signAsModule signs an opening with the token's identity.
func (b *bench) signAsModule(o *ceremony.Opening) (signed ceremony.Signed) {
	b.Helper()
	var err error
	signed.Document, err = ceremony.Encode(o)
	b.must(err)
	b.do(func(s *token.Session) error {
		pair, err := s.FindPair("keyd identity")
		if err == nil {
			signed.Signature, err = ceremony.Sign(s.Signer(pair), ceremony.OfOpening, signed.Document)
		}
		return err
	})
	return signed
}

func decode(r *run, s ceremony.Submission) *ceremony.Statement {
	r.Helper()
	statement, err := ceremony.Decode[ceremony.Statement](s.Statement.Document, ceremony.MaxDocument)
	r.must(err)
	return statement
}

// resign has the officer of a submission sign another statement over the same component.
func resign(r *run, s ceremony.Submission, change func(*ceremony.Statement)) ceremony.Submission {
	r.Helper()
	statement := decode(r, s)
	change(statement)
	return ceremony.Submission{Sealed: s.Sealed, Statement: r.sign(statement.Officer, statement)}
}

// What does not open a ceremony.
func TestHostileBeginnings(t *testing.T) {
	b := newBench(t)
	d := &ceremony.Definition{Kind: ceremony.Create, Key: spec("k", "P0", "T", 16, "B", "N")}
	encoded := b.encode(d)
	for _, c := range []struct {
		name string
		def  []byte
		wish func() ceremony.Signed
		want fault.Reason
	}{
		{"by nobody known", encoded, func() ceremony.Signed {
			b.newOfficer("mallory", elliptic.P256())
			return b.wish("mallory", encoded)
		}, fault.OfficerUnknown},
		{"signed by another", encoded, func() ceremony.Signed {
			s := b.wish("bob", encoded)
			s.Document = bytes.Replace(s.Document, []byte("bob"), []byte("dave"), 1)
			return s
		}, fault.SignatureInvalid},
		{"for another definition", encoded, func() ceremony.Signed { return b.wish("bob", []byte("another")) }, fault.StatementMismatch},
		{"an approval", encoded, func() ceremony.Signed {
			return b.sign("bob", &ceremony.Statement{Action: ceremony.Approve, Definition: ceremony.Digest(encoded)})
		}, fault.StatementMismatch},
		{"for another module", encoded, func() ceremony.Signed {
			return b.sign("bob", &ceremony.Statement{Action: ceremony.Begin, Definition: ceremony.Digest(encoded), Identity: ceremony.Digest(nil)})
		}, fault.StatementMismatch},
		{"for another roster", encoded, func() ceremony.Signed {
			return b.sign("bob", &ceremony.Statement{Action: ceremony.Begin, Definition: ceremony.Digest(encoded), Roster: ceremony.Digest(nil)})
		}, fault.StatementMismatch},
		{"in a ceremony that is open", encoded, func() ceremony.Signed {
			return b.sign("bob", &ceremony.Statement{Action: ceremony.Begin, Definition: ceremony.Digest(encoded), Opening: ceremony.Digest(nil)})
		}, fault.StatementMismatch},
		{"signed under another purpose", encoded, func() ceremony.Signed {
			s := b.wish("bob", encoded)
			var err error
			s.Signature, err = ceremony.Sign(b.signers["bob"], ceremony.OfOpening, s.Document)
			b.must(err)
			return s
		}, fault.SignatureInvalid},
		{"nothing at all", encoded, func() ceremony.Signed { return ceremony.Signed{} }, fault.RequestInvalid},
		{"a definition that is none", []byte("{}"), func() ceremony.Signed { return b.wish("bob", []byte("{}")) }, fault.RequestInvalid},
		{"a definition in other spelling", append(bytes.Clone(encoded), '\n'), func() ceremony.Signed { return b.wish("bob", encoded) }, fault.RequestInvalid},
		{"a definition that says too little", b.encode(&ceremony.Definition{Kind: ceremony.Create}), func() ceremony.Signed {
			return b.wish("bob", b.encode(&ceremony.Definition{Kind: ceremony.Create}))
		}, fault.DefinitionInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.TB = t
			_, err := b.beginWith(c.def, c.wish(), quorum.Inputs{})
			refused(t, err, c.want)
		})
	}
}

// A begin statement that is sent again opens another ceremony, in which nothing counts yet.
func TestBeginStatementSentAgainChangesNothing(t *testing.T) {
	b := newBench(t)
	encoded := b.encode(&ceremony.Definition{Kind: ceremony.Stop, Target: ref("k")})
	b.perform(&ceremony.Definition{Kind: ceremony.Create, Key: spec("k", "P0", "T", 16, "B", "N")})
	wish := b.wish("alice", encoded)
	in := quorum.Inputs{}
	first, err := b.beginWith(encoded, wish, in)
	b.must(err)
	first.approve("alice")
	second, err := b.beginWith(encoded, wish, in)
	b.must(err)
	if first.opening.ID == second.opening.ID {
		t.Fatal("one identifier for two ceremonies")
	}
	_, err = second.carryOut()
	refused(t, err, fault.QuorumMissing)
	second.papers.Approvals = first.papers.Approvals
	_, err = second.carryOut()
	refused(t, err, fault.StatementMismatch)
	if b.current().Version != 2 {
		t.Error("the epoch changed")
	}
}

// More officers than there are can never be had, and only so many ceremonies with
// components are open at one time.
func TestBeginningsThatLeadNowhere(t *testing.T) {
	b := newBench(t)
	_, err := b.begin("alice", &ceremony.Definition{Kind: ceremony.Create, Key: spec("k", "P0", "T", 16, "B", "N"), Approvals: 5})
	refused(t, err, fault.QuorumMissing)
	d := &ceremony.Definition{Kind: ceremony.Load, Key: spec("k", "P0", "T", 16, "B", "N"), Components: 5}
	_, err = b.begin("alice", d)
	refused(t, err, fault.QuorumMissing)
	d.Components = 2
	for range 32 {
		b.mustBegin("alice", d)
	}
	_, err = b.begin("alice", d)
	refused(t, err, fault.Conflict)
	b.perform(&ceremony.Definition{Kind: ceremony.Create, Key: spec("c", "P0", "T", 16, "B", "N")}) // needs no room
	b.now = b.now.Add(time.Hour)
	b.mustBegin("alice", d) // those have expired
	if n := len(b.pairs()); n != 1 {
		t.Errorf("%d key pairs are left", n)
	}
}

// Values that nobody should use as a key, however they come.
func TestValuesThatAreRefused(t *testing.T) {
	b := newBench(t)
	known := random(16)
	b.load(spec("known", "P0", "T", 16, "B", "N"), known)
	flipped := slices.Clone(known)
	for i := range flipped {
		flipped[i] ^= 1
	}
	wrapping, deriving := random(16), random(16)
	b.load(spec("wrapping", "K1", "T", 16, "B", "N"), wrapping)
	b.load(spec("deriving", "B0", "T", 16, "X", "N"), deriving)
	masked := func(value []byte, mask ...byte) []byte {
		v := slices.Clone(value)
		for i := range v {
			v[i] ^= mask[i%len(mask)]
		}
		return v
	}
	left, right := random(8), random(8)
	odd := slices.Clone(left)
	for i := range odd {
		odd[i] ^= byte(i) & 1
	}
	for _, c := range []struct {
		name, usage, algorithm string
		value                  []byte
		want                   fault.Reason
	}{
		{"zero", "P0", "T", make([]byte, 16), fault.KeyValueRefused},
		{"zero, AES", "P0", "A", make([]byte, 32), fault.KeyValueRefused},
		{"zero, HMAC", "M7", "H", make([]byte, 32), fault.KeyValueRefused},
		{"one byte again and again", "P0", "A", bytes.Repeat([]byte{0x5A}, 16), fault.KeyValueRefused},
		{"one byte but for parity", "P0", "T", bytes.Repeat([]byte{0x5A, 0x5B}, 8), fault.KeyValueRefused},
		{"a weak half", "P0", "T", slices.Concat(right, unhex(t, "0101010101010101")), fault.KeyValueRefused},
		{"a weak half in even parity", "P0", "T", slices.Concat(unhex(t, "E1E0E1E0F0F1F0F1"), right), fault.KeyValueRefused},
		{"a semi-weak half", "P0", "T", slices.Concat(unhex(t, "01FE01FE01FE01FE"), right), fault.KeyValueRefused},
		{"another semi-weak half", "P0", "T", slices.Concat(left, unhex(t, "1FE01FE00EF10EF1")), fault.KeyValueRefused},
		{"a weak third", "P0", "T", slices.Concat(left, right, unhex(t, "FEFEFEFEFEFEFEFE")), fault.KeyValueRefused},
		{"equal halves", "P0", "T", slices.Concat(left, left), fault.KeyValueRefused},
		{"equal halves but for parity", "P0", "T", slices.Concat(left, odd), fault.KeyValueRefused},
		{"equal second and third parts", "P0", "T", slices.Concat(right, left, left), fault.KeyValueRefused},
		{"a protection key of two keys in three parts", "K1", "T", slices.Concat(left, right, left), fault.KeyValueRefused},
		{"the same, under a usage for which it may be", "P0", "T", slices.Concat(left, right, left), 0},
		{"a known value", "P0", "T", known, fault.KeyValueRefused},
		{"a known value under another usage", "V2", "T", known, fault.KeyValueRefused},
		{"a known value in other parity", "K1", "T", flipped, fault.KeyValueRefused},
		{"a known value in three parts", "P0", "T", slices.Concat(known, known[:8]), fault.KeyValueRefused},
		{"a known value as an AES key", "P0", "A", known, fault.KeyValueRefused},
		{"a known value as an HMAC key", "M7", "H", known, fault.KeyValueRefused},
		{"the variant that enciphers of a protection key", "P0", "T", masked(wrapping, 0x45), fault.KeyValueRefused},
		{"the variant that authenticates", "P0", "T", masked(wrapping, 0x4C), fault.KeyValueRefused}, // in other parity
		{"what a BDK makes initial keys with", "P0", "T", masked(deriving, 0xC0, 0xC0, 0xC0, 0xC0, 0, 0, 0, 0), fault.KeyValueRefused},
		{"something else of a protection key", "P0", "T", masked(wrapping, 0x55), 0},
		{"another value", "P0", "T", slices.Concat(left, right), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.TB = t
			mode := map[string]string{"V2": "V", "M7": "C"}[c.usage]
			if mode == "" {
				mode = "B"
			}
			r := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Load, Key: spec("k", c.usage, c.algorithm, len(c.value), mode, "N"), Components: 2})
			defer r.abort()
			r.submitAll(c.value)
			check, err := r.check()
			if c.want == 0 {
				if b.must(err); check != checkValue(c.algorithm, c.value) {
					t.Errorf("check value %s", check)
				}
				return
			}
			refused(t, err, c.want)
			_, err = r.carryOut()
			refused(t, err, fault.QuorumMissing) // which is looked at before any component
			r.papers.Approvals = append(r.papers.Approvals, r.statement("carol", &ceremony.Statement{Action: ceremony.Approve, CheckValue: checkValue(c.algorithm, c.value), Components: r.components()}))
			r.papers.Approvals = append(r.papers.Approvals, r.statement("dave", &ceremony.Statement{Action: ceremony.Approve, CheckValue: checkValue(c.algorithm, c.value), Components: r.components()}))
			_, err = r.carryOut()
			refused(t, err, c.want)
		})
	}
}

// Components that leave a key to fewer officers than it seems.
func TestComponentsThatAreNone(t *testing.T) {
	b := newBench(t)
	for _, size := range []int{2, 3, 4} {
		for name, make := range map[string]func(c [][]byte){
			"a component beside which all others are zero": func(c [][]byte) {
				for _, other := range c[1:] {
					clear(other)
				}
			},
			"a component beside which another is parity alone": func(c [][]byte) {
				for _, other := range c[2:] {
					clear(other)
				}
				copy(c[0], bytes.Repeat([]byte{0, 1, 1, 0}, 4))
			},
			"a component that two officers had": func(c [][]byte) { copy(c[0], c[1]); flip(c[0]) },
			"a component that is the whole key": func(c [][]byte) {
				clear(c[0])
				for _, other := range c[2:] {
					for i := range other {
						c[0][i] ^= other[i]
					}
				}
				flip(c[0]) // so that the others are parity alone together
			},
		} {
			components := split(random(16), size)
			make(components)
			r := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Load, Key: spec("k", "P0", "T", 16, "B", "N"), Components: size})
			for i, c := range components {
				r.submit(officerNames[i], i+1, c)
			}
			if _, err := r.check(); fault.Of(err).Reason != fault.KeyValueRefused {
				t.Errorf("%s of %d: %v", name, size, err)
			}
			r.abort()
		}
	}
}

// flip changes parity bits alone.
func flip(value []byte) {
	for i := range value {
		value[i] ^= byte(i) & 1
	}
}

// Who has had one component of a key never gets to enter another, over all its versions.
func TestNobodyEntersAnotherComponentLater(t *testing.T) {
	b := newBench(t)
	first := spec("zone", "K1", "A", 32, "B", "N")
	b.load(first, random(32)) // alice 1, bob 2
	for _, c := range []struct {
		one, two string
		want     fault.Reason
	}{
		{"bob", "alice", fault.OfficerRepeated}, {"carol", "alice", fault.OfficerRepeated}, {"bob", "dave", fault.OfficerRepeated}, {"carol", "bob", 0}, {"alice", "dave", 0}, {"alice", "bob", 0},
	} {
		r := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Load, Key: next(first), Components: 2})
		parts := split(random(32), 2)
		r.submit(c.one, 1, parts[0])
		r.submit(c.two, 2, parts[1])
		_, err := r.check()
		if c.want == 0 {
			b.must(err)
		} else {
			refused(t, err, c.want)
		}
		r.abort()
	}
	// A key of another name is another matter.
	r := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Load, Key: spec("other", "K1", "A", 32, "B", "N"), Components: 2})
	parts := split(random(32), 2)
	r.submit("bob", 1, parts[0])
	r.submit("alice", 2, parts[1])
	_, err := r.check()
	b.must(err)
}

// The check value in the definition, from the sender's letter, is one that the key must have.
func TestCheckValueOfTheDefinition(t *testing.T) {
	b := newBench(t)
	value := random(32)
	for check, want := range map[string]fault.Reason{checkValue("A", value): 0, "ABCDEF": fault.CheckValueMismatch} {
		r := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Load, Key: spec("k", "K1", "A", 32, "B", "N"), Components: 2, CheckValue: check})
		r.submitAll(value)
		_, err := r.check()
		if want == 0 {
			b.must(err)
		} else {
			refused(t, err, want)
		}
	}
}

// The keys that a definition names must be the ones in the register: the front cannot give
// others in their place.
func TestKeysGivenInPlaceOfOthers(t *testing.T) {
	s := newShelf(t, "a16", "a32", "sends")
	value := random(16)
	s.load(spec("key", "P0", "T", 16, "B", "E"), value)
	s.load(spec("other", "P0", "T", 16, "B", "E"), random(16))
	uncommitted := s.uncommitted(spec("key", "P0", "T", 16, "B", "E"))
	sender := &shelf{bench: newBench(t)}
	sender.load(spec("zone", "K1", "A", 32, "B", "N"), s.kbpk["a32"])
	sender.load(spec("sent", "P0", "T", 16, "B", "E"), random(16))
	block, err := sender.export("sent", "zone", ceremony.BlockForm{Version: "D", Exportability: "N"})
	s.must(err)
	given := func(name string) *hsm.Key { k := s.sealed[*ref(name)]; return &k }
	named := func(name, as string) *hsm.Key { k := s.sealed[*ref(name)]; k.Name = as; return &k }
	altered := func(name string) *hsm.Key {
		k := s.sealed[*ref(name)]
		k.Sealed = slices.Clone(k.Sealed)
		k.Sealed[len(k.Sealed)-40] ^= 1
		return &k
	}
	exporting := &ceremony.Definition{Kind: ceremony.Export, Target: ref("key"), Under: ref("a32"), Export: &ceremony.BlockForm{Version: "D", Exportability: "N"}}
	initial := &ceremony.Definition{Kind: ceremony.Export, Target: ref("key"), Under: ref("a32"), Export: &ceremony.BlockForm{Version: "D", Exportability: "N", KSN: "1234567890123456"}}
	importing := &ceremony.Definition{Kind: ceremony.Import, Key: spec("new", "P0", "T", 16, "B", "N"), Under: ref("a32"), Block: string(block.Text())}
	rotating := &ceremony.Definition{Kind: ceremony.Create, Key: next(spec("key", "P0", "T", 16, "B", "E"))}
	for _, c := range []struct {
		name string
		def  *ceremony.Definition
		in   quorum.Inputs
		want fault.Reason
	}{
		{"no target", exporting, quorum.Inputs{Under: given("a32")}, fault.KeyNotFound},
		{"another target", exporting, quorum.Inputs{Under: given("a32"), Target: given("other")}, fault.KeySealInvalid},
		{"another target by its name", exporting, quorum.Inputs{Under: given("a32"), Target: named("other", "key")}, fault.KeySealInvalid},
		{"a target that was altered", exporting, quorum.Inputs{Under: given("a32"), Target: altered("key")}, fault.KeySealInvalid},
		{"a target that nobody committed", exporting, quorum.Inputs{Under: given("a32"), Target: uncommitted}, fault.KeySealInvalid},
		{"another BDK", initial, quorum.Inputs{Under: given("a32"), Target: given("other")}, fault.KeySealInvalid},
		{"no protection key", exporting, quorum.Inputs{Target: given("key")}, fault.KeyNotFound},
		{"another protection key", exporting, quorum.Inputs{Under: given("a16"), Target: given("key")}, fault.KeyNotFound},
		{"another protection key by its name", exporting, quorum.Inputs{Under: named("a16", "a32"), Target: given("key")}, fault.KeySealInvalid},
		{"a protection key that was altered", exporting, quorum.Inputs{Under: altered("a32"), Target: given("key")}, fault.KeySealInvalid},
		{"the key itself as its protection", exporting, quorum.Inputs{Under: named("key", "a32"), Target: given("key")}, fault.KeySealInvalid},
		{"import under another", importing, quorum.Inputs{Under: named("sends", "a32")}, fault.KeySealInvalid},
		{"import under what was altered", importing, quorum.Inputs{Under: altered("a32")}, fault.KeySealInvalid},
		{"no version before", rotating, quorum.Inputs{}, fault.KeyNotFound},
		{"another version before", rotating, quorum.Inputs{Previous: given("other")}, fault.KeySealInvalid},
		{"another header for the version before", rotating, quorum.Inputs{Previous: uncommitted}, fault.KeySealInvalid},
		{"a version before that was altered", rotating, quorum.Inputs{Previous: altered("key")}, fault.KeySealInvalid},
		{"no key at all", rotating, quorum.Inputs{Previous: &hsm.Key{Name: "key"}}, fault.KeySealInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.bench.TB = t
			encoded := s.encode(c.def)
			_, err := s.beginWith(encoded, s.wish("alice", encoded), c.in)
			refused(t, err, c.want)
			// Likewise where the front gives the right ones first.
			r, err := s.begin("alice", c.def)
			if c.def == initial {
				return
			}
			s.must(err)
			r.approve("alice", "bob")
			r.in = c.in
			_, err = r.carryOut()
			refused(t, err, c.want)
		})
	}
	// Of a stopped protection key nobody makes use, nor of a stopped target.
	s.perform(&ceremony.Definition{Kind: ceremony.Stop, Target: ref("a32")})
	_, err = s.begin("alice", exporting)
	refused(t, err, fault.KeyDisabled)
	_, err = s.begin("alice", importing)
	refused(t, err, fault.KeyDisabled)
	exporting.Under = ref("sends")
	r := s.mustBegin("alice", exporting)
	r.approve("alice", "bob")
	s.perform(&ceremony.Definition{Kind: ceremony.Stop, Target: ref("key")})
	_, err = r.carryOut()
	refused(t, err, fault.KeyDisabled)
}

// uncommitted is a key of that specification that a ceremony made which was never committed:
// genuine, and yet nobody's.
func (b *bench) uncommitted(spec *ceremony.KeySpec) *hsm.Key {
	b.Helper()
	s := *spec
	s.Name += "-x"
	r := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Create, Key: &s})
	r.approve("alice")
	out, err := r.carryOut()
	b.must(err)
	if err := b.token.Do(func(session *token.Session) error { k, err := b.keys.Open(session, *out.Key); k.Release(); return err }); fault.Of(err).Reason != fault.KeySealInvalid {
		b.Errorf("a key that was never committed may be used: %v", err)
	}
	return out.Key
}

// An opening that asks for fewer officers than the rules of now is worth nothing.
func TestOpeningWithTooFewOfficers(t *testing.T) {
	b := newBench(t)
	for _, need := range []ceremony.Need{{Components: 2, Approvals: 1}, {Components: 1, Approvals: 2}, {}} {
		r := zone(b)
		o := *r.opening
		o.Need = need
		r.papers.Opening = b.signAsModule(&o)
		r.opening, r.digest = &o, ceremony.Digest(r.papers.Opening.Document)
		if o.Need.Components > 0 {
			r.submit("alice", 1, random(32))
		}
		_, err := r.carryOut()
		refused(t, err, fault.QuorumMissing)
	}
}

// An epoch that was in force before is never believed again, by a module that runs or by one
// that starts; nor is one of another token.
func TestOlderEpochsAreNotBelieved(t *testing.T) {
	b, foreign := newBench(t), newBench(t)
	old := b.epoch
	b.perform(&ceremony.Definition{Kind: ceremony.Create, Key: spec("k", "P0", "T", 16, "B", "N")})
	stopped := b.epoch
	b.perform(&ceremony.Definition{Kind: ceremony.Stop, Target: ref("k")})
	load := func(epoch []byte) error {
		return b.token.Do(func(s *token.Session) error { return b.register.Load(s, epoch) })
	}
	for _, e := range [][]byte{old, stopped} {
		refused(t, load(e), fault.EpochStale)
		refused(t, b.commitEpoch(e), fault.EpochStale)
	}
	refused(t, load(foreign.epoch), fault.EpochInvalid)
	refused(t, b.usable(ref("k")), fault.KeyDisabled)
	current := b.epoch
	b.epoch = current
	b.restart()
	for _, e := range [][]byte{old, stopped} {
		refused(t, load(e), fault.EpochStale)
	}
	refused(t, b.usable(ref("k")), fault.KeyDisabled)
}

// A ceremony is carried out once, and one that was called off never.
func TestACeremonyIsCarriedOutOnce(t *testing.T) {
	b := newBench(t)
	r := ready(b)
	r.finish()
	_, err := r.carryOut()
	refused(t, err, fault.CeremonyClosed)
	_, err = r.check()
	refused(t, err, fault.CeremonyClosed)
	_, err = r.callOff("alice")
	refused(t, err, fault.CeremonyClosed)

	stop := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Stop, Target: ref("zone")})
	stop.approve("alice")
	start := &ceremony.Definition{Kind: ceremony.Start, Target: ref("zone")}
	stop.finish()
	b.perform(start)
	_, err = stop.carryOut() // the same papers would stop it again
	refused(t, err, fault.CeremonyClosed)

	called := b.mustBegin("bob", &ceremony.Definition{Kind: ceremony.Load, Key: spec("next", "K1", "A", 32, "B", "N"), Components: 2})
	called.submitAll(random(32))
	called.approve("alice", "bob")
	out, err := called.carryOut() // carried out, and never committed
	b.must(err)
	epoch, err := called.callOff("dave")
	b.must(err)
	b.must(b.commitEpoch(epoch))
	b.epoch = epoch
	_, err = called.carryOut()
	refused(t, err, fault.CeremonyClosed)
	refused(t, b.commitEpoch(out.Epoch), fault.EpochStale)
	_, err = called.callOff("alice")
	refused(t, err, fault.CeremonyClosed)
	// What has expired is forgotten, and stays impossible.
	b.now = b.now.Add(time.Hour)
	b.perform(&ceremony.Definition{Kind: ceremony.Stop, Target: ref("zone")})
	if done := b.current().Done; len(done) != 1 {
		t.Errorf("%d ceremonies are remembered", len(done))
	}
	_, err = called.carryOut()
	refused(t, err, fault.CeremonyExpired)
	_, err = called.callOff("alice")
	refused(t, err, fault.CeremonyExpired)
	b.now = b.now.Add(-2 * time.Hour) // a clock that goes back
	_, err = called.carryOut()
	refused(t, err, fault.CeremonyExpired)
}

// Whoever is no officer of now calls nothing off.
func TestCallingOffNeedsAnOfficer(t *testing.T) {
	b := newBench(t)
	r, other := zone(b), zone(b)
	b.newOfficer("mallory", elliptic.P256())
	_, err := r.callOff("mallory")
	refused(t, err, fault.OfficerUnknown)
	for reason, statement := range map[fault.Reason]ceremony.Signed{
		fault.StatementMismatch: other.statement("bob", &ceremony.Statement{Action: ceremony.Abort}),
		fault.RequestInvalid:    {},
	} {
		err := b.token.Do(func(s *token.Session) error { _, err := b.engine.Abort(s, &r.papers, statement); return err })
		refused(t, err, reason)
	}
}

// The module says who it is: the key that signs, the roster and the epoch in force.
func TestIdentity(t *testing.T) {
	b := newBench(t)
	b.perform(&ceremony.Definition{Kind: ceremony.Create, Key: spec("k", "P0", "T", 16, "B", "N")})
	var signed ceremony.Signed
	b.do(func(s *token.Session) (err error) { signed, err = b.engine.Identity(s); return err })
	i, key, roster, err := ceremony.ParseIdentity(signed)
	b.must(err)
	want, err := b.roster.Fingerprint()
	b.must(err)
	got, err := roster.Fingerprint()
	b.must(err)
	der, err := x509.MarshalPKIXPublicKey(b.identity)
	b.must(err)
	if got != want || !key.Equal(b.identity) || !bytes.Equal(i.Key, der) || i.Epoch != 2 || i.Document != ceremony.Digest(b.epoch) || i.Development {
		t.Errorf("%+v", i)
	}
	if _, err := hex.DecodeString(i.Masters); err != nil || len(i.Masters) != 6 {
		t.Errorf("master keys' check value %q", i.Masters)
	}
}
