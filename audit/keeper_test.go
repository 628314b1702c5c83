package audit

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"keyd/checkpoint"
	"keyd/fault"
)

// remembering signs as modules do: what follows the last. The modules have tests of their own.
type remembering struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	last checkpoint.Tree
	away error
}

func (r *remembering) LastCheckpoint(context.Context, string) (checkpoint.Tree, error) {
	return r.last, r.away
}

func (r *remembering) SignCheckpoint(_ context.Context, origin string, next checkpoint.Tree, proof []checkpoint.Hash) (*checkpoint.Signed, error) {
	if r.away != nil {
		return nil, r.away
	}
	if err := next.Follows(r.last, proof); err != nil {
		return nil, err
	}
	began := r.last.Size == 0
	r.last = next
	return &checkpoint.Signed{Checkpoint: signature(r.t, origin, next, r.key), Key: &r.key.PublicKey, Began: began}, nil
}

func keeper(l *Log, s Signer) *Keeper {
	return NewKeeper(l, s, slog.New(slog.NewTextHandler(io.Discard, nil)))
}

func TestKeeper(t *testing.T) {
	dir := newDir(t)
	l := openLog(t, dir)
	modules := &remembering{t: t, key: newKey(t)}
	k := keeper(l, modules)
	fill(t, l, 2)
	if err := k.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	// That they begin is an entry, which the next one covers.
	if s := l.Signing(); s.Made != 1 || s.Size != 3 || s.Uncovered != 1 || s.Lost || s.Failing != "" {
		t.Errorf("%+v", s)
	}
	fill(t, l, 5)
	if err := k.Make(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := l.Signing(); s.Made != 2 || s.Uncovered != 0 || modules.last != l.Tree() {
		t.Errorf("%+v", s)
	}
	if err := k.Make(t.Context()); err != nil || l.Signing().Made != 2 {
		t.Errorf("without a new entry: %+v, %v", l.Signing(), err)
	}
	// No module: nothing is made, and the log goes on.
	modules.away = fault.New(fault.ModuleUnavailable, "")
	fill(t, l, 1)
	if err := k.Make(t.Context()); fault.Of(err).Reason != fault.ModuleUnavailable {
		t.Error(err)
	}
	if s := l.Signing(); s.Failed != 1 || !strings.Contains(s.Failing, "no security module") || s.Uncovered != 1 || l.Err() != nil {
		t.Errorf("%+v, %v", s, l.Err())
	}
	modules.away = nil
	if err := k.Make(t.Context()); err != nil || l.Signing().Failing != "" {
		t.Errorf("%+v, %v", l.Signing(), err)
	}
	// They have signed what this front did not get: the log catches up with it.
	fill(t, l, 3)
	modules.last = l.Tree()
	if err := k.Make(t.Context()); err != nil || l.Checkpoint().Tree != modules.last {
		t.Error(err)
	}
	// They have forgotten everything.
	modules.last = checkpoint.Tree{}
	fill(t, l, 1)
	if err := k.Make(t.Context()); err != nil || !l.Signing().Lost {
		t.Errorf("%+v, %v", l.Signing(), err)
	}
	if records, err := Tail(dir, 1); err != nil || !strings.Contains(records[0].Detail, "remembered no checkpoint") {
		t.Errorf("%+v, %v", records, err)
	}
	// They have signed more than there is, or something else: nothing is written any more.
	for name, signed := range map[string]checkpoint.Tree{"more": {Size: 1000}, "something else": {Size: 3}} {
		l := openLog(t, newDir(t))
		fill(t, l, 5)
		k := keeper(l, &remembering{t: t, key: modules.key, last: signed})
		if err := k.Make(t.Context()); !errors.Is(err, ErrCut) {
			t.Errorf("%s: %v", name, err)
		}
		if err := l.Append(t.Context(), sample()); !errors.Is(err, ErrUnwritable) || !errors.Is(err, ErrCut) {
			t.Errorf("%s: it is written to: %v", name, err)
		}
	}
}

// Checkpoints are made at once, once a minute while something comes, soon where very much
// comes, and again soon where one could not be made.
func TestKeeperIsOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &Log{}
		k := keeper(l, nil)
		now := time.Now()
		l.head.Seq = 1
		if !k.due(now) {
			t.Error("not at once")
		}
		k.next = now.Add(CheckpointInterval)
		if k.due(now.Add(CheckpointInterval - 1)) {
			t.Error("too early")
		}
		if !k.due(now.Add(CheckpointInterval)) {
			t.Error("too late")
		}
		l.head.Seq = CheckpointEntries
		if !k.due(now) {
			t.Error("not after many entries")
		}
		l.signing.Failing = "x"
		if k.due(now) {
			t.Error("again and again")
		}
		l.head.Seq, l.signing.Failing = 0, ""
		if k.due(now.Add(time.Hour)) {
			t.Error("without an entry")
		}
	})
}
