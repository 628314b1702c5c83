package module

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/store"
)

// offices are the nodes of a fleet: each has a token and a module, all have one database.
type offices []*office

// newFleet has n nodes, of which all but the first still wait to join; the first has a key "d".
func newFleet(t *testing.T, n int) offices {
	t.Helper()
	a := newOffice(t)
	a.stop()
	a.node = "a"
	a.start(-1, false)
	load := loading(zone("d", data))
	load.ValidFor = 3600
	a.must(a.through(load, componentA, componentB))
	nodes := offices{a}
	for i := 1; i < n; i++ {
		nodes = append(nodes, nodes.another(string(rune('a'+i)), presentShares...))
	}
	return nodes
}

// another is a node whose token has the same officers and the given shares, and waits.
func (f offices) another(name string, shares ...string) *office {
	f[0].t.Helper()
	o := f.beside(name, shares...)
	o.must(o.front.Settle(o.t.Context()))
	return o
}

func (f offices) beside(name string, shares ...string) *office {
	t := f[0].t
	t.Helper()
	first, _ := newSiege(t)
	first.officers, first.now = f[0].officers, f[0].now
	o := &office{siege: first, path: f[0].path, node: name}
	roster := f[0].front.Epoch().Roster
	o.initialised(&roster, 1, shares...)
	o.start(-1, false)
	t.Cleanup(o.stop)
	return o
}

// joining is what the officers of a node approve, so that its token joins.
func (o *office) joining() *ceremony.Definition {
	_, digest := o.front.Waiting()
	return &ceremony.Definition{Kind: ceremony.Join, Register: digest, ValidFor: 3600}
}

func (f offices) refresh() {
	for _, o := range f {
		o.must(o.front.Refresh(o.t.Context()))
	}
}

func stopping(name string) *ceremony.Definition {
	return &ceremony.Definition{Kind: ceremony.Stop, Target: &ceremony.KeyRef{Name: name, Version: 1}, ValidFor: 3600}
}

// TestAFleetHasOneRegister: tokens join, and what officers do at one node holds at all.
func TestAFleetHasOneRegister(t *testing.T) {
	nodes := newFleet(t, 3)
	a, b, c := nodes[0], nodes[1], nodes[2]
	for _, o := range nodes[1:] {
		if o.front.Ready() {
			t.Fatal("a token that has not joined can use keys")
		}
		if err := o.usable("d", 1); fault.Of(err).Reason != fault.KeySealInvalid {
			t.Errorf("a key of a register that was not joined: %v", err)
		}
		if _, err := o.begun(&ceremony.Definition{Kind: ceremony.Create, Key: zone("new", data), ValidFor: 3600}); fault.Of(err).Reason != fault.Conflict {
			t.Errorf("a key is made before the register is joined: %v", err)
		}
		o.must(o.through(o.joining()))
		if !o.front.Ready() {
			t.Error("a token that has joined can use no key")
		}
		o.must(o.usable("d", 1))
	}
	// Everybody's turn, and the others see it.
	for i, o := range nodes {
		name := fmt.Sprintf("of-%s", o.node)
		o.must(o.through(&ceremony.Definition{Kind: ceremony.Create, Key: zone(name, data), ValidFor: 3600}))
		nodes.refresh()
		for _, other := range nodes {
			other.must(other.usable(name, 1))
		}
		if i > 0 {
			o.must(o.through(stopping(fmt.Sprintf("of-%s", nodes[i-1].node))))
		}
	}
	nodes.refresh()
	for _, o := range nodes {
		if err := o.usable("of-a", 1); fault.Of(err).Reason != fault.KeyDisabled {
			t.Errorf("node %s: a key that was stopped at another node: %v", o.node, err)
		}
	}
	// One that was away catches up, however much has happened.
	c.stop()
	for i := range 8 {
		o := nodes[i%2]
		o.must(o.through(&ceremony.Definition{Kind: ceremony.Create, Key: zone(fmt.Sprintf("away-%d", i), data), ValidFor: 3600}))
		offices{a, b}.refresh()
	}
	c.start(-1, false)
	c.must(c.front.Settle(t.Context()))
	c.must(c.usable("away-7", 1))
	if e, of := c.front.Epoch(), a.front.Epoch(); e.Version != of.Version {
		t.Errorf("epoch %d, the others have %d", e.Version, of.Version)
	}
}

// TestOnlyTheSameMasterKeysJoin.
func TestOnlyTheSameMasterKeysJoin(t *testing.T) {
	nodes := newFleet(t, 1)
	other := nodes.beside("b", nextShares...)
	if err := other.front.Settle(t.Context()); fault.Of(err).Reason != fault.EpochInvalid || other.front.Ready() {
		t.Errorf("a token of other master keys can use keys: %v", err)
	}
	_, digest := nodes.another("c", presentShares...).front.Waiting()
	if _, err := other.begun(&ceremony.Definition{Kind: ceremony.Join, Register: digest, ValidFor: 3600}); err == nil {
		t.Error("a token of other master keys joins")
	}
	joined := nodes.another("d", presentShares...)
	definition := joined.joining()
	definition.Register = ceremony.Digest([]byte("another"))
	if _, err := joined.begun(definition); fault.Of(err).Reason != fault.StatementMismatch {
		t.Errorf("another register than the database has: %v", err)
	}
	joined.must(joined.through(joined.joining()))
	if _, err := joined.begun(&ceremony.Definition{Kind: ceremony.Join, Register: definition.Register, ValidFor: 3600}); fault.Of(err).Reason != fault.Conflict {
		t.Errorf("it joins twice: %v", err)
	}
}

// TestALivingFleetIsNotTakenOver: adopt, which would cut the others off, is refused while they
// are there.
func TestALivingFleetIsNotTakenOver(t *testing.T) {
	nodes := newFleet(t, 2)
	a, b := nodes[0], nodes[1]
	a.must(a.front.Report(t.Context(), "test", ""))
	_, digest := b.front.Waiting()
	adopt := &ceremony.Definition{Kind: ceremony.Adopt, Register: digest, ValidFor: 3600}
	if _, err := b.begun(adopt); fault.Of(err).Reason != fault.Conflict {
		t.Errorf("a register is taken over while another node goes by it: %v", err)
	}
	b.must(b.through(b.joining()))
	if err := a.front.ForgetNode(t.Context(), "a"); fault.Of(err).Reason != fault.RequestInvalid {
		t.Errorf("a node that is there is forgotten: %v", err)
	}
}

// TestTwoNodesHaveTwoNames: else they would carry out each other's ceremonies.
func TestTwoNodesHaveTwoNames(t *testing.T) {
	nodes := newFleet(t, 2)
	a, b := nodes[0], nodes[1]
	a.front.Instance, b.front.Instance = "one", "two"
	a.must(a.front.Report(t.Context(), "test", ""))
	b.must(b.front.Report(t.Context(), "test", ""))
	b.front.Node = "a"
	for what, err := range map[string]error{"at its start": b.front.CheckName(t.Context()), "later": b.front.Report(t.Context(), "test", "")} {
		if err == nil || !strings.Contains(err.Error(), "another keyd has this node's name") {
			t.Errorf("%s: %v", what, err)
		}
	}
	a.must(a.front.CheckName(t.Context())) // its own sign is no other's
}

// TestACeremonyStaysAtItsNode: its opening, and the key that components are sealed to, are one
// token's.
func TestACeremonyStaysAtItsNode(t *testing.T) {
	nodes := newFleet(t, 2)
	a, b := nodes[0], nodes[1]
	b.must(b.through(b.joining()))
	cer, err := a.begun(&ceremony.Definition{Kind: ceremony.Create, Key: zone("new", data), ValidFor: 3600})
	a.must(err)
	if cer.Node != "a" {
		t.Errorf("it is of node %q", cer.Node)
	}
	_, err = b.front.Approve(t.Context(), identityOf("alice"), cer.ID, a.approval(cer.Papers, "alice", cer.CheckValue))
	if fault.Of(err).Reason != fault.Conflict {
		t.Errorf("another node takes its papers: %v", err)
	}
	// Past its front, too: the module knows whose opening it is.
	b.node, b.front.Node = "a", "a"
	if _, err = b.front.Approve(t.Context(), identityOf("alice"), cer.ID, a.approval(cer.Papers, "alice", cer.CheckValue)); err == nil {
		t.Error("another token carries it on")
	}
}

// TestNodesChangeTheRegisterAtOnce: of two that commit at one moment each succeeds or is told
// to come again, and all agree in the end.
func TestNodesChangeTheRegisterAtOnce(t *testing.T) {
	nodes := newFleet(t, 3)
	for _, o := range nodes[1:] {
		o.must(o.through(o.joining()))
	}
	const each = 6
	var wait sync.WaitGroup
	for _, o := range nodes {
		wait.Go(func() {
			for i := range each {
				d := &ceremony.Definition{Kind: ceremony.Create, Key: zone(fmt.Sprintf("%s-%d", o.node, i), data), ValidFor: 3600}
				for tries := 0; ; tries++ {
					err := o.attempt(d)
					if err == nil {
						break
					}
					if reason := fault.Of(err).Reason; tries > 200 || reason != fault.Conflict && reason != fault.EpochStale {
						t.Errorf("node %s: %v", o.node, err)
						return
					}
					_ = o.front.Refresh(context.Background())
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	wait.Wait()
	nodes.refresh()
	for _, o := range nodes {
		for _, by := range nodes {
			for i := range each {
				o.must(o.usable(fmt.Sprintf("%s-%d", by.node, i), 1))
			}
		}
	}
}

// attempt begins a ceremony and carries it out.
func (o *office) attempt(d *ceremony.Definition) error {
	cer, err := o.begun(d)
	if err != nil {
		return err
	}
	return o.approved(cer)
}

// TestThePowerGoesInAFleet: at every write of a ceremony at one node, and of the other's
// following it; and at every write of joining.
func TestThePowerGoesInAFleet(t *testing.T) {
	t.Run("join", func(t *testing.T) {
		for at := 0; ; at++ {
			ended := false
			for _, after := range []bool{false, true} {
				nodes := newFleet(t, 2)
				b := nodes[1]
				definition := b.joining()
				b.stop()
				b.start(at, after)
				_ = b.through(definition)
				ended = !b.failing.dead
				b.restart()
				if !b.front.Ready() {
					b.must(b.through(b.joining()))
				}
				b.must(b.usable("d", 1))
				b.must(b.through(stopping("d")))
				nodes.refresh()
				if err := nodes[0].usable("d", 1); fault.Of(err).Reason != fault.KeyDisabled {
					t.Errorf("write %d (after it: %t): %v", at, after, err)
				}
			}
			if ended {
				break
			}
		}
	})
	t.Run("change", func(t *testing.T) {
		for at := 0; ; at++ {
			ended := false
			for _, after := range []bool{false, true} {
				nodes := newFleet(t, 2)
				a, b := nodes[0], nodes[1]
				b.must(b.through(b.joining()))
				a.stop()
				a.start(at, after)
				done := a.through(stopping("d")) == nil
				ended = !a.failing.dead
				b.must(b.front.Refresh(t.Context())) // while the other node is dead
				err := b.usable("d", 1)
				if done && fault.Of(err).Reason != fault.KeyDisabled {
					t.Errorf("write %d (after it: %t): the officers were told that it is stopped, and another node uses it: %v", at, after, err)
				}
				a.restart()
				b.must(b.front.Refresh(t.Context()))
				if first, second := a.usable("d", 1), b.usable("d", 1); (first == nil) != (second == nil) {
					t.Errorf("write %d (after it: %t): node a %v, node b %v", at, after, first, second)
				}
				if a.usable("d", 1) == nil {
					if err := a.through(stopping("d")); err != nil {
						t.Errorf("write %d (after it: %t): the officers cannot go on: %v", at, after, err)
					}
				}
			}
			if ended {
				break
			}
		}
	})
	t.Run("follow", func(t *testing.T) {
		for at := 0; ; at++ {
			ended := false
			for _, after := range []bool{false, true} {
				nodes := newFleet(t, 2)
				a, b := nodes[0], nodes[1]
				b.must(b.through(b.joining()))
				b.stop()
				a.must(a.through(stopping("d")))
				b.start(at, after)
				_ = b.front.Settle(t.Context())
				ended = !b.failing.dead
				b.restart()
				if err := b.usable("d", 1); fault.Of(err).Reason != fault.KeyDisabled {
					t.Errorf("write %d (after it: %t): %v", at, after, err)
				}
			}
			if ended {
				break
			}
		}
	})
}

// TestAProposalIsOfOneToken: what officers have carried out at one node, and perhaps called off
// there since, no front brings another node's token to pin.
func TestAProposalIsOfOneToken(t *testing.T) {
	nodes := newFleet(t, 2)
	a, b := nodes[0], nodes[1]
	b.must(b.through(b.joining()))
	cer, err := a.begun(&ceremony.Definition{Kind: ceremony.Create, Key: zone("kept", data), ValidFor: 3600})
	a.must(err)
	a.stop()
	a.start(2, false) // the power goes when the proposal is in the database, and the token not told
	a.must(a.front.Settle(t.Context()))
	a.failing.count = 0
	if err := a.approved(cer); !errors.Is(err, errPower) {
		t.Fatalf("the power did not go: %v", err)
	}
	p, err := b.database.ProposedEpoch(t.Context())
	b.must(err)
	b.must(b.database.WithdrawEpoch(t.Context(), p.Version, p.Sealed))
	b.must(b.database.ProposeEpoch(t.Context(), "b", p.Version, p.Sealed, p.Change))
	b.stop()
	b.start(-1, false)
	if err := b.front.Settle(t.Context()); fault.Of(err).Reason != fault.EpochStale {
		t.Errorf("another token pins it: %v", err)
	}
	b.must(b.front.Settle(t.Context()))
	if _, err := b.database.ProposedEpoch(t.Context()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it is still proposed: %v", err)
	}
	if err := b.use(hsm.Key{Name: "kept", Sealed: p.Change.Keys[0].Sealed}); fault.Of(err).Reason != fault.KeySealInvalid {
		t.Errorf("a key that was never brought in: %v", err)
	}
	b.must(b.usable("d", 1))
}

// TestNodesOfOneTokenGoOn: two hosts share a token, and one dies when it has pinned what nobody
// else has heard of; the other brings it to its end, and forgetting the first loses nothing.
func TestNodesOfOneTokenGoOn(t *testing.T) {
	nodes := newFleet(t, 1)
	a := nodes[0]
	a.must(a.front.Report(t.Context(), "test", ""))
	cer, err := a.begun(&ceremony.Definition{Kind: ceremony.Create, Key: zone("new", data), ValidFor: 3600})
	a.must(err)
	a.stop()
	a.start(2, true) // the token was told, and that is the last
	a.must(a.front.Settle(t.Context()))
	a.failing.count = 0
	if err := a.approved(cer); !errors.Is(err, errPower) {
		t.Fatalf("the power did not go: %v", err)
	}
	a.stop()
	a.node = "b" // the same token, another host
	a.start(-1, false)
	a.must(a.front.Settle(t.Context()))
	a.must(a.usable("new", 1))
	if _, err := a.database.ProposedEpoch(t.Context()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("it is still proposed: %v", err)
	}
}

// TestAJoinIsCalledOff, also by a front that waits.
func TestAJoinIsCalledOff(t *testing.T) {
	nodes := newFleet(t, 2)
	b := nodes[1]
	cer, err := b.begun(b.joining())
	b.must(err)
	off := b.sign("carol", ceremony.Statement{Action: ceremony.Abort, Definition: ceremony.Digest(cer.Papers.Definition), Opening: ceremony.Digest(cer.Papers.Opening.Document)})
	if cer, err = b.front.Abort(t.Context(), identityOf("carol"), cer.ID, off); err != nil || cer.State != store.CeremonyAborted {
		t.Fatalf("%v, %v", cer, err)
	}
	if err := b.approved(cer); fault.Of(err).Reason != fault.CeremonyClosed {
		t.Errorf("it is carried out all the same: %v", err)
	}
	if b.front.Ready() {
		t.Error("it has joined")
	}
	b.must(b.through(b.joining()))
	b.must(b.usable("d", 1))
}

// TestADeadNodeIsForgotten: what it had proposed and never committed is withdrawn, and others
// go on; when it comes back with it pinned, it is refused.
func TestADeadNodeIsForgotten(t *testing.T) {
	for _, pinned := range []bool{false, true} {
		t.Run(fmt.Sprintf("pinned %t", pinned), func(t *testing.T) {
			nodes := newFleet(t, 2)
			a, b := nodes[0], nodes[1]
			b.must(b.through(b.joining()))
			a.must(a.front.Report(t.Context(), "test", ""))
			cer, err := a.begun(stopping("d"))
			a.must(err)
			a.stop()
			at := 1 // the token is told, after the proposal was kept
			a.start(at, pinned)
			a.must(a.front.Settle(t.Context()))
			a.failing.count = 0
			if err := a.approved(cer); !errors.Is(err, errPower) {
				t.Fatalf("the power did not go: %v", err)
			}
			create := &ceremony.Definition{Kind: ceremony.Create, Key: zone("new", data), ValidFor: 3600}
			b.must(b.front.Refresh(t.Context()))
			if err := b.attempt(create); fault.Of(err).Reason != fault.Conflict {
				t.Errorf("while another node commits: %v", err)
			}
			b.must(b.database.RemoveNode(t.Context(), "a")) // as ForgetNode does after a minute
			b.must(b.front.Refresh(t.Context()))
			b.must(b.attempt(create))
			a.stop()
			a.start(-1, false)
			err = a.front.Settle(t.Context())
			switch {
			case pinned && fault.Of(err).Reason != fault.EpochStale:
				t.Errorf("a token of another branch is taken back: %v", err)
			case !pinned && err != nil:
				t.Errorf("a token that had pinned nothing is not taken back: %v", err)
			}
			if _, err := a.database.ProposedEpoch(t.Context()); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("a proposal is left: %v", err)
			}
		})
	}
}
