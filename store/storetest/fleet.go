package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"keyd/store"
)

// fleetTests are the tests of [store.Changes], [store.Nodes] and the links of epochs.
var fleetTests = []test{
	{"Revision", testRevision},
	{"RevisionContest", testRevisionContest},
	{"EpochLinks", testEpochLinks},
	{"CeremonyNode", testCeremonyNode},
	{"Nodes", testNodes},
	{"NodesAreFew", testNodesAreFew},
	{"NodesInvalid", testNodesInvalid},
	{"RemoveNode", testRemoveNode},
}

// Node returns a valid node, which follows from its name.
func Node(name string) store.Node {
	return store.Node{Name: name, Version: "1.2.3 " + name, Epoch: uint64(len(name)), Instance: strings.Repeat("0a", 32), Detail: "läuft auf " + name}
}

func testRevision(t *testing.T, s store.Store) {
	revision := func() uint64 {
		t.Helper()
		r, err := s.Revision(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	done := Ceremony(1)
	done.State = store.CeremonyCompleted
	before := revision()
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"Put", func() error { return s.Put(t.Context(), Record("zpk", 1), Record("zpk", 2)) }},
		{"Replace", func() error { return s.Replace(t.Context(), Record("zpk", 1)) }},
		{"ReplaceSealed", func() error {
			return s.ReplaceSealed(t.Context(), "zpk", 1, Record("zpk", 1).Sealed, []byte("anew"))
		}},
		{"Purge", func() error { return s.Purge(t.Context(), store.KeyVersion{Name: "zpk", Version: 1}) }},
		{"SetAlias", func() error { return s.SetAlias(t.Context(), "a", "zpk", "") }},
		{"DeleteAlias", func() error { return s.DeleteAlias(t.Context(), "a", "zpk") }},
		{"SetTags", func() error { return s.SetTags(t.Context(), "zpk", map[string]string{"t": "v"}) }},
		{"DeleteTags", func() error { return s.DeleteTags(t.Context(), "zpk", []string{"t"}) }},
		{"AddCeremony", func() error { return s.AddCeremony(t.Context(), Ceremony(1)) }},
		{"UpdateCeremony", func() error { return s.UpdateCeremony(t.Context(), Ceremony(1)) }},
		{"AdoptEpoch", func() error { return s.AdoptEpoch(t.Context(), 1, Epoch(1)) }},
		{"ProposeEpoch", func() error { return s.ProposeEpoch(t.Context(), "n", 2, Epoch(2), store.Change{}) }},
		{"WithdrawEpoch", func() error { return s.WithdrawEpoch(t.Context(), 2, nil) }},
		{"ProposeEpoch again", func() error { return s.ProposeEpoch(t.Context(), "n", 2, Epoch(2), store.Change{}) }},
		{"AdvanceEpoch", func() error { return s.AdvanceEpoch(t.Context(), 2, nil, nil) }},
		{"ProposeEpoch of n", func() error { return s.ProposeEpoch(t.Context(), "n", 3, Epoch(3), store.Change{}) }},
		{"RemoveNode", func() error { return s.RemoveNode(t.Context(), "n") }},
	} {
		if err := c.do(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		after := revision()
		if after <= before {
			t.Errorf("%s does not raise the revision", c.name)
		}
		before = after
	}
	// What fails, and what is no change, leaves it.
	addUsage(t, s, Usage("zpk", 2, 1))
	fold(t, s, Counter("q", 1))
	appendRow(t, s, 1, "row")
	if err := s.ReportNode(t.Context(), Node("n")); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"Put": s.Put(t.Context(), Record("zpk", 2)), "SetAlias": s.SetAlias(t.Context(), "a", "none", ""), "AdvanceEpoch": s.AdvanceEpoch(t.Context(), 9, nil, nil),
	} {
		if err == nil {
			t.Errorf("%s works", name)
		}
	}
	if err := s.AdoptEpoch(t.Context(), 2, Epoch(2)); err != nil {
		t.Fatal(err)
	}
	if after := revision(); after != before {
		t.Errorf("the revision is %d, want %d", after, before)
	}
}

// Changes at once each have a revision of their own.
func testRevisionContest(t *testing.T, s store.Store) {
	const writers, rounds = 6, 10
	before, err := s.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for w := range writers {
		wait.Go(func() {
			for n := range rounds {
				if err := s.Put(t.Context(), Record(fmt.Sprintf("key-%d-%d", w, n), 1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if after, err := s.Revision(t.Context()); err != nil || after-before != writers*rounds {
		t.Errorf("the revision rose from %d to %d, %v, want %d changes", before, after, err, writers*rounds)
	}
}

func testEpochLinks(t *testing.T, s store.Store) {
	links := func(after uint64, limit int, want ...string) {
		t.Helper()
		found, err := s.EpochLinks(t.Context(), after, limit)
		var got []string
		for _, l := range found {
			got = append(got, fmt.Sprintf("%d %s", l.Version, l.Link))
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("the links after %d are %.80q, %v, want %.80q", after, got, err, want)
		}
	}
	adopt(t, s, 1)
	links(0, 10)
	large := string(bytes.Repeat([]byte{0xff}, store.MaxLink))
	for version, link := range map[uint64]string{2: ""} {
		propose(t, s, version, store.Change{})
		if err := s.AdvanceEpoch(t.Context(), version, nil, []byte(link)); err != nil {
			t.Fatal(err)
		}
	}
	propose(t, s, 3, store.Change{})
	if err := s.AdvanceEpoch(t.Context(), 3, nil, make([]byte, store.MaxLink+1)); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a long link: %v, want ErrInvalid", err)
	}
	epochs(t, s, 2, 3)
	if err := s.AdvanceEpoch(t.Context(), 3, nil, []byte(large)); err != nil {
		t.Fatal(err)
	}
	if err := s.AdvanceEpoch(t.Context(), 3, nil, []byte("another")); err != nil { // it is current: nothing happens
		t.Fatal(err)
	}
	propose(t, s, 4, store.Change{})
	if err := s.WithdrawEpoch(t.Context(), 4, nil); err != nil {
		t.Fatal(err)
	}
	propose(t, s, 4, store.Change{})
	if err := s.AdvanceEpoch(t.Context(), 4, nil, []byte("four")); err != nil {
		t.Fatal(err)
	}
	links(0, 10, "2 ", "3 "+large, "4 four")
	links(2, 1, "3 "+large)
	links(4, 10)
	links(math.MaxUint64, 10)
	for _, limit := range []int{-1, 0, store.MaxList + 1} {
		if l, err := s.EpochLinks(t.Context(), 0, limit); !errors.Is(err, store.ErrInvalid) || l != nil {
			t.Errorf("EpochLinks, at most %d: %v, %v, want ErrInvalid", limit, l, err)
		}
	}
}

func testCeremonyNode(t *testing.T, s store.Store) {
	r := Ceremony(1)
	r.Node = strings.Repeat("~", store.MaxNode)
	addCeremony(t, s, r)
	other := r
	other.Node = "other"
	if err := s.UpdateCeremony(t.Context(), other); !errors.Is(err, store.ErrConflict) {
		t.Errorf("UpdateCeremony at another node: %v, want ErrConflict", err)
	}
	updateCeremony(t, s, r)
	r.Revision = 1
	sameCeremony(t, s, r)
	for _, node := range []string{strings.Repeat("n", store.MaxNode+1), "a node", "n\x00", "n\n", "\u00fc"} {
		bad := Ceremony(2)
		bad.Node = node
		if err := s.AddCeremony(t.Context(), bad); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("AddCeremony at %.20q: %v, want ErrInvalid", node, err)
		}
	}
	// The node goes with the change of an epoch, and so does the one that proposes.
	adopt(t, s, 1)
	done := r
	done.State = store.CeremonyCompleted
	if err := s.ProposeEpoch(t.Context(), "node-a", 2, Epoch(2), store.Change{Ceremony: &done}); err != nil {
		t.Fatal(err)
	}
	p, err := s.ProposedEpoch(t.Context())
	if err != nil || p.Node != "node-a" || p.Version != 2 || !reflect.DeepEqual(p.Change.Ceremony, &done) {
		t.Errorf("ProposedEpoch = %v, %v", p, err)
	}
	advance(t, s, 2)
	done.Revision = 2
	sameCeremony(t, s, done)
	for _, node := range []string{strings.Repeat("n", store.MaxNode+1), "a node", "n\x00", "\u00fc"} {
		if err := s.ProposeEpoch(t.Context(), node, 3, Epoch(3), store.Change{}); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("ProposeEpoch by %.20q: %v, want ErrInvalid", node, err)
		}
	}
}

func testNodes(t *testing.T, s store.Store) {
	reported(t, s)
	large := store.Node{
		Name: strings.Repeat("~", store.MaxNode), Version: strings.Repeat("v", store.MaxNodeText), Epoch: math.MaxInt64,
		Instance: strings.Repeat(" ", store.MaxNodeText), Detail: strings.Repeat("\u00fc", store.MaxNodeDetail/2),
	}
	small := store.Node{Name: "!"}
	for _, n := range []store.Node{Node("b"), large, Node("a"), small, Node("B")} {
		if err := s.ReportNode(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	reported(t, s, small, Node("B"), Node("a"), Node("b"), large)
	again := Node("a")
	again.Version, again.Epoch, again.Detail = "2", 7, ""
	again.LastSeen, again.Age = time.Unix(0, 0), time.Hour // not the caller's to say
	if err := s.ReportNode(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	reported(t, s, small, Node("B"), again, Node("b"), large)
	found, err := s.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range found {
		if n.Name != "a" && n.LastSeen.After(found[2].LastSeen) {
			t.Errorf("%.10s was seen at %v, and a after that at %v", n.Name, n.LastSeen, found[2].LastSeen)
		}
	}
}

// reported checks what is kept of the nodes.
func reported(t *testing.T, s store.Store, want ...store.Node) {
	t.Helper()
	found, err := s.Nodes(t.Context())
	if err != nil || len(found) != len(want) {
		t.Fatalf("Nodes = %d, %v, want %d", len(found), err, len(want))
	}
	for i, n := range found {
		if n.LastSeen.Location() != time.UTC || n.Age < 0 || n.Age > time.Hour || n.LastSeen.Before(time.Now().Add(-time.Hour)) {
			t.Errorf("%.10s was seen at %v, %v ago", n.Name, n.LastSeen, n.Age)
		}
		n.LastSeen, n.Age = want[i].LastSeen, want[i].Age
		if n != want[i] {
			t.Errorf("node %d is %v, want %v", i, n, want[i])
		}
	}
}

func testNodesAreFew(t *testing.T, s store.Store) {
	for i := range store.MaxNodes {
		if err := s.ReportNode(t.Context(), Node(fmt.Sprint("n", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.ReportNode(t.Context(), Node("one more")); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("one more: %v, want ErrInvalid", err)
	}
	if err := s.ReportNode(t.Context(), Node("another")); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("another: %v, want ErrInvalid", err)
	}
	if err := s.ReportNode(t.Context(), Node("n7")); err != nil { // it is one of them
		t.Error(err)
	}
	if err := s.RemoveNode(t.Context(), "n7"); err != nil {
		t.Fatal(err)
	}
	if err := s.ReportNode(t.Context(), Node("another")); err != nil {
		t.Error(err)
	}
	if found, err := s.Nodes(t.Context()); err != nil || len(found) != store.MaxNodes {
		t.Errorf("Nodes = %d, %v", len(found), err)
	}
}

func testNodesInvalid(t *testing.T, s store.Store) {
	change := func(f func(*store.Node)) store.Node {
		n := Node("n")
		f(&n)
		return n
	}
	for name, n := range map[string]store.Node{
		"no name":        change(func(n *store.Node) { n.Name = "" }),
		"long name":      change(func(n *store.Node) { n.Name = strings.Repeat("n", store.MaxNode+1) }),
		"space":          change(func(n *store.Node) { n.Name = "a b" }),
		"zero byte":      change(func(n *store.Node) { n.Name = "a\x00" }),
		"long version":   change(func(n *store.Node) { n.Version = strings.Repeat("n", store.MaxNodeText+1) }),
		"version":        change(func(n *store.Node) { n.Version = "1\n" }),
		"epoch":          change(func(n *store.Node) { n.Epoch = math.MaxInt64 + 1 }),
		"long digest":    change(func(n *store.Node) { n.Instance = strings.Repeat("n", store.MaxNodeText+1) }),
		"digest":         change(func(n *store.Node) { n.Instance = "\xff" }),
		"long detail":    change(func(n *store.Node) { n.Detail = strings.Repeat("n", store.MaxNodeDetail+1) }),
		"unprintable":    change(func(n *store.Node) { n.Detail = "a\x00" }),
		"detail's bytes": change(func(n *store.Node) { n.Detail = "\xff" }),
	} {
		if err := s.ReportNode(t.Context(), n); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	reported(t, s)
}

func testRemoveNode(t *testing.T, s store.Store) {
	adopt(t, s, 1)
	for _, n := range []string{"a", "b"} {
		if err := s.ReportNode(t.Context(), Node(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.ProposeEpoch(t.Context(), "b", 2, Epoch(2), store.Change{}); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveNode(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	epochs(t, s, 1, 2) // it was the other's
	reported(t, s, Node("b"))
	for _, name := range []string{"a", "", "c", "b ", "b\x00", "\xff"} {
		if err := s.RemoveNode(t.Context(), name); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("RemoveNode(%q): %v, want ErrNotFound", name, err)
		}
	}
	if err := s.RemoveNode(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	epochs(t, s, 1, 0)
	reported(t, s)
	// One that never reported has proposed.
	if err := s.ProposeEpoch(t.Context(), "silent", 2, Epoch(2), store.Change{}); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveNode(t.Context(), "silent"); err != nil {
		t.Fatal(err)
	}
	epochs(t, s, 1, 0)
}
