package quorum_test

import (
	"crypto/elliptic"
	"slices"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/quorum"
	"keyd/hsm/module/internal/token"
)

// usable reports the refusal that a use of a key meets.
func (b *bench) usable(ref *ceremony.KeyRef) error {
	b.Helper()
	key, ok := b.sealed[*ref]
	if !ok {
		b.Fatalf("the front has no %s", ref)
	}
	return b.token.Do(func(s *token.Session) error {
		k, err := b.keys.Open(s, key)
		k.Release()
		return err
	})
}

func version(name string, n uint32) *ceremony.KeyRef { return &ceremony.KeyRef{Name: name, Version: n} }

// next is the specification of a key's next version.
func next(s *ceremony.KeySpec) *ceremony.KeySpec {
	n := *s
	n.Version++
	return &n
}

// A new version takes the place of the one before: at once, or when the overlap ends. Its
// officers are as many as the rules say, more where it may be used otherwise.
func TestRotation(t *testing.T) {
	b := newBench(t)
	first := spec("pek", "P0", "T", 16, "B", "N")
	b.perform(&ceremony.Definition{Kind: ceremony.Create, Key: first})

	second := next(first)
	r := b.mustBegin("bob", &ceremony.Definition{Kind: ceremony.Create, Key: second, Overlap: 7200})
	if r.opening.Need.Approvals != 1 {
		t.Errorf("a version of the same use takes %+v", r.opening.Need)
	}
	r.approve("bob")
	r.finish()
	b.must(b.usable(version("pek", 1)))
	b.must(b.usable(version("pek", 2)))
	b.now = b.now.Add(2*time.Hour - time.Second)
	b.must(b.usable(version("pek", 1)))
	b.now = b.now.Add(time.Second)
	refused(t, b.usable(version("pek", 1)), fault.KeyDisabled)
	b.must(b.usable(version("pek", 2)))

	third := next(second)
	third.Direction = hsm.DirectionOutgoing
	r = b.mustBegin("bob", &ceremony.Definition{Kind: ceremony.Create, Key: third})
	if r.opening.Need.Approvals != 2 {
		t.Errorf("a version of another use takes %+v", r.opening.Need)
	}
	r.approve("bob", "carol")
	r.finish()
	refused(t, b.usable(version("pek", 2)), fault.KeyDisabled) // no overlap
	b.must(b.usable(version("pek", 3)))

	// A shorter one, or one without end after one with an end, takes two.
	long := spec("long", "P0", "A", 32, "B", "N")
	long.NotAfter = b.now.Unix() + 1000
	b.perform(&ceremony.Definition{Kind: ceremony.Create, Key: long})
	for _, c := range []struct {
		length   uint16
		notAfter int64
		want     int
	}{{32, long.NotAfter + 1000, 1}, {32, b.now.Unix() + 5*365*86400, 1}, {24, long.NotAfter, 2}, {32, 0, 2}, {32, b.now.Unix() + 5*365*86400 + 1, 2}} {
		n := next(long)
		n.Length, n.NotAfter = c.length, c.notAfter
		r := b.mustBegin("bob", &ceremony.Definition{Kind: ceremony.Create, Key: n})
		if r.opening.Need.Approvals != c.want {
			t.Errorf("%+v takes %+v", c, r.opening.Need)
		}
	}

	// The one before comes back only by two officers.
	r = b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Start, Target: version("pek", 2)})
	if r.opening.Need.Approvals != 2 {
		t.Errorf("starting again takes %+v", r.opening.Need)
	}
	r.approve("bob", "carol")
	r.finish()
	b.must(b.usable(version("pek", 2)))
}

func TestVersionsComeOneAfterTheOther(t *testing.T) {
	b := newBench(t)
	first := spec("pek", "P0", "T", 16, "B", "N")
	create := func(s *ceremony.KeySpec) error {
		_, err := b.begin("alice", &ceremony.Definition{Kind: ceremony.Create, Key: s})
		return err
	}
	refused(t, create(next(first)), fault.DefinitionInvalid) // 2 of a key that is not there
	b.perform(&ceremony.Definition{Kind: ceremony.Create, Key: first})
	refused(t, create(first), fault.KeyExists)
	refused(t, create(next(next(first))), fault.DefinitionInvalid)
	b.perform(&ceremony.Definition{Kind: ceremony.Create, Key: next(first)})
	refused(t, create(first), fault.KeyExists)
}

// One officer alone stops a key, at once. Everything else takes two. Each state allows what
// it allows and nothing else.
func TestStopStartDeleteRestore(t *testing.T) {
	b := newBench(t)
	target := version("pek", 1)
	b.perform(&ceremony.Definition{Kind: ceremony.Create, Key: spec("pek", "P0", "T", 16, "B", "N")})
	turn := func(kind ceremony.Kind, want int) {
		t.Helper()
		d := &ceremony.Definition{Kind: kind, Target: target}
		if kind == ceremony.Delete {
			d.Wait = ceremony.MinWait
		}
		r := b.mustBegin("dave", d)
		if r.opening.Need != (ceremony.Need{Approvals: want}) {
			t.Errorf("%s takes %+v", kind, r.opening.Need)
		}
		r.approve([]string{"dave", "alice"}[:want]...)
		r.finish()
	}
	forbidden := func(kinds ...ceremony.Kind) {
		t.Helper()
		for _, kind := range kinds {
			d := &ceremony.Definition{Kind: kind, Target: target}
			if kind == ceremony.Delete {
				d.Wait = ceremony.MinWait
			}
			_, err := b.begin("alice", d)
			refused(t, err, fault.KeyDisabled)
		}
	}
	b.must(b.usable(target))
	forbidden(ceremony.Start, ceremony.Restore)
	turn(ceremony.Stop, 1)
	refused(t, b.usable(target), fault.KeyDisabled)
	forbidden(ceremony.Stop, ceremony.Restore)
	turn(ceremony.Start, 2)
	b.must(b.usable(target))
	turn(ceremony.Delete, 2)
	refused(t, b.usable(target), fault.KeyDisabled)
	forbidden(ceremony.Stop, ceremony.Start, ceremony.Delete)
	b.now = b.now.Add(ceremony.MinWait*time.Second - time.Second)
	turn(ceremony.Restore, 2)
	refused(t, b.usable(target), fault.KeyDisabled) // it stays stopped
	forbidden(ceremony.Restore, ceremony.Stop)
	turn(ceremony.Start, 2)
	b.must(b.usable(target))
	turn(ceremony.Stop, 1)
	turn(ceremony.Delete, 2)
	b.now = b.now.Add(ceremony.MinWait * time.Second)
	forbidden(ceremony.Stop, ceremony.Start, ceremony.Delete, ceremony.Restore)
	refused(t, b.usable(target), fault.KeyDisabled)
}

// Papers with which a key was to be brought back are void once it was stopped or deleted again: a
// front could have held them back.
func TestAKeyIsNotBroughtBack(t *testing.T) {
	b := newBench(t)
	b.perform(&ceremony.Definition{Kind: ceremony.Create, Key: spec("pek", "P0", "T", 16, "B", "E")})
	stop := &ceremony.Definition{Kind: ceremony.Stop, Target: version("pek", 1)}
	start := &ceremony.Definition{Kind: ceremony.Start, Target: version("pek", 1)}
	b.perform(stop)
	held := b.mustBegin("alice", start)
	held.approve("alice", "bob")
	b.perform(start) // as they were told that it had failed
	b.perform(stop)
	_, err := held.carryOut()
	refused(t, err, fault.Conflict)
	b.perform(start)

	deletion := &ceremony.Definition{Kind: ceremony.Delete, Target: version("pek", 1), Wait: ceremony.MinWait}
	restore := &ceremony.Definition{Kind: ceremony.Restore, Target: version("pek", 1)}
	b.perform(deletion)
	held = b.mustBegin("alice", restore)
	held.approve("alice", "bob")
	b.perform(restore)
	b.perform(deletion)
	_, err = held.carryOut()
	refused(t, err, fault.Conflict)
	b.perform(restore)
}

// Of a key that is deleted for good the front has nothing left. Another version needs two
// officers then, since nobody can say that it is for the same.
func TestAVersionAfterADeletedOne(t *testing.T) {
	b := newBench(t)
	first := spec("pek", "P0", "T", 16, "B", "N")
	b.perform(&ceremony.Definition{Kind: ceremony.Create, Key: first})
	create := &ceremony.Definition{Kind: ceremony.Create, Key: next(first), ValidFor: ceremony.MaxValidFor}
	early := b.mustBegin("alice", create) // when the version before could be seen
	if early.opening.Need.Approvals != 1 {
		t.Errorf("%+v", early.opening.Need)
	}
	early.approve("alice")
	b.perform(&ceremony.Definition{Kind: ceremony.Delete, Target: version("pek", 1), Wait: ceremony.MinWait})
	delete(b.sealed, *version("pek", 1))
	_, err := b.begin("alice", create)
	refused(t, err, fault.KeyNotFound) // it could be restored
	b.now = b.now.Add(ceremony.MinWait * time.Second)
	r := b.mustBegin("alice", create)
	if r.opening.Need.Approvals != 2 {
		t.Errorf("%+v", r.opening.Need)
	}
	// The rules are those of now: the opening from before asks for too few.
	early.in = quorum.Inputs{}
	_, err = early.carryOut()
	refused(t, err, fault.QuorumMissing)
	r.approve("alice", "bob")
	r.finish()
	b.must(b.usable(version("pek", 2)))
}

// A change of roster is decided by the officers of before, and from then on those of the
// new one decide. Papers that were collected before count no more.
func TestChangeOfRoster(t *testing.T) {
	b := newBench(t)
	b.perform(&ceremony.Definition{Kind: ceremony.Create, Key: spec("pek", "P0", "T", 16, "B", "E")})
	load := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Load, Key: spec("zone", "K1", "A", 32, "B", "N"), Components: 2})
	load.submitAll(random(32))
	load.approve("alice", "bob")
	lone := b.mustBegin("bob", &ceremony.Definition{Kind: ceremony.Stop, Target: version("pek", 1)})
	lone.approve("bob")

	changed := ceremony.Roster{Quorum: b.roster.Quorum}
	changed.Officers = append(slices.Clone(b.roster.Officers[:1]), b.roster.Officers[2:]...) // without bob
	changed.Officers = append(changed.Officers, b.newOfficer("erin", elliptic.P256()))
	changed.Quorum.Roster = 3
	r := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Change, Roster: &changed})
	if r.opening.Need != (ceremony.Need{Approvals: 2}) {
		t.Errorf("%+v", r.opening.Need)
	}
	r.approve("alice", "dave")
	r.finish()
	old := b.roster
	b.roster = changed

	// Bob may do nothing any more, whichever roster he signs for.
	stop := &ceremony.Definition{Kind: ceremony.Stop, Target: version("pek", 1)}
	_, err := b.begin("bob", stop)
	refused(t, err, fault.OfficerUnknown)
	b.roster = old
	_, err = b.begin("bob", stop)
	refused(t, err, fault.OfficerUnknown)
	_, err = b.begin("alice", stop) // who has not heard of it
	refused(t, err, fault.StatementMismatch)
	b.roster = changed

	_, err = load.carryOut()
	refused(t, err, fault.OfficerUnknown) // component and approval of bob's
	_, err = lone.carryOut()
	refused(t, err, fault.OfficerUnknown)
	load.papers.Submissions = load.papers.Submissions[:1] // what is alice's alone
	load.papers.Approvals = load.papers.Approvals[:1]
	_, err = load.carryOut()
	refused(t, err, fault.StatementMismatch) // the roster has changed

	fresh := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Load, Key: spec("zone", "K1", "A", 32, "B", "N"), Components: 2})
	parts := split(random(32), 2)
	fresh.submit("alice", 1, parts[0])
	fresh.submit("bob", 2, parts[1])
	_, err = fresh.check()
	refused(t, err, fault.OfficerUnknown)
	fresh.papers.Submissions[1] = fresh.submission("carol", 2, parts[1])
	fresh.approve("alice", "bob")
	_, err = fresh.carryOut()
	refused(t, err, fault.OfficerUnknown)
	fresh.papers.Approvals = fresh.papers.Approvals[:1]
	fresh.approve("erin")
	fresh.finish()

	again := b.mustBegin("erin", &ceremony.Definition{Kind: ceremony.Change, Roster: &old})
	if again.opening.Need.Approvals != 3 {
		t.Errorf("%+v", again.opening.Need)
	}
	again.approve("alice", "carol")
	_, err = again.carryOut()
	refused(t, err, fault.QuorumMissing)
	again.approve("erin")
	again.finish()
}

// A roster in which one person could act alone, or nobody could act, is never taken.
func TestRostersThatAreNone(t *testing.T) {
	b := newBench(t)
	for name, change := range map[string]func(*ceremony.Roster){
		"one officer":              func(r *ceremony.Roster) { r.Officers = r.Officers[:1] },
		"one approval":             func(r *ceremony.Roster) { r.Quorum.Approvals = 1 },
		"one component":            func(r *ceremony.Roster) { r.Quorum.Components = 1 },
		"a roster by one":          func(r *ceremony.Roster) { r.Quorum.Roster = 1 },
		"one approval for BDKs":    func(r *ceremony.Roster) { r.Quorum.Usages[0].Usages = []string{"P0", "B0"} },
		"more than there are":      func(r *ceremony.Roster) { r.Quorum.Approvals = 5 },
		"one key for two officers": func(r *ceremony.Roster) { r.Officers[1].Key = r.Officers[0].Key },
	} {
		roster := ceremony.Roster{Officers: slices.Clone(b.roster.Officers), Quorum: b.roster.Quorum}
		roster.Quorum.Usages = slices.Clone(roster.Quorum.Usages)
		change(&roster)
		if _, err := b.begin("alice", &ceremony.Definition{Kind: ceremony.Change, Roster: &roster}); fault.Of(err).Reason != fault.DefinitionInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A first roster is set up at the machine, never through a front.
func TestNoFirstRosterThroughAFront(t *testing.T) {
	b := newBench(t)
	_, err := b.begin("alice", &ceremony.Definition{Kind: ceremony.Init, Roster: &b.roster, MasterKeys: &ceremony.MasterSpec{Holders: []string{"alice", "bob"}}})
	refused(t, err, fault.DefinitionInvalid)
}
