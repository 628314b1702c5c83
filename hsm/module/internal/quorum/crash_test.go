package quorum_test

import (
	"bytes"
	"crypto/elliptic"
	"slices"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm/module/internal/token"
)

// What was carried out counts when it is committed, not before, and can be carried out
// again until then, by another process too.
func TestNothingCountsBeforeItIsCommitted(t *testing.T) {
	b := newBench(t)
	r := ready(b)
	before := b.current().Version
	out, err := r.carryOut()
	b.must(err)
	b.sealed[*ref("zone")] = *out.Key
	refused(t, b.usable(ref("zone")), fault.KeySealInvalid)
	if b.current().Version != before || b.current().Find("zone", 1) != nil {
		t.Fatal("the epoch changed")
	}
	if len(b.pairs()) != 1 {
		t.Fatal("the ceremony's key pair is gone before it is over")
	}

	b.restart() // a crash between the two
	refused(t, b.usable(ref("zone")), fault.KeySealInvalid)
	again, err := r.carryOut()
	b.must(err)
	if !bytes.Equal(again.Key.Sealed, out.Key.Sealed) {
		t.Error("another key came of the same papers")
	}
	// Either of the two may be committed, and then the other not.
	b.now = b.now.Add(time.Second)
	later, err := r.carryOut()
	b.must(err)
	r.commit(later)
	b.must(b.usable(ref("zone")))
	if !bytes.Equal(out.Epoch, later.Epoch) {
		refused(t, b.commitEpoch(out.Epoch), fault.EpochStale)
	}
	if len(b.pairs()) != 0 {
		t.Error("the key pair outlives its ceremony")
	}

	// A crash after the commit: the front does not know whether it went through.
	b.must(b.commitEpoch(later.Epoch))
	b.restart()
	b.must(b.commitEpoch(later.Epoch))
	b.must(b.usable(ref("zone")))
	_, err = r.carryOut()
	refused(t, err, fault.CeremonyClosed)
}

// Papers outlive the process: they are collected, checked and carried out by as many
// processes as it takes.
func TestAProcessMayEndAtAnyStep(t *testing.T) {
	b := newBench(t)
	r := zone(b)
	b.restart()
	value := random(32)
	for i, c := range split(value, 2) {
		r.submit(officerNames[i], i+1, c)
		b.restart()
	}
	r.approve("carol")
	b.restart()
	r.approve("dave")
	b.restart()
	out, err := r.carryOut()
	b.must(err)
	b.restart()
	r.commit(out)
	b.restart()
	b.must(b.usable(ref("zone")))
	if b.entry("zone", 1).Fingerprint != b.fingerprint("A", value) {
		t.Error("another key")
	}
}

// Two ceremonies that were carried out on the same epoch: one of them counts, the other can
// be carried out again on the new one.
func TestTwoCeremoniesAtOnce(t *testing.T) {
	b := newBench(t)
	create := func(name string) *run {
		r := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Create, Key: spec(name, "P0", "T", 16, "B", "N")})
		r.approve("alice")
		return r
	}
	first, second := create("one"), create("two")
	one, err := first.carryOut()
	b.must(err)
	two, err := second.carryOut()
	b.must(err)
	first.commit(one)
	refused(t, b.commitEpoch(two.Epoch), fault.EpochStale)
	second.finish()
	b.must(b.usable(ref("one")))
	b.must(b.usable(ref("two")))

	// Two for one key: the second has nothing to do any more.
	third, fourth := create("three"), create("three")
	third.finish()
	_, err = fourth.carryOut()
	refused(t, err, fault.KeyExists)
}

// The key pair of a ceremony is there until it is over, and not a moment longer; what a crash
// has left is removed by the next Begin.
func TestKeyPairsOfCeremonies(t *testing.T) {
	b := newBench(t)
	kept := zone(b)
	for name, end := range map[string]func(*run){
		"aborted": func(r *run) { r.abort() },
		"finished": func(r *run) {
			r.submitAll(random(32))
			r.approve("alice", "bob")
			r.finish()
		},
	} {
		r := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Load, Key: spec(name, "K1", "A", 32, "B", "N"), Components: 2})
		if n := len(b.pairs()); n != 2 {
			t.Fatalf("%s: %d key pairs", name, n)
		}
		end(r)
		if left := b.pairs(); len(left) != 1 || left[0] != "keyd ceremony "+kept.opening.ID+" 1900003600" {
			t.Errorf("%s: %v are left", name, left)
		}
	}

	// A crash between Commit's pin and the end of the pair.
	r := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Load, Key: spec("m", "K1", "A", 32, "B", "N"), Components: 2})
	epoch, err := r.callOff("bob")
	b.must(err)
	b.do(func(s *token.Session) error {
		_, err := b.register.Commit(s, epoch, func(*ceremony.Epoch) error { return nil })
		return err
	})
	b.epoch = epoch
	// One that was never opened, and one whose label says nothing.
	b.do(func(s *token.Session) error {
		for _, label := range []string{"keyd ceremony 00000000000000000000000000000000 1", "keyd ceremony what is this"} {
			if _, err := s.GenerateEC(label, elliptic.P521(), token.PairAgrees); err != nil {
				return err
			}
		}
		return nil
	})
	if n := len(b.pairs()); n != 4 {
		t.Fatalf("%d key pairs", n)
	}
	b.restart()
	fresh := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Load, Key: spec("n", "K1", "A", 32, "B", "N"), Components: 2})
	want := []string{"keyd ceremony " + kept.opening.ID + " 1900003600", "keyd ceremony " + fresh.opening.ID + " 1900003600"}
	slices.Sort(want)
	if left := b.pairs(); !slices.Equal(left, want) {
		t.Errorf("%v are left, want %v", left, want)
	}

	// A ceremony whose pair is gone is over.
	b.do(func(s *token.Session) error {
		return s.DestroyPair("keyd ceremony " + kept.opening.ID + " 1900003600")
	})
	kept.submit("alice", 1, random(32))
	_, err = kept.check()
	refused(t, err, fault.CeremonyClosed)
}
