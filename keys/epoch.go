package keys

import (
	"context"
	"errors"
	"fmt"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/store"
)

// Settle brings the modules the epoch that the token has pinned, after a start: the
// database's, the one that was proposed when a process died, or the token's first. It is
// called when a module is attached, and can be called again.
//
// Where the database is ahead, because the tokens of other nodes went on, the token follows
// them. Where nothing leads from the pinned epoch to the database's, the database is of another
// token or was put back: [fault.EpochStale] or [fault.EpochInvalid]. No operation is carried
// out then.
func (c *Ceremonies) Settle(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.inForce.Load(); c.settled && c.Node != "" && e != nil {
		// A node that shares the token may have pinned another one, and died before it said so.
		if pinned, err := c.modules.Pinned(ctx); err == nil && pinned > e.Version {
			c.settled = false
		}
	}
	return c.settle(ctx)
}

func (c *Ceremonies) settle(ctx context.Context) error {
	if c.settled {
		return nil
	}
	current, err := c.store.CurrentEpoch(ctx)
	switch {
	case errors.Is(err, store.ErrNotFound):
		if current, err = c.adopt(ctx); err != nil {
			return err
		}
	case err != nil:
		return unavailable(ctx, err)
	}
	restored, err := c.store.Restored(ctx)
	if err != nil {
		return unavailable(ctx, err)
	}
	c.noteRestored(restored, current)
	proposal, err := c.store.ProposedEpoch(ctx)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return unavailable(ctx, err)
	}
	proposed := err == nil
	own := proposed && proposal.Node == c.Node
	refusal := c.modules.SetEpoch(ctx, current.Sealed)
	switch {
	case refusal == nil && own:
		// The power went before the token was told, or while it was. The officers have
		// decided: it is done now.
		return c.commit(ctx, proposal)
	case refusal == nil:
		// What another node has proposed is for that node to commit.
		return c.take(current.Sealed)
	case fault.Of(refusal).Reason != fault.EpochStale:
		return refusal
	}
	// It went after the token was told, of this node or of one that shares the token; or
	// before, when a new token takes over this register.
	if proposed && (c.modules.SetEpoch(ctx, proposal.Sealed) == nil || own) {
		return c.commit(ctx, proposal)
	}
	followed, err := c.follow(ctx, current)
	if err != nil {
		return err
	}
	if !followed {
		return c.wait(ctx, current, refusal)
	}
	return c.take(current.Sealed)
}

// noteRestored keeps whether officers have to accept what a backup has brought back.
func (c *Ceremonies) noteRestored(restored bool, current store.Epoch) {
	if restored {
		c.restored.Store(&current)
	} else {
		c.restored.Store(nil)
	}
	c.inventory.SetRestored(restored)
}

// commit pins a proposal, unless it is, and has it take effect.
func (c *Ceremonies) commit(ctx context.Context, p store.Proposal) error {
	link, err := c.modules.CommitEpoch(ctx, p.Sealed)
	if err != nil {
		return c.withdraw(ctx, p.Epoch, err)
	}
	return c.advance(ctx, p.Epoch, link)
}

// wait has a new token go by its own first register, where the database has the one of a
// token whose place it takes: officers can then have it take that one over. The register in
// the database stays.
func (c *Ceremonies) wait(ctx context.Context, other store.Epoch, refusal error) error {
	first, err := c.modules.FirstEpoch(ctx)
	if err != nil || len(first) == 0 {
		return refusal
	}
	if c.modules.SetEpoch(ctx, first) != nil {
		return refusal
	}
	if err := c.take(first); err != nil {
		return err
	}
	c.waiting.Store(&other)
	return nil
}

// adopt takes in the first epoch of a token, which the token itself keeps until another one
// follows.
func (c *Ceremonies) adopt(ctx context.Context) (store.Epoch, error) {
	first, err := c.modules.FirstEpoch(ctx)
	if err != nil {
		return store.Epoch{}, err
	}
	if len(first) == 0 {
		return store.Epoch{}, fault.New(fault.EpochStale, "the database has no register of officers and keys, and the token's is not the first: this is not its database")
	}
	e, err := ceremony.ParseEpoch(first)
	if err != nil {
		return store.Epoch{}, fault.New(fault.EpochInvalid, "")
	}
	if err := c.store.AdoptEpoch(ctx, e.Version, first); err != nil {
		return store.Epoch{}, unavailable(ctx, err)
	}
	return store.Epoch{Version: e.Version, Sealed: first}, nil
}

// take notes that an epoch is in force.
func (c *Ceremonies) take(sealed []byte) error {
	e, err := ceremony.ParseEpoch(sealed)
	if err != nil {
		return fault.New(fault.EpochInvalid, "")
	}
	c.inForce.Store(e)
	c.document = ceremony.Digest(sealed)
	c.waiting.Store(nil)
	c.settled = true
	return nil
}

// advance has a pinned proposal take effect.
func (c *Ceremonies) advance(ctx context.Context, e store.Epoch, link []byte) error {
	c.settled = false
	proposal, err := c.store.ProposedEpoch(ctx)
	if err != nil {
		return unavailable(ctx, err)
	}
	err = c.store.AdvanceEpoch(ctx, e.Version, e.Sealed, link)
	c.inventory.Forget(proposal.Change.Names()...)
	if err != nil {
		return unavailable(ctx, err)
	}
	c.noteRestored(false, e)
	return c.take(e.Sealed)
}

// withdraw gives a proposal up that the token refuses for good. Where it may have been
// pinned, it stays until [Ceremonies.Settle] finds out.
func (c *Ceremonies) withdraw(ctx context.Context, proposal store.Epoch, refusal error) error {
	c.settled = false
	switch fault.Of(refusal).Reason {
	case fault.EpochStale, fault.EpochInvalid:
		// Another one may have taken its place meanwhile, which is not this node's to withdraw.
		err := c.store.WithdrawEpoch(ctx, proposal.Version, proposal.Sealed)
		if err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
			return unavailable(ctx, err)
		}
	}
	return refusal
}

// change makes the next epoch and has it take effect, one at a time. Make returns the
// proposed epoch and what changes with it. Where another node was first, it is made once more
// of what that one has left.
func (c *Ceremonies) change(ctx context.Context, make func(*ceremony.Epoch) ([]byte, *store.Change, error)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	next, err := c.propose(ctx, make)
	if errors.Is(err, store.ErrConflict) {
		next, err = c.propose(ctx, make)
	}
	switch {
	case errors.Is(err, store.ErrConflict):
		return fault.New(fault.Conflict, "another ceremony is being carried out: send it again")
	case err != nil:
		return err
	}
	// From here on the caller's patience counts no longer.
	return c.commit(context.WithoutCancel(ctx), store.Proposal{Epoch: next})
}

// propose keeps the next epoch as a proposal. The error is [store.ErrConflict] where another
// node was first.
func (c *Ceremonies) propose(ctx context.Context, make func(*ceremony.Epoch) ([]byte, *store.Change, error)) (next store.Epoch, err error) {
	if err := c.settle(ctx); err != nil {
		return next, err
	}
	sealed, change, err := make(c.inForce.Load())
	if err != nil {
		return next, err
	}
	proposed, err := ceremony.ParseEpoch(sealed)
	if err != nil {
		return next, fault.Wrap(fault.Internal, errors.New("a module proposed what is no register"))
	}
	next = store.Epoch{Version: proposed.Version, Sealed: sealed}
	err = c.store.ProposeEpoch(ctx, c.Node, next.Version, next.Sealed, *change)
	switch {
	case err == nil:
	case errors.Is(err, store.ErrExists):
		return next, fault.New(fault.KeyExists, "an alias has the key's name: delete it first")
	case errors.Is(err, store.ErrConflict):
		c.settled = false
		return next, err
	default:
		c.settled = false
		return next, unavailable(ctx, err)
	}
	return next, nil
}

// carryOut has a ceremony carried out whose papers are complete.
func (c *Ceremonies) carryOut(ctx context.Context, cer *Ceremony) error {
	request, err := c.request(ctx, cer)
	if err != nil {
		return err
	}
	if cer.Kind == ceremony.Retire {
		if err := c.readyToRetire(ctx); err != nil {
			return err
		}
	}
	if cer.Kind == ceremony.Join {
		return c.join(ctx, cer, request)
	}
	return c.change(ctx, func(*ceremony.Epoch) ([]byte, *store.Change, error) {
		out, err := c.modules.CarryOut(ctx, request)
		if err != nil {
			return nil, nil, err
		}
		record := ceremony.Signed(out.Record)
		cer.State, cer.Record, cer.Block = store.CeremonyCompleted, &record, out.Block
		sealed, change, err := c.changeOf(cer, out.Epoch)
		if err == nil && out.Key != nil {
			err = c.bringIn(change, out.Key)
		}
		return sealed, change, err
	})
}

// changeOf returns a change with the ceremony in it.
func (c *Ceremonies) changeOf(cer *Ceremony, sealed []byte) ([]byte, *store.Change, error) {
	record, err := cer.record()
	if err != nil {
		return nil, nil, err
	}
	change := &store.Change{Ceremony: &record}
	if cer.State != store.CeremonyCompleted {
		return sealed, change, nil
	}
	d, err := ceremony.Decode[ceremony.Definition](cer.Papers.Definition, ceremony.MaxDocument)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Internal, err)
	}
	if t := d.Target; t != nil {
		switch d.Kind {
		case ceremony.Stop, ceremony.Delete, ceremony.Restore:
			change.States = append(change.States, store.StateChange{Name: t.Name, Version: t.Version, State: store.Disabled})
		case ceremony.Start:
			change.States = append(change.States, store.StateChange{Name: t.Name, Version: t.Version, State: store.Enabled})
		}
	}
	return sealed, change, nil
}

// bringIn adds a key that has come to be.
func (c *Ceremonies) bringIn(change *store.Change, key *hsm.Key) error {
	s, err := hsm.ParseSealed(key.Sealed)
	if err != nil || s.Header.Name != key.Name {
		return fault.Wrap(fault.Internal, fmt.Errorf("a module made a key that is not %q", key.Name))
	}
	change.Keys = append(change.Keys, store.KeyRecord{
		Name: key.Name, Version: s.Header.Version, State: store.Enabled, Sealed: key.Sealed, CreatedAt: c.clock(),
	})
	return nil
}
