package quorum_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm/module/internal/quorum"
	"keyd/hsm/module/internal/register"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/token/tokentest"
)

// bare is a bench whose token has nothing yet: no roster, no master keys.
func bare(t testing.TB) *bench {
	b := &bench{TB: t, fresh: tokentest.SoftHSM(t), now: time.Unix(1_900_000_000, 0), signers: make(map[string]*ecdsa.PrivateKey)}
	b.token = b.fresh.Open(t, 1)
	for _, name := range officerNames[:3] {
		b.roster.Officers = append(b.roster.Officers, b.newOfficer(name, elliptic.P256()))
	}
	b.roster.Quorum = ceremony.Quorum{Components: 2, Approvals: 2, Roster: 2}
	return b
}

func (b *bench) initDefinition() *ceremony.Definition {
	return &ceremony.Definition{Kind: ceremony.Init, Roster: &b.roster, MasterKeys: &ceremony.MasterSpec{Holders: []string{"carol", "alice"}}}
}

// propose opens the ceremony of a token's first roster.
func (b *bench) propose(d *ceremony.Definition) (*run, error) {
	b.Helper()
	r := &run{bench: b, def: b.encode(d)}
	err := b.token.Do(func(s *token.Session) (err error) {
		r.papers.Opening, err = quorum.Propose(s, r.def, b.clock)
		return err
	})
	if err != nil {
		return nil, err
	}
	b.do(func(s *token.Session) error {
		pair, err := s.FindPair("keyd identity")
		if err == nil {
			b.identity = pair.Public.(*ecdsa.PublicKey)
		}
		return err
	})
	r.papers.Definition = r.def
	r.opening, r.digest, err = ceremony.ParseOpening(b.identity, r.papers.Opening)
	b.must(err)
	return r, nil
}

// accept has every officer accept, and the holders bring their shares.
func (r *run) accept(shares ...[]byte) {
	r.Helper()
	for i, share := range shares {
		r.submit([]string{"carol", "alice"}[i], i+1, share)
	}
	for _, o := range officerNames[:3] {
		r.papers.Approvals = append(r.papers.Approvals, r.statement(o, &ceremony.Statement{Action: ceremony.Approve}))
	}
}

func (r *run) finishInit() (record ceremony.Signed, err error) {
	err = r.token.Do(func(s *token.Session) (err error) { record, err = quorum.Finish(s, &r.papers, r.clock); return err })
	return record, quorum.Refuse(err)
}

// A token gets its roster when every officer has accepted it; its master keys follow from the
// shares alone, so that another token can be given the same.
func TestInitMakesRosterAndMasters(t *testing.T) {
	shares := [][]byte{random(32), random(32)}
	var checks []string
	for range 2 {
		b := bare(t)
		r, err := b.propose(b.initDefinition())
		b.must(err)
		if r.opening.Need != (ceremony.Need{Components: 2, Approvals: 3}) || r.opening.Kind != ceremony.Init {
			t.Errorf("%+v", r.opening)
		}
		r.accept(shares...)
		record, err := r.finishInit()
		b.must(err)
		verified, _, err := ceremony.VerifyRecord(b.identity, record)
		b.must(err)
		checks = append(checks, verified.Outcome.Masters)
		if len(b.pairs()) != 0 {
			t.Error("the key pair for shares is still there")
		}
		for _, share := range shares {
			if bytes.Contains(record.Document, share) || strings.Contains(string(record.Document), hex.EncodeToString(share)) {
				t.Error("the record holds a share")
			}
		}
		b.do(func(s *token.Session) (err error) { b.epoch, err = register.First(s); return err })
		b.restart()
		if b.current().Version != 1 || len(b.current().Roster.Officers) != 3 {
			t.Errorf("%+v", b.current())
		}
		// The roster decides from now on; nothing is set up twice.
		_, err = r.finishInit()
		if err == nil {
			t.Error("set up twice")
		}
		if _, err := b.propose(b.initDefinition()); err == nil {
			t.Error("another set-up began")
		}
		_, err = b.begin("alice", b.initDefinition())
		refused(t, err, fault.DefinitionInvalid)
		b.sealed = nil
	}
	if checks[0] != checks[1] || len(checks[0]) != 6 {
		t.Errorf("master keys of the same shares have the check values %v", checks)
	}
}

// Whoever is missing, or brings what is none, prevents it; the token stays as it was.
func TestInitRefusals(t *testing.T) {
	b := bare(t)
	shares := [][]byte{random(32), random(32)}
	for _, c := range []struct {
		name   string
		change func(d *ceremony.Definition)
		papers func(r *run)
		want   fault.Reason
	}{
		{"one officer has not accepted", nil, func(r *run) { r.accept(shares...); r.papers.Approvals = r.papers.Approvals[1:] }, fault.QuorumMissing},
		{"one share is missing", nil, func(r *run) { r.accept(shares[0]) }, fault.QuorumMissing},
		{"an officer brings the share of another", nil, func(r *run) {
			r.accept()
			r.submit("carol", 1, shares[0])
			r.submit("bob", 2, shares[1])
		}, fault.StatementMismatch},
		{"an officer brings both shares", nil, func(r *run) {
			r.accept()
			r.submit("carol", 1, shares[0])
			r.submit("carol", 2, shares[1])
		}, fault.StatementMismatch},
		{"one share is zero", nil, func(r *run) { r.accept(shares[0], make([]byte, 32)) }, fault.KeyValueRefused},
		{"the shares are the same", nil, func(r *run) { r.accept(shares[0], shares[0]) }, fault.KeyValueRefused},
		{"a share of another size", nil, func(r *run) { r.accept(shares[0], random(16)) }, fault.ComponentInvalid},
		{"another check value than the definition's", func(d *ceremony.Definition) { d.CheckValue = "000000" }, func(r *run) { r.accept(shares...) }, fault.CheckValueMismatch},
		{"too late", nil, func(r *run) { r.accept(shares...); r.now = r.now.Add(time.Hour) }, fault.CeremonyExpired},
		{"an acceptance twice", nil, func(r *run) { r.accept(shares...); r.papers.Approvals[2] = r.papers.Approvals[1] }, fault.OfficerRepeated},
		{"another roster", nil, func(r *run) {
			r.accept(shares...)
			d := r.initDefinition()
			roster := r.roster
			roster.Officers = append([]ceremony.Officer{}, roster.Officers...)
			roster.Officers[0].Key = roster.Officers[1].Key
			key := r.signers["bob"]
			roster.Officers[1] = r.newOfficer("bob", elliptic.P256())
			r.signers["bob"] = key
			d.Roster = &roster
			r.papers.Definition = r.encode(d)
		}, fault.StatementMismatch},
		{"an opening from before", nil, func(r *run) {
			r.accept(shares...)
			_, err := r.propose(r.initDefinition())
			r.must(err)
		}, fault.CeremonyClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.TB = t
			now := b.now
			defer func() { b.now = now }()
			d := b.initDefinition()
			if c.change != nil {
				c.change(d)
			}
			r, err := b.propose(d)
			b.must(err)
			c.papers(r)
			_, err = r.finishInit()
			refused(t, err, c.want)
			b.do(func(s *token.Session) error {
				if _, err := register.First(s); err == nil {
					t.Error("the token has a roster")
				}
				return nil
			})
		})
	}
	for name, d := range map[string]*ceremony.Definition{
		"another kind": {Kind: ceremony.Change, Roster: &b.roster},
		"no masters":   {Kind: ceremony.Init, Roster: &b.roster},
	} {
		_, err := b.propose(d)
		if fault.Of(quorum.Refuse(err)).Reason != fault.DefinitionInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := b.token.Do(func(s *token.Session) error { _, err := quorum.Finish(s, nil, b.clock); return err }); err == nil {
		t.Error("finished without papers")
	}
}

// Where the power goes while master keys are made, the same papers make them again: what was
// left does not count, of whatever shares it was.
func TestInitAfterALossOfPower(t *testing.T) {
	shares := [][]byte{random(32), random(32)}
	whole := bare(t)
	r, err := whole.propose(whole.initDefinition())
	whole.must(err)
	r.accept(shares...)
	record, err := r.finishInit()
	whole.must(err)
	want, _, err := ceremony.VerifyRecord(whole.identity, record)
	whole.must(err)

	b := bare(t)
	r, err = b.propose(b.initDefinition())
	b.must(err)
	r.accept(shares...)
	b.do(func(s *token.Session) error { // all master keys of another secret, and no pin
		return sealing.ImportMasters(s, sealing.FirstGeneration, random(32))
	})
	record, err = r.finishInit()
	b.must(err)
	got, _, err := ceremony.VerifyRecord(b.identity, record)
	b.must(err)
	if got.Outcome.Masters != want.Outcome.Masters {
		t.Errorf("check value %s, want %s", got.Outcome.Masters, want.Outcome.Masters)
	}
}
