package module

import (
	"fmt"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm/module/internal/quorum"
	"keyd/hsm/module/internal/token"
)

// initialised sets a token up as keyd init does, with the shares of alice and bob.
func (b *siege) initialised(roster *ceremony.Roster, generation uint32, shares ...string) {
	b.t.Helper()
	b.found(generation, func(s *token.Session, clock func() time.Time) error {
		d := &ceremony.Definition{
			Kind: ceremony.Init, Roster: roster, ValidFor: 3600,
			MasterKeys: &ceremony.MasterSpec{Holders: []string{"alice", "bob"}, Generation: generation},
		}
		encoded, err := ceremony.Encode(d)
		if err != nil {
			return err
		}
		p := &ceremony.Proceedings{Definition: encoded}
		if p.Opening, err = quorum.Propose(s, encoded, clock); err != nil {
			return err
		}
		b.identity, b.roster = opening(p).Identity, opening(p).Roster
		for i, name := range []string{"alice", "bob"} {
			p.Submissions = append(p.Submissions, b.component(p, name, i+1, shares[i]))
		}
		for _, name := range []string{"alice", "bob", "carol"} {
			p.Approvals = append(p.Approvals, b.sign(name, ceremony.Statement{
				Action: ceremony.Approve, Definition: ceremony.Digest(encoded), Opening: ceremony.Digest(p.Opening.Document),
			}))
		}
		_, err = quorum.Finish(s, p, clock)
		return err
	})
}

// replaced is the office after its token was lost: another token with the same officers and
// the given shares, beside the same database.
func (o *office) replaced(generation uint32, shares ...string) {
	o.t.Helper()
	epoch, err := o.database.CurrentEpoch(o.t.Context())
	o.must(err)
	e, err := ceremony.ParseEpoch(epoch.Sealed)
	o.must(err)
	o.stop()
	o.initialised(&e.Roster, generation, shares...)
	o.start(-1, false)
	o.must(o.front.Settle(o.t.Context()))
}

// TestALostTokenIsReplaced: another token is given the same master keys, of the first
// generation or of a later one, and takes over the register with all keys. Whatever is lost
// with the power on the way, the officers can go on.
func TestALostTokenIsReplaced(t *testing.T) {
	for _, generation := range []uint32{1, 2} {
		t.Run(fmt.Sprintf("generation %d", generation), func(t *testing.T) {
			o := newOffice(t)
			load := loading(zone("d", data))
			load.ValidFor = 3600
			o.must(o.through(load, componentA, componentB))
			o.must(o.through(&ceremony.Definition{Kind: ceremony.Create, Key: zone("stopped", data), ValidFor: 3600}))
			o.must(o.through(&ceremony.Definition{Kind: ceremony.Stop, Target: &ceremony.KeyRef{Name: "stopped", Version: 1}, ValidFor: 3600}))
			shares := presentShares
			if generation == 2 {
				cer, err := o.begun(replacement())
				o.must(err)
				cer, err = o.shares(cer, append(append([]string{}, nextShares...), presentShares...)...)
				o.must(err)
				o.must(o.approved(cer))
				_, err = o.front.Reseal(t.Context())
				o.must(err)
				o.must(o.through(&ceremony.Definition{Kind: ceremony.Retire, ValidFor: 3600}))
				shares = nextShares
			}
			_, before := o.sealed("d")
			o.replaced(generation, shares...)
			if o.front.Ready() {
				t.Error("without the register keys can be used")
			}
			if err := o.usable("d", 1); fault.Of(err).Reason != fault.KeySealInvalid {
				t.Errorf("a key of the other token's register: %v", err)
			}
			if _, err := o.begun(&ceremony.Definition{Kind: ceremony.Create, Key: zone("new", data), ValidFor: 3600}); fault.Of(err).Reason != fault.Conflict {
				t.Errorf("a key is made before the register is taken over: %v", err)
			}
			version, digest := o.front.Waiting()
			adopt := &ceremony.Definition{Kind: ceremony.Adopt, Register: digest, ValidFor: 3600}
			if _, err := o.begun(&ceremony.Definition{Kind: ceremony.Adopt, Register: ceremony.Digest(nil), ValidFor: 3600}); fault.Of(err).Reason != fault.StatementMismatch {
				t.Errorf("another register than the officers name: %v", err)
			}
			// The power goes at every write.
			for at := range 12 {
				for _, after := range []bool{false, true} {
					if o.front.Ready() {
						break
					}
					o.stop()
					o.start(at, after)
					_ = o.through(adopt)
					o.restart()
				}
			}
			if !o.front.Ready() {
				o.must(o.through(adopt))
			}
			if e := o.front.Epoch(); e.Version <= version || !o.front.Ready() {
				t.Fatalf("epoch %d follows %d", e.Version, version)
			}
			o.must(o.usable("d", 1))
			if err := o.usable("stopped", 1); fault.Of(err).Reason != fault.KeyDisabled {
				t.Errorf("a key that was stopped: %v", err)
			}
			// Values are known as before: the fingerprint key is the same.
			d := loading(zone("again", data))
			d.ValidFor = 3600
			if err := o.through(d, componentA, componentB); fault.Of(err).Reason != fault.KeyValueRefused {
				t.Errorf("a value that the other token knew: %v", err)
			}
			if _, h := o.sealed("d"); h.Fingerprint != before.Fingerprint {
				t.Error("another fingerprint")
			}
			if _, err := o.begun(adopt); fault.Of(err).Reason != fault.Conflict {
				t.Errorf("a register is taken over twice: %v", err)
			}
		})
	}
}

// TestATokenOfOtherSharesTakesNothingOver.
func TestATokenOfOtherSharesTakesNothingOver(t *testing.T) {
	o := newOffice(t)
	o.must(o.through(&ceremony.Definition{Kind: ceremony.Create, Key: zone("d", data), ValidFor: 3600}))
	epoch, err := o.database.CurrentEpoch(t.Context())
	o.must(err)
	e, err := ceremony.ParseEpoch(epoch.Sealed)
	o.must(err)
	o.stop()
	o.initialised(&e.Roster, 1, nextShares...)
	o.start(-1, false)
	if err := o.front.Settle(t.Context()); fault.Of(err).Reason != fault.EpochInvalid {
		t.Errorf("the register of other master keys: %v", err)
	}
	if o.front.Ready() {
		t.Error("it is ready")
	}
}
