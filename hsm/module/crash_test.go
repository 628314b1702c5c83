package module

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/store"
)

// The power goes at every write that a ceremony makes: in the database and in the token,
// before the write and after it. A front that starts on what is left finds either nothing of
// it or all of it, and the officers can go on.

// office is a front's part in ceremonies, over a real database and a real module.
type office struct {
	*siege
	path     string
	database *store.SQLite
	client   *hsm.Client
	front    *keys.Ceremonies
	failing  *failing
	node     string // of a fleet
}

// failing is where the power goes: at the n-th write, counted from 0, before it is done or
// after. A front that is dead does nothing more.
type failing struct {
	store.Store
	at    int
	after bool
	count int
	dead  bool
}

var errPower = errors.New("the power is gone")

func (f *failing) write(do func() error) error {
	if f.dead {
		return errPower
	}
	n := f.count
	f.count++
	if n != f.at {
		return do()
	}
	f.dead = true
	if f.after {
		if err := do(); err != nil {
			return err
		}
	}
	return errPower
}

func (f *failing) AddCeremony(ctx context.Context, r store.CeremonyRecord) error {
	return f.write(func() error { return f.Store.AddCeremony(ctx, r) })
}

func (f *failing) UpdateCeremony(ctx context.Context, r store.CeremonyRecord) error {
	return f.write(func() error { return f.Store.UpdateCeremony(ctx, r) })
}

func (f *failing) AdoptEpoch(ctx context.Context, version uint64, sealed []byte) error {
	return f.write(func() error { return f.Store.AdoptEpoch(ctx, version, sealed) })
}

func (f *failing) ProposeEpoch(ctx context.Context, node string, version uint64, sealed []byte, change store.Change) error {
	return f.write(func() error { return f.Store.ProposeEpoch(ctx, node, version, sealed, change) })
}

func (f *failing) AdvanceEpoch(ctx context.Context, version uint64, sealed, link []byte) error {
	return f.write(func() error { return f.Store.AdvanceEpoch(ctx, version, sealed, link) })
}

func (f *failing) WithdrawEpoch(ctx context.Context, version uint64, sealed []byte) error {
	return f.write(func() error { return f.Store.WithdrawEpoch(ctx, version, sealed) })
}

func (f *failing) ReplaceSealed(ctx context.Context, name string, version uint32, old, fresh []byte) error {
	return f.write(func() error { return f.Store.ReplaceSealed(ctx, name, version, old, fresh) })
}

// powered is the modules as a front sees them that may die at a write of theirs.
type powered struct {
	*hsm.Client
	f *failing
}

func (p powered) CommitEpoch(ctx context.Context, epoch []byte) (link []byte, err error) {
	err = p.f.write(func() (err error) { link, err = p.Client.CommitEpoch(ctx, epoch); return err })
	return link, err
}

func (p powered) FollowEpoch(ctx context.Context, epoch []byte, links [][]byte) error {
	return p.f.write(func() error { return p.Client.FollowEpoch(ctx, epoch, links) })
}

func (p powered) BeginCeremony(ctx context.Context, r hsm.BeginCeremony) (opening hsm.Signed, err error) {
	err = p.f.write(func() (err error) { opening, err = p.Client.BeginCeremony(ctx, r); return err }) // makes a key pair
	return opening, err
}

// newOffice is a front on an empty database, beside the module of a siege.
func newOffice(t testing.TB) *office {
	t.Helper()
	o := &office{siege: besiege(t), path: filepath.Join(t.TempDir(), "keyd.db")}
	o.start(-1, false)
	t.Cleanup(func() { o.stop() })
	return o
}

// start starts a front for which the power goes at a write; -1 for none.
func (o *office) start(at int, after bool) {
	o.t.Helper()
	var err error
	o.database, err = store.OpenSQLite(context.Background(), o.path)
	o.must(err)
	front, back := net.Pipe()
	o.server.attach(back)
	o.client = hsm.NewClient(10*time.Second, slog.New(slog.NewTextHandler(io.Discard, nil)))
	o.client.Attach(0, front)
	o.failing = &failing{Store: o.database, at: at, after: after}
	o.front = keys.NewCeremonies(o.failing, keys.New(o.database), powered{o.client, o.failing})
	o.front.Node = o.node
}

func (o *office) stop() {
	o.client.Close()
	if err := o.database.Close(); err != nil {
		o.t.Error(err)
	}
}

// restart has another front follow one that died.
func (o *office) restart() {
	o.t.Helper()
	o.stop()
	o.start(-1, false)
	o.must(o.front.Settle(o.t.Context()))
}

func identityOf(officer string) string { return "spiffe://bank.example/" + officer }

// through carries a definition through, and stops where the power goes. It goes on with a
// ceremony that is open already.
func (o *office) through(d *ceremony.Definition, components ...string) error {
	ctx := o.t.Context()
	if err := o.front.Settle(ctx); err != nil {
		return err
	}
	encoded, err := ceremony.Encode(d)
	o.must(err)
	list, _, err := o.front.List(ctx, store.CeremonyOpen, time.Time{}, "", 10)
	if err != nil {
		return err
	}
	var cer *keys.Ceremony
	if len(list) > 0 {
		cer = list[0]
	} else {
		wish := o.sign("alice", ceremony.Statement{Action: ceremony.Begin, Definition: ceremony.Digest(encoded)})
		if cer, err = o.front.Begin(ctx, identityOf("alice"), encoded, wish); err != nil {
			return err
		}
	}
	names := []string{"alice", "bob", "carol"}
	for i := len(cer.Papers.Submissions); i < len(components); i++ {
		if cer, err = o.front.Submit(ctx, identityOf(names[i]), cer.ID, o.component(cer.Papers, names[i], i+1, components[i])); err != nil {
			return err
		}
	}
	need := cer.Missing.Approvals
	for i := len(cer.Papers.Approvals); need > 0; i, need = i+1, need-1 {
		if cer, err = o.front.Approve(ctx, identityOf(names[i]), cer.ID, o.approval(cer.Papers, names[i], cer.CheckValue)); err != nil {
			return err
		}
	}
	if cer.State != store.CeremonyCompleted {
		o.t.Errorf("after all papers the ceremony is %s", cer.State)
	}
	return nil
}

// usable asks the module to use a key as the database has it.
func (o *office) usable(name string, version uint32) error {
	r, err := o.database.Version(o.t.Context(), name, version)
	if err != nil {
		return err
	}
	return o.use(hsm.Key{Name: name, Sealed: r.Sealed})
}

// use has the module encipher with a data key.
func (o *office) use(k hsm.Key) error {
	_, err := o.client.EncryptData(o.t.Context(), hsm.EncryptData{Key: hsm.DataKey{Key: k, Mode: hsm.CBC}, Data: make([]byte, 16), IV: make([]byte, 8)})
	return err
}

// TestThePowerGoesAtEveryWrite carries a load, a rotation and a deletion through a
// front that dies at one write after the other.
func TestThePowerGoesAtEveryWrite(t *testing.T) {
	type step struct {
		what       string
		definition *ceremony.Definition
		components []string
		holds      func(o *office) error // what is true once it was carried out
		before     func(o *office) error // and what is true until then
	}
	dataKey := func(version uint32) *ceremony.KeySpec {
		return zone("d", data, func(k *ceremony.KeySpec) { k.Version = version })
	}
	want := func(err error, reason fault.Reason) error {
		if err == nil || fault.Of(err).Reason != reason {
			return fmt.Errorf("got %v, want %v", err, reason)
		}
		return nil
	}
	missing := func(err error) error {
		if !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("got %v, want no such key", err)
		}
		return nil
	}
	load := loading(dataKey(1))
	load.ValidFor = 3600
	rotate := loading(dataKey(2))
	rotate.ValidFor, rotate.Overlap = 3600, 600
	target := &ceremony.KeyRef{Name: "d", Version: 1}
	for _, s := range []step{
		{"load", load, []string{componentA, componentB},
			func(o *office) error { return o.usable("d", 1) },
			func(o *office) error { return missing(o.usable("d", 1)) }},
		{"rotation", rotate, []string{"0123456789ABCDEFFEDCBA9876543210", "1111111111111111222222222222222A"},
			func(o *office) error { return errors.Join(o.usable("d", 2), o.usable("d", 1)) },
			func(o *office) error { return errors.Join(missing(o.usable("d", 2)), o.usable("d", 1)) }},
		{"deletion", &ceremony.Definition{Kind: ceremony.Delete, Target: target, Wait: ceremony.MinWait, ValidFor: 3600}, nil,
			func(o *office) error { return want(o.usable("d", 1), fault.KeyDisabled) },
			nil},
	} {
		t.Run(s.what, func(t *testing.T) {
			writes := 0
			for at := 0; ; at++ {
				ended := false
				for _, after := range []bool{false, true} {
					o := newOffice(t)
					if s.definition != load {
						o.must(o.through(load, componentA, componentB))
					}
					o.must(o.front.Settle(t.Context()))
					o.stop()
					o.start(at, after)
					err := o.through(s.definition, s.components...)
					if err == nil && !o.failing.dead {
						ended = true
						o.must(s.holds(o))
						continue
					}
					if err == nil {
						t.Errorf("write %d (after it: %t): success was reported past a loss of power", at, after)
					}
					writes++
					o.restart()
					if done := s.holds(o); done != nil && s.before != nil {
						if undone := s.before(o); undone != nil {
							t.Errorf("write %d (after it: %t): neither done (%v) nor not done (%v)", at, after, done, undone)
						}
					}
					// The officers go on: with the ceremony where it stands, or with another one.
					if err := o.through(s.definition, s.components...); err != nil && s.holds(o) != nil {
						t.Errorf("write %d (after it: %t): the officers cannot go on: %v", at, after, err)
					}
					if err := s.holds(o); err != nil {
						t.Errorf("write %d (after it: %t): in the end %v", at, after, err)
					}
				}
				if ended {
					break
				}
			}
			if writes < 6 {
				t.Errorf("the power went at %d writes only", writes)
			}
		})
	}
}
