package quorum_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/token"
)

// TestAPartnersNextKeyTakesTwo: whoever made a key block may know its key, also when it is
// the next version of a key that officers brought in together.
func TestAPartnersNextKeyTakesTwo(t *testing.T) {
	from, to := newShelf(t, "a32"), newShelf(t)
	to.load(protectionKeys["a32"], from.kbpk["a32"])
	for _, direction := range []string{hsm.DirectionOutgoing, hsm.DirectionBoth, hsm.DirectionIncoming} {
		mode := map[string]string{hsm.DirectionOutgoing: "E", hsm.DirectionBoth: "B", hsm.DirectionIncoming: "D"}[direction]
		key := spec("zone-"+direction, "P0", "A", 32, mode, "E")
		key.Direction = direction
		for version := range uint32(2) {
			key.Version = version + 1
			value := random(32)
			outside := spec(fmt.Sprintf("out-%s-%d", direction, version), "P0", "A", 32, mode, "E")
			outside.Direction = direction
			from.load(outside, value)
			block, err := from.export(outside.Name, "a32", ceremony.BlockForm{Version: "D", Exportability: "E"})
			from.must(err)
			r := to.mustBegin("bob", &ceremony.Definition{Kind: ceremony.Import, Key: key, Block: string(block.Text()), Under: ref("a32")})
			want := 2
			if direction == hsm.DirectionIncoming {
				want = 1
			}
			if r.opening.Need.Approvals != want {
				t.Errorf("%s version %d takes %+v", direction, key.Version, r.opening.Need)
			}
			r.approve([]string{"alice", "bob"}[:want]...)
			r.finish()
		}
	}
}

// TestRegisterKeepsRoom: what one officer can do alone fills the register only so far that
// keys can still be stopped, and only so far that several officers can still change it.
func TestRegisterKeepsRoom(t *testing.T) {
	b := newBench(t)
	b.perform(&ceremony.Definition{Kind: ceremony.Create, Key: spec("pek", "P0", "T", 16, "B", "N")})
	fill := func(room int) { // with what looks like ceremonies that were called off
		t.Helper()
		e := b.current()
		n := e.Clone()
		for {
			encoded, err := ceremony.Encode(n)
			b.must(err)
			const size = 57 // of an entry
			left := room - len(encoded) - ceremony.EpochMACSize
			if left < size {
				break
			}
			for i := range left / size {
				n.Done = append(n.Done, ceremony.Done{ID: fmt.Sprintf("%s%06d", strings.Repeat("0", 26), len(n.Done)+i), Expires: b.now.Unix() + 1e6})
			}
		}
		b.do(func(s *token.Session) (err error) {
			var sealed []byte
			if sealed, err = b.register.Propose(s, e, n, ceremony.MaxEpoch); err != nil {
				return err
			}
			b.epoch = sealed
			_, err = b.register.Commit(s, sealed, func(*ceremony.Epoch) error { return nil })
			return err
		})
	}
	begun := zone(b)
	change := func() error {
		roster := b.current().Roster
		r := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Change, Roster: &roster})
		r.approve("alice", "bob")
		out, err := r.carryOut()
		if err == nil {
			r.commit(out)
		}
		return err
	}
	stop := func(kind ceremony.Kind, officers ...string) error {
		r := b.mustBegin("alice", &ceremony.Definition{Kind: kind, Target: ref("pek")})
		r.approve(officers...)
		out, err := r.carryOut()
		if err == nil {
			r.commit(out)
		}
		return err
	}
	fill(ceremony.MaxEpoch - 2*64<<10)
	_, err := begun.callOff("alice")
	refused(t, err, fault.DefinitionInvalid)
	r := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Create, Key: spec("more", "P0", "T", 16, "B", "N")})
	r.approve("alice", "bob")
	_, err = r.carryOut()
	refused(t, err, fault.DefinitionInvalid)
	b.must(stop(ceremony.Stop, "alice"))
	b.must(stop(ceremony.Start, "alice", "bob"))
	fill(ceremony.MaxEpoch - 64<<10)
	refused(t, stop(ceremony.Stop, "alice"), fault.DefinitionInvalid)
	b.must(change())
}

// TestPairsOfSeveralCeremonies: two ceremonies make the same version of a key pair. The one
// that is committed keeps its own, whatever the other one does; what is left of the other goes
// when nobody can commit it any more.
func TestPairsOfSeveralCeremonies(t *testing.T) {
	b := newBench(t)
	definition := func(length int) *ceremony.Definition {
		return &ceremony.Definition{Kind: ceremony.Create, Key: spec("sign", "S0", "E", length, "S", "N"), ValidFor: 3600}
	}
	one, two := b.mustBegin("alice", definition(32)), b.mustBegin("bob", definition(48))
	one.approve("alice", "bob")
	two.approve("alice", "bob")
	first, err := one.carryOut()
	b.must(err)
	again, err := one.carryOut()
	b.must(err)
	object := func(key *hsm.Key) string {
		parsed, err := hsm.ParseSealed(key.Sealed)
		b.must(err)
		return parsed.Header.Object
	}
	if object(first.Key) != object(again.Key) {
		t.Error("a ceremony that is carried out again makes another pair")
	}
	second, err := two.carryOut()
	b.must(err)
	one.commit(first)
	refused(t, b.commitEpoch(second.Epoch), fault.EpochStale)
	_, err = two.carryOut()
	refused(t, err, fault.KeyExists)
	find := func(key *hsm.Key) (err error) {
		b.do(func(s *token.Session) error { _, err = s.FindPair(object(key)); return nil })
		return err
	}
	b.must(find(first.Key))
	b.must(find(second.Key))
	b.perform(&ceremony.Definition{Kind: ceremony.Delete, Target: ref("sign"), Wait: ceremony.MinWait, ValidFor: 3600})
	b.must(find(first.Key))
	b.now = b.now.Add(ceremony.MinWait * 1e9)
	b.perform(&ceremony.Definition{Kind: ceremony.Create, Key: spec("later", "P0", "T", 16, "B", "N"), ValidFor: 3600})
	for _, key := range []*hsm.Key{first.Key, second.Key} {
		if err := find(key); !errors.Is(err, token.ErrNoObject) {
			t.Errorf("of a deleted key: %v", err)
		}
	}
	abandoned := b.mustBegin("alice", &ceremony.Definition{Kind: ceremony.Create, Key: spec("other", "S0", "E", 32, "S", "N"), ValidFor: 3600})
	abandoned.approve("alice", "bob")
	out, err := abandoned.carryOut()
	b.must(err)
	b.now = b.now.Add((3600 + ceremony.MaxValidFor - 1) * 1e9)
	b.perform(&ceremony.Definition{Kind: ceremony.Create, Key: spec("even-later", "P0", "T", 16, "B", "N"), ValidFor: 3600})
	b.must(find(out.Key))
	b.now = b.now.Add(1e9)
	b.perform(&ceremony.Definition{Kind: ceremony.Create, Key: spec("latest", "P0", "T", 16, "B", "N"), ValidFor: 3600})
	if err := find(out.Key); !errors.Is(err, token.ErrNoObject) {
		t.Errorf("of a ceremony that was never committed: %v", err)
	}
}
