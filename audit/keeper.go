package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"keyd/checkpoint"
	"keyd/fault"
)

// Signer signs checkpoints: the modules, which sign only what follows their last.
type Signer interface {
	// LastCheckpoint returns the tree of a log that was signed last; of size 0 if none was.
	LastCheckpoint(ctx context.Context, origin string) (checkpoint.Tree, error)

	// SignCheckpoint signs a tree, with the proof that it follows the last one.
	SignCheckpoint(ctx context.Context, origin string, t checkpoint.Tree, proof []checkpoint.Hash) (*checkpoint.Signed, error)
}

const (
	// CheckpointInterval is how often a checkpoint is made while there are new entries.
	CheckpointInterval = time.Minute
	// CheckpointEntries is after how many new entries one is made in any case.
	CheckpointEntries = 100_000

	lookInterval  = time.Second
	againInterval = 10 * time.Second // after one that could not be made
)

// Signing is how it stands with checkpoints.
type Signing struct {
	Made, Failed uint64    // since the start
	At           time.Time // when the newest was made, or the log was opened
	Size         uint64    // entries that the newest covers
	Uncovered    uint64    // entries behind it
	Failing      string    // why none can be made; empty if all is well
	Lost         bool      // the modules remembered nothing of this log although it had checkpoints
}

// Signing says how it stands with checkpoints.
func (l *Log) Signing() Signing {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.signing
	if l.newest != nil {
		s.Size = l.newest.Size
	}
	s.Uncovered = l.head.Seq - min(s.Size, l.head.Seq)
	return s
}

// Keeper has the modules sign checkpoints of a log. One goroutine uses it at a time.
type Keeper struct {
	log    *Log
	signer Signer
	out    *slog.Logger
	next   time.Time // before which none is made, but for many new entries
}

// NewKeeper returns a keeper of an open log.
func NewKeeper(l *Log, s Signer, out *slog.Logger) *Keeper {
	return &Keeper{log: l, signer: s, out: out}
}

// last returns what the modules have signed last, once the log is compared with it. [ErrCut] says
// that it is not that log any more: nothing is written to it from then on.
func (k *Keeper) last(ctx context.Context) (checkpoint.Tree, error) {
	last, err := k.signer.LastCheckpoint(ctx, k.log.origin)
	if err != nil {
		return last, err
	}
	if err := k.log.Compare(last); err != nil {
		if errors.Is(err, ErrCut) {
			k.log.Refuse(err)
		}
		return last, err
	}
	return last, nil
}

// Run makes checkpoints until ctx ends: at once, then after [CheckpointInterval] while there are
// new entries, and after [CheckpointEntries] of them. One that cannot be made is tried again;
// the service goes on.
func (k *Keeper) Run(ctx context.Context, limit time.Duration) {
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	for {
		if k.due(time.Now()) {
			attempt, cancel := context.WithTimeout(ctx, limit)
			err := k.Make(attempt)
			cancel()
			pause := CheckpointInterval
			if err != nil {
				pause = againInterval
			}
			k.next = time.Now().Add(pause)
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

func (k *Keeper) due(now time.Time) bool {
	s := k.log.Signing()
	return s.Uncovered > 0 && !now.Before(k.next) || s.Uncovered >= CheckpointEntries && s.Failing == ""
}

// Make makes a checkpoint of the log as it is, unless there is one. [ErrCut] says that the log is
// not the one of which the modules have signed checkpoints: nothing is written to it from then
// on. After any other error it may be tried again.
func (k *Keeper) Make(ctx context.Context) (err error) {
	defer func() {
		if err == nil || ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return
		}
		why := reasonOf(err)
		k.log.mu.Lock()
		before := k.log.signing.Failing
		k.log.signing.Failing = why
		k.log.signing.Failed++
		k.log.mu.Unlock()
		if why != before { // once for each cause
			k.out.Error("no checkpoint of the audit log can be made", "cause", why, "error", err)
		}
	}()
	last, err := k.last(ctx)
	if err != nil {
		return err
	}
	now := k.log.Tree()
	newest := k.log.Checkpoint()
	if newest != nil && newest.Tree == now && last == now {
		return nil
	}
	proof, err := k.log.Consistency(last.Size, now.Size)
	if err != nil {
		return err
	}
	signed, err := k.signer.SignCheckpoint(ctx, k.log.origin, now, proof)
	if err != nil {
		return err
	}
	if err := k.log.AddCheckpoint(signed.Checkpoint, signed.Key); err != nil {
		return err
	}
	lost := signed.Began && newest != nil
	k.log.mu.Lock()
	k.log.signing.Made++
	k.log.signing.At, k.log.signing.Failing = time.Now(), ""
	k.log.signing.Lost = k.log.signing.Lost || lost
	k.log.mu.Unlock()
	if !signed.Began {
		return nil
	}
	detail := fmt.Sprintf("the modules begin to remember checkpoints of this log, with that of entry %d", signed.Size)
	if lost {
		detail = fmt.Sprintf("the modules remembered no checkpoint of this log, whose newest was of entry %d: their file is new or was lost, and they believe the log from entry %d on", newest.Size, signed.Size)
		k.out.Warn("the modules remembered no checkpoint of the audit log: their file is new or was lost", "newest", newest.Size, "now", signed.Size)
	}
	return k.log.Append(ctx, Entry{Method: "AuditLog/Checkpoint", Decision: Event, Detail: detail})
}

// reasonOf is a cause as an operator may read it.
func reasonOf(err error) string {
	var refusal *fault.Error
	if errors.As(err, &refusal) && refusal.Reason != fault.Internal {
		return refusal.Error()
	}
	return err.Error()
}
