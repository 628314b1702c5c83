package hsm

import (
	"bufio"
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"keyd/fault"
	"keyd/hsm/internal/wire"
)

// fakeModule is a module's side of a channel: it answers every operation, and remembers it.
type fakeModule struct {
	t      *testing.T
	conn   net.Conn
	answer func(wire.Frame) (wire.Op, proto.Message) // nil message: none

	mu   sync.Mutex
	said []string // what came, in order
}

// newFake returns a fake module and the front's end of its channel. answer may be nil: then
// everything succeeds.
func newFake(t *testing.T, answer func(wire.Frame) (wire.Op, proto.Message)) (*fakeModule, net.Conn) {
	t.Helper()
	front, back := net.Pipe()
	if answer == nil {
		answer = success
	}
	m := &fakeModule{t: t, conn: back, answer: answer}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.serve()
	}()
	t.Cleanup(func() {
		_ = back.Close()
		<-ended
	})
	return m, front
}

func (m *fakeModule) serve() {
	in := bufio.NewReader(m.conn)
	for {
		f, err := wire.Read(in)
		if err != nil {
			return
		}
		m.mu.Lock()
		m.said = append(m.said, describe(m.t, f))
		m.mu.Unlock()
		op, answer := m.answer(f)
		if answer == nil {
			continue
		}
		b, err := wire.Append(nil, f.ID, op, answer)
		if err != nil {
			m.t.Error(err)
			return
		}
		if _, err := m.conn.Write(b); err != nil {
			return
		}
	}
}

// asked returns what came so far.
func (m *fakeModule) asked() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.said)
}

func describe(t *testing.T, f wire.Frame) string {
	switch f.Op {
	case wire.OpLoadEpoch:
		var r wire.LoadEpoch
		if err := f.Decode(&r); err != nil {
			t.Error(err)
		}
		if r.Proposal {
			return "offer " + string(r.Epoch)
		}
		return "load " + string(r.Epoch)
	case wire.OpCommitEpoch:
		var r wire.CommitEpoch
		if err := f.Decode(&r); err != nil {
			t.Error(err)
		}
		return "commit " + string(r.Epoch)
	}
	return "other"
}

// success is the answer of a module that does what it is asked.
func success(f wire.Frame) (wire.Op, proto.Message) {
	switch f.Op {
	case wire.OpLoadEpoch:
		return wire.OpAnswer, &wire.EpochLoaded{}
	case wire.OpCommitEpoch:
		return wire.OpAnswer, &wire.EpochCommitted{}
	}
	return wire.OpAnswer, &wire.TranslatedPin{Block: make([]byte, 8), CheckValue: "AAAAAA", Custody: 2}
}

// refusing refuses one kind of operation.
func refusing(op wire.Op, reason fault.Reason) func(wire.Frame) (wire.Op, proto.Message) {
	return func(f wire.Frame) (wire.Op, proto.Message) {
		if f.Op == op {
			return wire.OpFailure, &wire.Failure{Reason: uint32(reason)}
		}
		return success(f)
	}
}

func expect(t *testing.T, what string, m *fakeModule, want ...string) {
	t.Helper()
	if got := m.asked(); !slices.Equal(got, want) {
		t.Errorf("%s: the module was asked %q, want %q", what, got, want)
	}
}

// TestTheEpochComesFirst: a module is asked nothing before it has the epoch.
func TestTheEpochComesFirst(t *testing.T) {
	c := newTestClient(t, time.Minute)
	if err := c.SetEpoch(t.Context(), []byte("e1")); err != nil {
		t.Fatal(err)
	}
	came, loaded := make(chan struct{}), make(chan struct{})
	m, conn := newFake(t, func(f wire.Frame) (wire.Op, proto.Message) {
		if f.Op == wire.OpLoadEpoch {
			close(came)
			<-loaded
		}
		return success(f)
	})
	attached := make(chan struct{})
	go func() {
		defer close(attached)
		c.Attach(0, conn)
	}()
	<-came
	if _, err := c.TranslatePIN(t.Context(), TranslatePIN{}); fault.Of(err).Reason != fault.ModuleUnavailable {
		t.Errorf("before the module has the epoch: %v", err)
	}
	close(loaded)
	<-attached
	if _, err := c.TranslatePIN(t.Context(), TranslatePIN{}); err != nil {
		t.Error(err)
	}
	expect(t, "attached", m, "load e1", "other")
}

// TestAModuleThatRefusesTheEpochIsAttached: it says itself with every refusal what it waits for.
func TestAModuleThatRefusesTheEpochIsAttached(t *testing.T) {
	c := newTestClient(t, time.Minute)
	if err := c.SetEpoch(t.Context(), []byte("e1")); err != nil {
		t.Fatal(err)
	}
	m, conn := newFake(t, refusing(wire.OpLoadEpoch, fault.EpochStale))
	c.Attach(0, conn)
	if c.Attached() != 1 {
		t.Error("it is not attached")
	}
	if err := c.SetEpoch(t.Context(), []byte("e2")); fault.Of(err).Reason != fault.EpochStale {
		t.Errorf("SetEpoch: %v", err)
	}
	expect(t, "refused", m, "load e1", "load e2")
}

// TestSetEpoch tells every module, and the refusal of one hides no other.
func TestSetEpoch(t *testing.T) {
	c := newTestClient(t, time.Minute)
	bad, badConn := newFake(t, refusing(wire.OpLoadEpoch, fault.EpochInvalid))
	good, goodConn := newFake(t, nil)
	c.Attach(0, badConn)
	c.Attach(1, goodConn)
	expect(t, "without an epoch", good)
	if err := c.SetEpoch(t.Context(), []byte("e1")); fault.Of(err).Reason != fault.EpochInvalid {
		t.Errorf("one module refuses: %v", err)
	}
	expect(t, "the one that refuses", bad, "load e1")
	expect(t, "the other", good, "load e1")
	late, lateConn := newFake(t, nil)
	c.Attach(2, lateConn)
	expect(t, "a later one", late, "load e1")
}

// TestCommitEpoch: every module knows an epoch before one pins it.
func TestCommitEpoch(t *testing.T) {
	c := newTestClient(t, time.Minute)
	if _, err := c.CommitEpoch(t.Context(), []byte("e2")); fault.Of(err).Reason != fault.ModuleUnavailable {
		t.Errorf("without a module: %v", err)
	}
	var one, two *fakeModule
	order := func(f wire.Frame) (wire.Op, proto.Message) {
		if f.Op == wire.OpCommitEpoch && (!slices.Contains(one.asked(), "offer e2") || !slices.Contains(two.asked(), "offer e2")) {
			t.Error("it is pinned before every module knows it")
		}
		return success(f)
	}
	one, oneConn := newFake(t, order)
	two, twoConn := newFake(t, order)
	c.Attach(0, oneConn)
	c.Attach(1, twoConn)
	if _, err := c.CommitEpoch(t.Context(), []byte("e2")); err != nil {
		t.Fatal(err)
	}
	all := append(one.asked(), two.asked()...)
	slices.Sort(all)
	if want := []string{"commit e2", "offer e2", "offer e2"}; !slices.Equal(all, want) {
		t.Errorf("the modules were asked %q, want %q", all, want)
	}
	late, lateConn := newFake(t, nil)
	c.Attach(2, lateConn)
	expect(t, "a later one", late, "load e2")
}

func TestCommitEpochThatFails(t *testing.T) {
	for name, k := range map[string]struct {
		answer func(wire.Frame) (wire.Op, proto.Message)
		want   fault.Reason // of CommitEpoch; 0: it succeeds
		asked  []string
		later  string // what a module is told that is attached afterwards
	}{
		"it is none of this token":        {refusing(wire.OpLoadEpoch, fault.EpochInvalid), fault.EpochInvalid, []string{"offer e2"}, "load e1"},
		"another was pinned":              {refusing(wire.OpCommitEpoch, fault.EpochStale), fault.EpochStale, []string{"offer e2", "commit e2"}, "load e1"},
		"a module's own trouble, passing": {refusing(wire.OpLoadEpoch, fault.ModuleUnavailable), 0, []string{"offer e2", "commit e2"}, "load e2"},
	} {
		c := newTestClient(t, time.Minute)
		m, conn := newFake(t, k.answer)
		c.Attach(0, conn)
		if err := c.SetEpoch(t.Context(), []byte("e1")); err != nil && fault.Of(err).Reason != fault.EpochInvalid && fault.Of(err).Reason != fault.ModuleUnavailable {
			t.Fatal(err)
		}
		_, err := c.CommitEpoch(t.Context(), []byte("e2"))
		if (err == nil) != (k.want == 0) || err != nil && fault.Of(err).Reason != k.want {
			t.Errorf("%s: %v", name, err)
		}
		expect(t, name, m, append([]string{"load e1"}, k.asked...)...)
		late, lateConn := newFake(t, nil)
		c.Attach(1, lateConn)
		expect(t, name, late, k.later)
	}
}

// TestAttachedWhileAnEpochIsCommitted: the module comes in between, and has the new epoch
// in the end, whichever of the two is done first.
func TestAttachedWhileAnEpochIsCommitted(t *testing.T) {
	t.Run("while it is brought the old one", func(t *testing.T) {
		c := newTestClient(t, time.Minute)
		_, firstConn := newFake(t, nil)
		c.Attach(0, firstConn)
		if err := c.SetEpoch(t.Context(), []byte("e1")); err != nil {
			t.Fatal(err)
		}
		came, goOn := make(chan struct{}), make(chan struct{})
		second, conn := newFake(t, func(f wire.Frame) (wire.Op, proto.Message) {
			select {
			case <-goOn:
			default:
				close(came)
				<-goOn
			}
			return success(f)
		})
		attached := make(chan struct{})
		go func() {
			defer close(attached)
			c.Attach(1, conn)
		}()
		<-came
		if _, err := c.CommitEpoch(t.Context(), []byte("e2")); err != nil {
			t.Fatal(err)
		}
		close(goOn)
		<-attached
		expect(t, "the second", second, "load e1", "load e2")
	})
	t.Run("while the others are asked", func(t *testing.T) {
		c := newTestClient(t, time.Minute)
		came, goOn := make(chan struct{}), make(chan struct{})
		_, firstConn := newFake(t, func(f wire.Frame) (wire.Op, proto.Message) {
			if f.Op == wire.OpCommitEpoch {
				close(came)
				<-goOn
			}
			return success(f)
		})
		c.Attach(0, firstConn)
		if err := c.SetEpoch(t.Context(), []byte("e1")); err != nil {
			t.Fatal(err)
		}
		committed := make(chan error, 1)
		go func() {
			_, err := c.CommitEpoch(t.Context(), []byte("e2"))
			committed <- err
		}()
		<-came
		second, conn := newFake(t, nil)
		c.Attach(1, conn)
		close(goOn)
		if err := <-committed; err != nil {
			t.Fatal(err)
		}
		expect(t, "the second", second, "load e1", "load e2")
	})
}

// TestAModuleThatMissedTheEpochGetsIt: it could not take a proposal, which then was pinned.
func TestAModuleThatMissedTheEpochGetsIt(t *testing.T) {
	c := newTestClient(t, time.Minute)
	loaded := make(chan struct{})
	m, conn := newFake(t, func(f wire.Frame) (wire.Op, proto.Message) {
		refuse := func(r fault.Reason) (wire.Op, proto.Message) {
			return wire.OpFailure, &wire.Failure{Reason: uint32(r)}
		}
		var load wire.LoadEpoch
		switch {
		case f.Op == wire.OpTranslatePIN:
			return refuse(fault.EpochStale)
		case f.Op != wire.OpLoadEpoch:
		case f.Decode(&load) != nil || load.Proposal:
			return refuse(fault.ModuleUnavailable)
		default:
			close(loaded)
		}
		return success(f)
	})
	c.Attach(0, conn)
	if _, err := c.CommitEpoch(t.Context(), []byte("e2")); err != nil {
		t.Fatal(err)
	}
	for range 3 { // it is reminded once, not each time
		if _, err := c.TranslatePIN(t.Context(), TranslatePIN{}); fault.Of(err).Reason != fault.EpochStale {
			t.Errorf("%v", err)
		}
	}
	<-loaded
	if got := m.asked(); len(got) != 6 || !slices.Contains(got, "load e2") {
		t.Errorf("the module was asked %q", got)
	}
}

// TestAChannelThatDiesAtOnce is not among the modules that are asked.
func TestAChannelThatDiesAtOnce(t *testing.T) {
	for name, epoch := range map[string][]byte{"without an epoch": nil, "with an epoch to bring": []byte("e1")} {
		c := newTestClient(t, time.Minute)
		if epoch != nil {
			if err := c.SetEpoch(t.Context(), epoch); err != nil {
				t.Fatal(err)
			}
		}
		for range 50 {
			ours, theirs := net.Pipe()
			_ = theirs.Close()
			c.Attach(0, ours)
			deadline := time.Now().Add(10 * time.Second)
			for c.Attached() != 0 {
				if time.Now().After(deadline) {
					t.Fatalf("%s: a dead channel stays", name)
				}
				time.Sleep(time.Millisecond)
			}
		}
	}
}

// TestWhatOfficersAskCrosses: requests and answers are whole on the other side.
func TestWhatOfficersAskCrosses(t *testing.T) {
	key := func(name string) *wire.SealedKey {
		return &wire.SealedKey{Name: name, Sealed: []byte("sealed " + name)}
	}
	inputs := &wire.KeyInputs{Under: key("under"), Target: key("target")}
	signed := &wire.Signed{Document: []byte("document"), Signature: []byte("signature")}
	answers := map[wire.Op]struct{ request, answer proto.Message }{
		wire.OpFirstEpoch:    {&wire.FirstEpoch{}, &wire.EpochDocument{Epoch: []byte("first")}},
		wire.OpGetIdentity:   {&wire.GetIdentity{}, &wire.IdentityDocument{Identity: signed}},
		wire.OpBeginCeremony: {&wire.BeginCeremony{Definition: []byte("definition"), Statement: signed, Keys: inputs}, &wire.CeremonyOpened{Opening: signed}},
		wire.OpCheckCeremony: {&wire.CheckCeremony{Papers: []byte("papers"), Keys: inputs}, &wire.CeremonyChecked{CheckValue: "08D7B4"}},
		wire.OpCarryOut: {&wire.CarryOutCeremony{Papers: []byte("papers"), Keys: inputs},
			&wire.CeremonyCarriedOut{Epoch: []byte("next"), Key: key("new"), Block: "D0016", Record: signed}},
		wire.OpAbortCeremony: {&wire.AbortCeremony{Papers: []byte("papers"), Statement: signed}, &wire.EpochDocument{Epoch: []byte("next")}},
	}
	_, conn := newFake(t, func(f wire.Frame) (wire.Op, proto.Message) {
		k := answers[f.Op]
		got := k.request.ProtoReflect().New().Interface()
		if err := f.Decode(got); err != nil || !proto.Equal(got, k.request) {
			t.Errorf("op %d: %v, %v", f.Op, got, err)
		}
		return wire.OpAnswer, k.answer
	})
	c := newTestClient(t, time.Minute)
	c.Attach(0, conn)
	ctx := context.Background()
	given := KeyInputs{Under: &Key{Name: "under", Sealed: []byte("sealed under")}, Target: &Key{Name: "target", Sealed: []byte("sealed target")}}
	paper := Signed{Document: []byte("document"), Signature: []byte("signature")}
	same := func(s Signed) bool { return string(s.Document) == "document" && string(s.Signature) == "signature" }
	if e, err := c.FirstEpoch(ctx); err != nil || string(e) != "first" {
		t.Errorf("%q, %v", e, err)
	}
	if s, err := c.Identity(ctx); err != nil || !same(s) {
		t.Errorf("%v, %v", s, err)
	}
	if s, err := c.BeginCeremony(ctx, BeginCeremony{Definition: []byte("definition"), Statement: paper, Keys: given}); err != nil || !same(s) {
		t.Errorf("%v, %v", s, err)
	}
	if v, err := c.CheckCeremony(ctx, Ceremony{Papers: []byte("papers"), Keys: given}); err != nil || v != "08D7B4" {
		t.Errorf("%v, %v", v, err)
	}
	out, err := c.CarryOut(ctx, Ceremony{Papers: []byte("papers"), Keys: given})
	if err != nil || string(out.Epoch) != "next" || out.Key == nil || out.Key.Name != "new" || string(out.Key.Sealed) != "sealed new" || out.Block != "D0016" || !same(out.Record) {
		t.Errorf("%+v, %v", out, err)
	}
	if e, err := c.AbortCeremony(ctx, []byte("papers"), paper); err != nil || string(e) != "next" {
		t.Errorf("%q, %v", e, err)
	}
}
