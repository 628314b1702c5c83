package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"keyd/store"
)

// epochTests are the tests of [store.Epochs].
var epochTests = []test{
	{"EpochAdopt", testEpochAdopt},
	{"EpochChange", testEpochChange},
	{"EpochOrder", testEpochOrder},
	{"EpochWithdraw", testEpochWithdraw},
	{"EpochIsAllOrNothing", testEpochAllOrNothing},
	{"EpochHoldsItsCeremony", testEpochCeremony},
	{"EpochHoldsItsNames", testEpochNames},
	{"EpochContest", testEpochContest},
	{"EpochLimits", testEpochLimits},
	{"EpochInvalid", testEpochInvalid},
	{"EpochAgainstModel", testEpochModel},
}

// Epoch returns the document that stands for an epoch.
func Epoch(version uint64) []byte { return fmt.Appendf(nil, "epoch %d", version) }

// TestReopen tests what remains when a process ends between two steps. database makes an
// empty database and returns what opens it, each time anew; the suite closes the stores.
func TestReopen(t *testing.T, database func(t *testing.T) (open func() store.Store)) {
	change := func(s store.Store) (store.Change, store.CeremonyRecord) {
		put(t, s, Record("zpk", 1), Record("old", 1))
		addCeremony(t, s, Ceremony(1))
		done := Ceremony(1)
		done.State, done.Record = store.CeremonyCompleted, []byte("record")
		return store.Change{
			Keys: []store.KeyRecord{Record("zpk", 2)}, States: []store.StateChange{{Name: "zpk", Version: 1, State: store.Disabled}},
			Purge: []store.KeyVersion{{Name: "old", Version: 1}}, Ceremony: &done,
		}, done
	}
	for _, c := range []struct {
		name   string
		follow func(t *testing.T, s store.Store, done store.CeremonyRecord)
	}{
		{"Advance", func(t *testing.T, s store.Store, done store.CeremonyRecord) {
			advance(t, s, 2)
			epochs(t, s, 2, 0)
			names(t, s, "zpk")
			same(t, get(t, s, "zpk"), Record("zpk", 2))
			done.Revision++
			sameCeremony(t, s, done)
		}},
		{"Withdraw", func(t *testing.T, s store.Store, _ store.CeremonyRecord) {
			if err := s.WithdrawEpoch(t.Context(), 2, nil); err != nil {
				t.Fatal(err)
			}
			epochs(t, s, 1, 0)
			names(t, s, "old", "zpk")
			same(t, get(t, s, "zpk"), Record("zpk", 1))
			sameCeremony(t, s, Ceremony(1))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			open := database(t)
			stop := func(s store.Store) {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			s := open()
			adopt(t, s, 1)
			change, done := change(s)
			propose(t, s, 2, change)
			stop(s)
			s = open()
			epochs(t, s, 1, 2)
			found, err := s.ProposedEpoch(t.Context())
			if err != nil || !reflect.DeepEqual(found.Change.Names(), []string{"old", "zpk"}) {
				t.Fatalf("the change is about %q, %v", found.Change.Names(), err)
			}
			c.follow(t, s, done)
			stop(s)
			s = open()
			current, err := s.CurrentEpoch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			advance(t, s, current.Version) // again, by who does not know that it was done
			epochs(t, s, current.Version, 0)
			stop(s)
		})
	}
}

func testEpochAdopt(t *testing.T, s store.Store) {
	epochs(t, s, 0, 0)
	if err := s.ProposeEpoch(t.Context(), "", 1, Epoch(1), store.Change{}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a proposal without an epoch before: %v, want ErrConflict", err)
	}
	if err := s.AdvanceEpoch(t.Context(), 1, nil, nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("AdvanceEpoch of nothing: %v, want ErrNotFound", err)
	}
	for range 2 {
		adopt(t, s, 7) // it need not be the first of the token
		epochs(t, s, 7, 0)
	}
	for version, sealed := range map[uint64]string{6: "epoch 7", 8: "epoch 7", 7: "another"} {
		if err := s.AdoptEpoch(t.Context(), version, []byte(sealed)); !errors.Is(err, store.ErrConflict) {
			t.Errorf("another one: %v, want ErrConflict", err)
		}
	}
	propose(t, s, 8, store.Change{})
	adopt(t, s, 7) // still the current one
	if err := s.AdoptEpoch(t.Context(), 8, Epoch(8)); !errors.Is(err, store.ErrConflict) {
		t.Errorf("the proposal: %v, want ErrConflict", err)
	}
	epochs(t, s, 7, 8)
}

func testEpochChange(t *testing.T, s store.Store) {
	put(t, s, Record("zpk", 1), Record("zpk", 2), Record("gone", 1), Record("gone", 2), Record("stays", 1), Record("stays", 2))
	setTags(t, s, "gone", map[string]string{"team": "issuing"})
	setTags(t, s, "stays", map[string]string{"team": "issuing"})
	setAlias(t, s, "to.gone", "gone", "")
	addUsage(t, s, Usage("gone", 1, 3), Usage("gone", 2, 3), Usage("stays", 1, 3), Usage("stays", 2, 3))
	addCeremony(t, s, Ceremony(1))
	adopt(t, s, 1)
	replaced := Record("zpk", 2)
	replaced.State, replaced.Sealed, replaced.CreatedAt = store.Disabled, []byte("<another & \xff>"), replaced.CreatedAt.Add(time.Hour)
	done := Ceremony(1)
	done.State, done.Record, done.Subject = store.CeremonyCompleted, []byte("record\x00\xff"), "<zpk> & 'more'"
	change := store.Change{
		Keys:     []store.KeyRecord{Record("zpk", 3), replaced, Record("new", 1)},
		States:   []store.StateChange{{Name: "zpk", Version: 1, State: store.Disabled}, {Name: "lost", Version: 9, State: store.Disabled}},
		Purge:    []store.KeyVersion{{Name: "gone", Version: 1}, {Name: "gone", Version: 2}, {Name: "stays", Version: 1}, {Name: "lost", Version: 8}},
		Ceremony: &done,
	}
	propose(t, s, 2, change)
	// A proposal changes nothing.
	names(t, s, "gone", "stays", "zpk")
	same(t, get(t, s, "zpk"), Record("zpk", 2))
	sameCeremony(t, s, Ceremony(1))
	proposal, err := s.ProposedEpoch(t.Context())
	found := proposal.Change
	if err != nil || !reflect.DeepEqual(found, change) {
		t.Fatalf("ProposedEpoch = %v, %v, want %v", found, err, change)
	}
	clear(found.Keys[0].Sealed) // the result is the caller's
	for range 2 {
		advance(t, s, 2) // the second time nothing happens
		epochs(t, s, 2, 0)
		names(t, s, "new", "stays", "zpk")
		stopped := Record("zpk", 1)
		stopped.State = store.Disabled
		for _, want := range []store.KeyRecord{stopped, replaced, Record("zpk", 3), Record("new", 1), Record("stays", 2)} {
			r, err := s.Version(t.Context(), want.Name, want.Version)
			if err != nil {
				t.Fatalf("%s %d: %v", want.Name, want.Version, err)
			}
			same(t, r, want)
		}
		done.Revision = 1
		sameCeremony(t, s, done)
		hasTags(t, s, "gone", nil)
		hasTags(t, s, "stays", map[string]string{"team": "issuing"})
		hasUsage(t, s, "gone")
		hasUsage(t, s, "stays", Usage("stays", 2, 3))
		if key, err := s.Alias(t.Context(), "to.gone"); err != nil || key != "gone" {
			t.Errorf("Alias = %q, %v", key, err)
		}
	}
	addUsage(t, s, Usage("gone", 1, 1)) // counted before, kept afterwards
	hasUsage(t, s, "gone")
	propose(t, s, 3, store.Change{})
	advance(t, s, 3)
	epochs(t, s, 3, 0)
}

func testEpochOrder(t *testing.T, s store.Store) {
	adopt(t, s, 5)
	for _, version := range []uint64{1, 4, 5, 7, math.MaxInt64} {
		if err := s.ProposeEpoch(t.Context(), "", version, Epoch(version), store.Change{}); !errors.Is(err, store.ErrConflict) {
			t.Errorf("epoch %d after epoch 5: %v, want ErrConflict", version, err)
		}
	}
	for _, version := range []uint64{0, 4, 6} {
		if err := s.AdvanceEpoch(t.Context(), version, nil, nil); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("AdvanceEpoch(%d): %v, want ErrNotFound", version, err)
		}
	}
	propose(t, s, 6, store.Change{Keys: []store.KeyRecord{Record("zpk", 1)}})
	if err := s.ProposeEpoch(t.Context(), "", 6, Epoch(6), store.Change{}); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a second proposal: %v, want ErrConflict", err)
	}
	for _, version := range []uint64{0, 4, 7} {
		if err := s.AdvanceEpoch(t.Context(), version, nil, nil); !errors.Is(err, store.ErrConflict) {
			t.Errorf("AdvanceEpoch(%d) of epoch 6: %v, want ErrConflict", version, err)
		}
		if err := s.WithdrawEpoch(t.Context(), version, nil); !errors.Is(err, store.ErrConflict) {
			t.Errorf("WithdrawEpoch(%d) of epoch 6: %v, want ErrConflict", version, err)
		}
	}
	advance(t, s, 5) // that is current
	epochs(t, s, 5, 6)
	names(t, s)
	advance(t, s, 6)
	names(t, s, "zpk")
}

func testEpochWithdraw(t *testing.T, s store.Store) {
	adopt(t, s, 1)
	addCeremony(t, s, Ceremony(1))
	r := Ceremony(1)
	propose(t, s, 2, store.Change{Keys: []store.KeyRecord{Record("zpk", 1)}, Ceremony: &r})
	if err := s.WithdrawEpoch(t.Context(), 2, nil); err != nil {
		t.Fatal(err)
	}
	for _, version := range []uint64{1, 2} {
		if err := s.WithdrawEpoch(t.Context(), version, nil); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("WithdrawEpoch(%d): %v, want ErrNotFound", version, err)
		}
	}
	if err := s.AdvanceEpoch(t.Context(), 2, nil, nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("AdvanceEpoch: %v, want ErrNotFound", err)
	}
	epochs(t, s, 1, 0)
	names(t, s)
	updateCeremony(t, s, r) // it is free again
	propose(t, s, 2, store.Change{})
	advance(t, s, 2)
	names(t, s) // nothing of the proposal that was withdrawn
}

// What a proposal refuses leaves no trace.
func testEpochAllOrNothing(t *testing.T, s store.Store) {
	put(t, s, Record("zpk", 1))
	setAlias(t, s, "alias", "zpk", "")
	adopt(t, s, 1)
	addCeremony(t, s, Ceremony(1))
	missing, older := Ceremony(2), Ceremony(1)
	older.Revision = 4
	for name, c := range map[string]struct {
		change store.Change
		want   error
	}{
		"an alias's name": {store.Change{Keys: []store.KeyRecord{Record("a", 1), Record("alias", 1)}}, store.ErrExists},
		"no ceremony":     {store.Change{Ceremony: &missing}, store.ErrNotFound},
		"another state":   {store.Change{Ceremony: &older}, store.ErrConflict},
	} {
		if err := s.ProposeEpoch(t.Context(), "", 2, Epoch(2), c.change); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	epochs(t, s, 1, 0)
	names(t, s, "zpk")
}

func testEpochCeremony(t *testing.T, s store.Store) {
	adopt(t, s, 1)
	addCeremony(t, s, Ceremony(1))
	addCeremony(t, s, Ceremony(2))
	done := Ceremony(1)
	done.State = store.CeremonyCompleted
	propose(t, s, 2, store.Change{Ceremony: &done})
	aborted := Ceremony(1)
	aborted.State = store.CeremonyAborted
	if err := s.UpdateCeremony(t.Context(), aborted); !errors.Is(err, store.ErrConflict) {
		t.Errorf("UpdateCeremony of what is proposed: %v, want ErrConflict", err)
	}
	updateCeremony(t, s, Ceremony(2)) // another one
	advance(t, s, 2)
	done.Revision = 1
	sameCeremony(t, s, done)
	updateCeremony(t, s, done)
}

func testEpochNames(t *testing.T, s store.Store) {
	put(t, s, Record("zpk", 1))
	adopt(t, s, 1)
	propose(t, s, 2, store.Change{Keys: []store.KeyRecord{Record("coming", 1)}, States: []store.StateChange{{Name: "other", Version: 1, State: store.Enabled}}})
	if err := s.SetAlias(t.Context(), "coming", "zpk", ""); !errors.Is(err, store.ErrExists) {
		t.Errorf("SetAlias of a name that is proposed: %v, want ErrExists", err)
	}
	if err := s.SetAlias(t.Context(), "a", "coming", ""); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("SetAlias of a key that is proposed: %v, want ErrNotFound", err)
	}
	setAlias(t, s, "other", "zpk", "")
	advance(t, s, 2)
	names(t, s, "coming", "zpk")
}

// Several processes follow the same ceremony: each epoch comes into force once, whoever
// brings it there.
func testEpochContest(t *testing.T, s store.Store) {
	adopt(t, s, 1)
	for version := uint64(2); version <= 16; version++ {
		var proposed, advanced atomic.Int32
		var wait sync.WaitGroup
		for w := range 5 {
			wait.Go(func() {
				r := Record("zpk", uint32(version))
				r.Sealed = fmt.Appendf(nil, "by %d", w)
				switch err := s.ProposeEpoch(t.Context(), "", version, fmt.Appendf(nil, "by %d", w), store.Change{Keys: []store.KeyRecord{r}}); {
				case err == nil:
					proposed.Add(1)
				case !errors.Is(err, store.ErrConflict):
					t.Errorf("ProposeEpoch: %v, want ErrConflict", err)
				}
				switch err := s.AdvanceEpoch(t.Context(), version, nil, nil); {
				case err == nil:
					advanced.Add(1)
				default:
					t.Errorf("AdvanceEpoch: %v", err)
				}
			})
		}
		wait.Wait()
		e, err := s.CurrentEpoch(t.Context())
		if err != nil || e.Version != version || proposed.Load() != 1 || advanced.Load() != 5 {
			t.Fatalf("epoch %d, %v; proposed by %d, advanced by %d", e.Version, err, proposed.Load(), advanced.Load())
		}
		if r := get(t, s, "zpk"); r.Version != uint32(version) || !bytes.Equal(r.Sealed, e.Sealed) {
			t.Fatalf("the key is version %d %q, the epoch %q", r.Version, r.Sealed, e.Sealed)
		}
	}
}

func testEpochLimits(t *testing.T, s store.Store) {
	large := bytes.Repeat([]byte{0xa5}, store.MaxEpoch)
	if err := s.AdoptEpoch(t.Context(), math.MaxInt64-1, large); err != nil {
		t.Fatal(err)
	}
	full := Ceremony(1)
	addCeremony(t, s, full)
	full.State, full.Papers, full.Record = store.CeremonyCompleted, make([]byte, store.MaxPapers), make([]byte, store.MaxCeremonyRecord)
	change := store.Change{Ceremony: &full}
	for i := range 30 { // of the largest size; of the usual size some thousand
		r := Record(strings.Repeat("n", store.MaxName-2)+fmt.Sprintf("%02d", i), math.MaxUint32)
		r.Sealed = bytes.Repeat([]byte{byte(i)}, store.MaxSealed)
		change.Keys = append(change.Keys, r)
	}
	if err := s.ProposeEpoch(t.Context(), "", math.MaxInt64, large, change); err != nil {
		t.Fatal(err)
	}
	advance(t, s, math.MaxInt64)
	e, err := s.CurrentEpoch(t.Context())
	if err != nil || e.Version != math.MaxInt64 || !bytes.Equal(e.Sealed, large) {
		t.Errorf("CurrentEpoch = %d with %d bytes, %v", e.Version, len(e.Sealed), err)
	}
	for _, r := range change.Keys {
		same(t, get(t, s, r.Name), r)
	}
	full.Revision = 1
	sameCeremony(t, s, full)
	if err := s.ProposeEpoch(t.Context(), "", math.MaxInt64+1, large, store.Change{}); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("after the last epoch: %v, want ErrInvalid", err)
	}
}

func testEpochInvalid(t *testing.T, s store.Store) {
	adopt(t, s, 1)
	for name, c := range map[string]struct {
		version uint64
		sealed  []byte
	}{
		"version 0": {0, Epoch(1)}, "large version": {math.MaxInt64 + 1, Epoch(1)}, "no document": {2, nil}, "long document": {2, make([]byte, store.MaxEpoch+1)},
	} {
		if err := s.AdoptEpoch(t.Context(), c.version, c.sealed); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: AdoptEpoch: %v, want ErrInvalid", name, err)
		}
		if err := s.ProposeEpoch(t.Context(), "", c.version, c.sealed, store.Change{}); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: ProposeEpoch: %v, want ErrInvalid", name, err)
		}
	}
	nameless, stateless, bad := Record("", 1), Record("zpk", 1), Ceremony(1)
	stateless.State, bad.ID = "", "1"
	var large []store.KeyRecord
	for i := range 60 {
		r := Record(fmt.Sprintf("key-%d", i), 1)
		r.Sealed = make([]byte, store.MaxSealed)
		large = append(large, r)
	}
	zpk := store.KeyVersion{Name: "zpk", Version: 1}
	stop := store.StateChange{Name: "zpk", Version: 1, State: store.Disabled}
	for name, change := range map[string]store.Change{
		"no name":               {Keys: []store.KeyRecord{nameless}},
		"no state":              {Keys: []store.KeyRecord{stateless}},
		"a key twice":           {Keys: []store.KeyRecord{Record("zpk", 1), Record("zpk", 1)}},
		"a state twice":         {States: []store.StateChange{stop, stop}},
		"another state":         {States: []store.StateChange{{Name: "zpk", Version: 1, State: "STOPPED"}}},
		"a state of no key":     {States: []store.StateChange{{Version: 1, State: store.Enabled}}},
		"a state of version 0":  {States: []store.StateChange{{Name: "zpk", State: store.Enabled}}},
		"purged twice":          {Purge: []store.KeyVersion{zpk, zpk}},
		"purge of no key":       {Purge: []store.KeyVersion{{Version: 1}}},
		"purge of version 0":    {Purge: []store.KeyVersion{{Name: "zpk"}}},
		"inserted and stopped":  {Keys: []store.KeyRecord{Record("zpk", 1)}, States: []store.StateChange{stop}},
		"inserted and purged":   {Keys: []store.KeyRecord{Record("zpk", 1)}, Purge: []store.KeyVersion{zpk}},
		"stopped and purged":    {States: []store.StateChange{stop}, Purge: []store.KeyVersion{zpk}},
		"a ceremony without ID": {Ceremony: &bad},
		"too much":              {Keys: large},
	} {
		if err := s.ProposeEpoch(t.Context(), "", 2, Epoch(2), change); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	epochs(t, s, 1, 0)
}

// testEpochModel compares with a map of keys under random changes, some of which are
// withdrawn.
func testEpochModel(t *testing.T, s store.Store) {
	adopt(t, s, 1)
	version := uint64(1)
	model := map[store.KeyVersion]store.KeyRecord{}
	rapid.Check(t, func(rt *rapid.T) {
		identity := rapid.Custom(func(rt *rapid.T) store.KeyVersion {
			return store.KeyVersion{Name: rapid.SampledFrom([]string{"a", "B", "c'", "<d>"}).Draw(rt, "name"), Version: rapid.Uint32Range(1, 4).Draw(rt, "version")}
		})
		after := map[store.KeyVersion]store.KeyRecord{}
		for id, r := range model {
			after[id] = r
		}
		var change store.Change
		for _, id := range rapid.SliceOfNDistinct(identity, 0, 6, func(id store.KeyVersion) store.KeyVersion { return id }).Draw(rt, "versions") {
			switch rapid.IntRange(0, 2).Draw(rt, "kind") {
			case 0:
				r := Record(id.Name, id.Version)
				r.Sealed = rapid.SliceOfN(rapid.Byte(), 1, 20).Draw(rt, "sealed")
				change.Keys = append(change.Keys, r)
				after[id] = r
			case 1:
				state := rapid.SampledFrom([]store.State{store.Enabled, store.Disabled}).Draw(rt, "state")
				change.States = append(change.States, store.StateChange{Name: id.Name, Version: id.Version, State: state})
				if r, ok := after[id]; ok {
					r.State = state
					after[id] = r
				}
			case 2:
				change.Purge = append(change.Purge, id)
				delete(after, id)
			}
		}
		if err := s.ProposeEpoch(t.Context(), "", version+1, Epoch(version+1), change); err != nil {
			rt.Fatal(err)
		}
		if rapid.Bool().Draw(rt, "withdrawn") {
			if err := s.WithdrawEpoch(t.Context(), version+1, nil); err != nil {
				rt.Fatal(err)
			}
		} else {
			if err := s.AdvanceEpoch(t.Context(), version+1, nil, nil); err != nil {
				rt.Fatal(err)
			}
			version++
			model = after
		}
		l, err := s.ListVersions(t.Context(), "", 0, store.MaxList)
		if err != nil || len(l) != len(model) {
			rt.Fatalf("%d versions, %v, want %d", len(l), err, len(model))
		}
		for _, r := range l {
			same(rt, r, model[store.KeyVersion{Name: r.Name, Version: r.Version}])
		}
	})
}

func adopt(t *testing.T, s store.Store, version uint64) {
	t.Helper()
	if err := s.AdoptEpoch(t.Context(), version, Epoch(version)); err != nil {
		t.Fatalf("AdoptEpoch(%d): %v", version, err)
	}
}

func propose(t *testing.T, s store.Store, version uint64, change store.Change) {
	t.Helper()
	if err := s.ProposeEpoch(t.Context(), "", version, Epoch(version), change); err != nil {
		t.Fatalf("ProposeEpoch(%d): %v", version, err)
	}
}

func advance(t *testing.T, s store.Store, version uint64) {
	t.Helper()
	if err := s.AdvanceEpoch(t.Context(), version, nil, nil); err != nil {
		t.Fatalf("AdvanceEpoch(%d): %v", version, err)
	}
}

// epochs checks which epochs are kept, 0 for none.
func epochs(t *testing.T, s store.Store, current, proposed uint64) {
	t.Helper()
	e, err := s.CurrentEpoch(t.Context())
	kept(t, "current", e, err, current)
	p, err := s.ProposedEpoch(t.Context())
	kept(t, "proposed", p.Epoch, err, proposed)
}

func kept(t *testing.T, what string, e store.Epoch, err error, version uint64) {
	t.Helper()
	switch {
	case version == 0 && (!errors.Is(err, store.ErrNotFound) || e.Sealed != nil):
		t.Fatalf("%s is epoch %d, %v, want none", what, e.Version, err)
	case version != 0 && (err != nil || e.Version != version || !bytes.Equal(e.Sealed, Epoch(version))):
		t.Fatalf("%s is epoch %d %.40q, %v, want %d", what, e.Version, e.Sealed, err, version)
	}
}
