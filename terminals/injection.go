package terminals

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"keyd/fault"
	"keyd/store"
)

// Injection is that a terminal was given keys.
type Injection struct {
	ID            string // 32 hex digits
	Terminal      string
	State         store.InjectionState // never BEGUN: then there is nothing to tell
	Method        Method
	KeySet        string
	KeySetVersion uint32
	Keys          []InjectedKey // in the order of the receipt; none where nothing was given
	Created       time.Time
	ConfirmBy     time.Time
	Confirmed     time.Time // zero where it never was

	Record, Receipt, Statement []byte // as package receipt has them
	Failure                    string // in state FAILED

	number uint64
}

// InjectedKey is a key that a terminal was given.
type InjectedKey struct {
	Name       string
	Usage      string
	Algorithm  string
	Length     uint32
	BDK        string
	Version    uint32
	ID         []byte // key serial number, or initial key ID
	CheckValue string
}

// injection is what is kept, as it is now: what was not confirmed in time has expired, whether
// somebody has noted that or not.
func injection(i *store.Injection, now time.Time) (*Injection, error) {
	v := &Injection{
		ID: i.ID, Terminal: i.Terminal, State: i.State, Method: Method(i.Method), KeySet: i.KeySet, KeySetVersion: i.KeySetVersion, Created: i.Created, ConfirmBy: i.ConfirmBy,
		Confirmed: i.Confirmed, Record: i.Record, Receipt: i.Receipt, Statement: i.Statement, Failure: i.Failure, number: i.Number,
	}
	if v.State == store.InjectionPending && !now.Before(v.ConfirmBy) {
		v.State = store.InjectionExpired
	}
	if len(i.Record) == 0 {
		return v, nil
	}
	r, err := recordOf(i.Record)
	if err != nil {
		return nil, fault.Wrap(fault.StoreUnavailable, fmt.Errorf("injection %s: %w", i.ID, store.ErrCorrupt))
	}
	for n := range r.Keys {
		k := &r.Keys[n]
		id, err := hex.DecodeString(k.ID)
		if err != nil {
			return nil, fault.Wrap(fault.StoreUnavailable, fmt.Errorf("injection %s: %w", i.ID, store.ErrCorrupt))
		}
		v.Keys = append(v.Keys, InjectedKey{k.Name, k.Usage, k.Algorithm, uint32(k.Length), k.BDK, k.BDKVersion, id, k.CheckValue})
	}
	return v, nil
}

// Summary says what an injection is of, for the audit log.
func (i *Injection) Summary() string {
	return fmt.Sprintf("injection %s, %s, key set %s version %d", grouped(i.ID), methods[i.Method], i.KeySet, i.KeySetVersion)
}

// Place is where a page of injections goes on after this one.
func (i *Injection) Place() uint64 { return i.number }

// Injections returns the injections of a terminal whose place is below before (0: any), the
// newest first, at most limit (1 to [store.MaxList]); fewer are the last.
func (d *Distribution) Injections(ctx context.Context, terminal string, before uint64, limit int) ([]*Injection, error) {
	if _, err := d.inventory.record(ctx, terminal); err != nil {
		return nil, err
	}
	records, err := d.store.ListInjections(ctx, terminal, before, limit)
	if err != nil {
		return nil, refused(ctx, err)
	}
	list := make([]*Injection, len(records))
	for n := range records {
		if list[n], err = injection(&records[n], d.inventory.now()); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Injection returns an injection of a terminal. [fault.InjectionNotFound] where there is none.
func (d *Distribution) Injection(ctx context.Context, terminal, id string) (*Injection, error) {
	if _, err := d.inventory.record(ctx, terminal); err != nil {
		return nil, err
	}
	i, err := d.stored(ctx, terminal, id)
	if err != nil {
		return nil, err
	}
	return injection(i, d.inventory.now())
}

// stored returns an injection that has something to tell.
func (d *Distribution) stored(ctx context.Context, terminal, id string) (*store.Injection, error) {
	if len(id) != store.InjectionID || strings.Trim(id, "0123456789abcdef") != "" {
		return nil, fault.New(fault.RequestInvalid, "injection_id has 32 lower-case hex digits")
	}
	i, err := d.store.Injection(ctx, terminal, id)
	switch {
	case errors.Is(err, store.ErrNotFound) || err == nil && i.State == store.InjectionBegun:
		return nil, fault.New(fault.InjectionNotFound, "")
	case err != nil:
		return nil, refused(ctx, err)
	}
	return &i, nil
}

// begunFor is how long an injection may be begun without an answer: then whoever began it is gone.
const begunFor = time.Minute

// Expire ends injections that were not confirmed in time, and those that nobody brings to an
// answer any more. It returns how many; what another front has ended meanwhile is passed over.
func (d *Distribution) Expire(ctx context.Context) (ended int, err error) {
	now := d.inventory.now()
	due, err := d.store.DueInjections(ctx, now, now.Add(-begunFor), store.MaxList)
	if err != nil {
		return 0, refused(ctx, err)
	}
	for n := range due {
		i := &due[n]
		state, kind, why := store.InjectionExpired, EventKeysExpired, ""
		if i.State == store.InjectionBegun {
			state, kind, why = store.InjectionFailed, EventKeysFailed, "it was broken off"
		}
		text := detail(i)
		if why != "" {
			text = cut(text + ": " + why)
		}
		err := d.store.EndInjection(ctx, i.Terminal, i.ID, i.Revision, state, why, store.TerminalEvent{Kind: kind, Detail: text, At: now})
		switch {
		case err == nil:
			ended++
		case !errors.Is(err, store.ErrConflict):
			return ended, refused(ctx, err)
		}
	}
	return ended, nil
}
