package terminals

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"keyd/fault"
	"keyd/store"
)

// MaxReason is the length of the longest reason for a change, in bytes.
const MaxReason = 256

// Inventory is the terminals in a database. It is safe for concurrent use, also by several
// processes, and remembers nothing but parsed revocation lists.
type Inventory struct {
	store       store.Terminals
	authorities Authorities
	revocations revocations
	clock       func() time.Time
}

// Store is what an inventory keeps in the database, or goes by.
type Store interface {
	store.Terminals
	store.KeySets // revocation lists
}

// New returns the inventory over a store.
func New(s Store, a Authorities) *Inventory {
	return &Inventory{store: s, authorities: a, revocations: revocations{store: s, loading: make(chan struct{}, 1)}, clock: time.Now}
}

// Register adds a terminal for actor. One that is there with the same content, and in no final
// state, is left as it is, and unchanged is true. With validateOnly everything is checked and
// nothing kept; another may take the identifier or the public key meanwhile.
//
// Its refusals are [fault.RequestInvalid], those of certificates, [fault.TerminalExists] and
// [fault.PublicKeyKnown].
func (v *Inventory) Register(ctx context.Context, actor string, r Registration, validateOnly bool) (t *Terminal, unchanged bool, err error) {
	if err := r.check(); err != nil {
		return nil, false, err
	}
	now := v.now()
	record := store.TerminalRecord{
		ID: r.ID, Owner: r.Owner, Model: r.Model, Serial: r.Serial, Site: r.Site, State: store.TerminalRegistered,
		Revision: 1, RegisteredAt: now, ChangedAt: now,
	}
	if len(r.Certificates) > 0 {
		checked, err := v.verify(ctx, r.Certificates, now)
		if err != nil {
			return nil, false, err
		}
		record.Certificates, record.PublicKey = checked.der, checked.publicKey[:]
	}
	if there, err := v.there(ctx, &record); there != nil || err != nil {
		return there, true, err
	}
	if validateOnly {
		t, err = terminal(&record)
		return t, false, err
	}
	err = v.store.AddTerminal(ctx, record, store.TerminalEvent{Kind: EventRegistered, Actor: actor, Detail: certificateDetail(&record), At: now})
	if errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrConflict) { // somebody else was quicker
		if there, err := v.there(ctx, &record); there != nil || err != nil {
			return there, true, err
		}
	}
	if err != nil {
		return nil, false, refused(ctx, err)
	}
	t, err = terminal(&record)
	return t, false, err
}

// there returns the terminal that is registered with the same content, nil where neither its
// identifier nor its public key is known, and a refusal where one is otherwise.
func (v *Inventory) there(ctx context.Context, r *store.TerminalRecord) (*Terminal, error) {
	found, err := v.store.Terminal(ctx, r.ID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, v.keyIsFree(ctx, r)
	case err != nil:
		return nil, refused(ctx, err)
	case found.Owner != r.Owner: // whose operators this caller need not be one of
		return nil, fault.New(fault.TerminalExists, "")
	case found.State.Final():
		return nil, fault.New(fault.TerminalExists, "it is "+word(found.State)+", and never comes back")
	case found.Model != r.Model || found.Serial != r.Serial || found.Site != r.Site:
		return nil, fault.New(fault.TerminalExists, "model, serial number or site differ")
	case !bytes.Equal(found.Certificates, r.Certificates):
		return nil, fault.New(fault.TerminalExists, "its certificate is another")
	}
	return terminal(&found)
}

// keyIsFree refuses a public key that another terminal has or had.
func (v *Inventory) keyIsFree(ctx context.Context, r *store.TerminalRecord) error {
	if len(r.PublicKey) == 0 {
		return nil
	}
	found, err := v.store.TerminalOfKey(ctx, r.PublicKey)
	switch {
	case errors.Is(err, store.ErrNotFound) || err == nil && found.ID == r.ID:
		return nil
	case err != nil:
		return refused(ctx, err)
	}
	if found.Owner != r.Owner { // whose operators this caller need not be one of
		return fault.New(fault.PublicKeyKnown, "it is that of a terminal of another owner")
	}
	return fault.New(fault.PublicKeyKnown, fmt.Sprintf("it is that of terminal %s (%s)", found.ID, word(found.State)))
}

// Terminal returns a terminal. [fault.TerminalNotFound] where there is none.
func (v *Inventory) Terminal(ctx context.Context, id string) (*Terminal, error) {
	r, err := v.record(ctx, id)
	if err != nil {
		return nil, err
	}
	return terminal(&r)
}

// List returns the terminals that fit a filter and whose identifiers come after the given one,
// at most limit (1 to [store.MaxList]); fewer are the last. [fault.RequestInvalid] for a filter
// that no terminal can fit.
func (v *Inventory) List(ctx context.Context, f store.TerminalFilter, after string, limit int) ([]*Terminal, error) {
	records, err := v.store.Terminals(ctx, f, after, limit)
	if err != nil {
		return nil, refused(ctx, err)
	}
	list := make([]*Terminal, len(records))
	for i := range records {
		if list[i], err = terminal(&records[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Events returns what happened to a terminal after the event with the given number, at most
// limit (1 to [store.MaxList]); fewer are the last. [fault.TerminalNotFound] where there is
// none.
func (v *Inventory) Events(ctx context.Context, id string, after uint64, limit int) ([]store.TerminalEvent, error) {
	if _, err := v.record(ctx, id); err != nil {
		return nil, err
	}
	events, err := v.store.TerminalEvents(ctx, id, after, limit)
	if err != nil {
		return nil, refused(ctx, err)
	}
	return events, nil
}

func (v *Inventory) record(ctx context.Context, id string) (store.TerminalRecord, error) {
	if !ValidID(id) {
		return store.TerminalRecord{}, badID("terminal_id")
	}
	r, err := v.store.Terminal(ctx, id)
	if err != nil {
		return store.TerminalRecord{}, refused(ctx, err)
	}
	return r, nil
}

// now is the time, as the store keeps it.
func (v *Inventory) now() time.Time { return v.clock().UTC().Truncate(time.Microsecond) }

func terminal(r *store.TerminalRecord) (*Terminal, error) {
	c, err := stored(r)
	if err != nil {
		return nil, err
	}
	return &Terminal{
		ID: r.ID, Owner: r.Owner, Model: r.Model, Serial: r.Serial, Site: r.Site, State: r.State,
		Certificate: c, KeySet: r.KeySet, ReplacedBy: r.ReplacedBy, Registered: r.RegisteredAt, Changed: r.ChangedAt,
	}, nil
}

// certificateDetail says in an event which certificate it is about.
func certificateDetail(r *store.TerminalRecord) string {
	c, err := stored(r)
	if err != nil || c == nil {
		return "without a certificate"
	}
	return fmt.Sprintf("certificate %x, public key %x", c.SHA256, c.PublicKey)
}

// refused makes a refusal of what the store said.
func refused(ctx context.Context, err error) error {
	ended := ctx.Err()
	switch {
	case ended != nil && errors.Is(err, ended):
		return ended
	case errors.Is(err, store.ErrNotFound):
		return fault.New(fault.TerminalNotFound, "")
	case errors.Is(err, store.ErrInvalid):
		return fault.New(fault.RequestInvalid, "no terminal can be like that")
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrExists):
		return fault.New(fault.Conflict, "look at the terminal again")
	}
	return fault.Wrap(fault.StoreUnavailable, err)
}
