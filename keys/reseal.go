package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/store"
)

// Resealing is how far keys have been sealed anew under the present master keys.
type Resealing struct {
	Done  int   // in this run
	Left  int   // that could not be, and wait for another run
	Error error // why the first of them could not
}

// Reseal seals every version of every key anew that older master keys seal, while requests
// are served. Each one is replaced by itself, if nobody has changed it meanwhile, so that it
// can be broken off at any time and goes on where it was: what is done is not done again.
// A key that cannot be sealed anew is passed over.
func (c *Ceremonies) Reseal(ctx context.Context) (r Resealing, err error) {
	e := c.Epoch()
	if e == nil || e.Oldest == e.Generation || c.resealed.Load() == uint64(e.Generation) {
		return r, nil
	}
	err = c.older(ctx, e, func(record store.KeyRecord) error {
		sealed, err := c.modules.Reseal(ctx, hsm.Key{Name: record.Name, Sealed: record.Sealed})
		if err == nil {
			err = c.store.ReplaceSealed(ctx, record.Name, record.Version, record.Sealed, sealed)
			c.inventory.Forget(record.Name)
		}
		return r.count(ctx, err, "key %s version %d", record.Name, record.Version)
	})
	if err == nil {
		err = c.olderOfTerminals(ctx, e, func(k store.TerminalKey) error {
			sealed, err := c.modules.Reseal(ctx, hsm.Key{Name: hsm.TerminalPrefix + k.Terminal + ":" + k.Name, Sealed: k.Sealed})
			if err == nil {
				err = c.store.ReplaceTerminalKey(ctx, k, sealed)
			}
			return r.count(ctx, err, "key %s of terminal %s", k.Name, k.Terminal)
		})
	}
	if err == nil {
		err = c.olderRecords(ctx, func(record store.PINRecord, sealed []byte, err error) error {
			if err == nil {
				record.Record = sealed
				_, err = c.store.UpdatePINRecord(ctx, record, nil)
			}
			return r.count(ctx, err, "PIN record %x", record.Subject)
		})
	}
	if err == nil && r == (Resealing{Done: r.Done}) {
		c.resealed.Store(uint64(e.Generation)) // and whatever comes now is sealed by them
	}
	return r, err
}

// count notes what became of a key. Its error ends the run.
func (r *Resealing) count(ctx context.Context, err error, which string, a ...any) error {
	switch {
	case err == nil:
		r.Done++
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound):
		// Somebody else changed it.
	default:
		if r.Left++; r.Error == nil {
			r.Error = fmt.Errorf(which+": %w", append(a, err)...)
		}
	}
	return nil
}

// olderOfTerminals visits every key of a terminal that master keys before the present generation
// seal.
func (c *Ceremonies) olderOfTerminals(ctx context.Context, e *ceremony.Epoch, visit func(store.TerminalKey) error) error {
	for after := (store.TerminalKey{}); ; {
		list, err := c.store.ListTerminalKeys(ctx, after, store.MaxList)
		if err != nil {
			return unavailable(ctx, err)
		}
		for _, k := range list {
			s, err := hsm.ParseSealed(k.Sealed)
			if err != nil || s.Header.Generation >= e.Generation {
				continue
			}
			if err := visit(k); err != nil {
				return err
			}
		}
		if len(list) < store.MaxList {
			return nil
		}
		after = list[len(list)-1]
	}
}

// olderRecords visits every PIN record that master keys before the present generation seal, with
// what it is sealed anew, or why it cannot be. A record does not say which keys seal it: a module
// finds that out. One that is pending and has no PIN yet is passed over: its approvals live for a day.
func (c *Ceremonies) olderRecords(ctx context.Context, visit func(r store.PINRecord, sealed []byte, err error) error) error {
	for after := []byte(nil); ; {
		list, err := c.store.ListPINRecords(ctx, after, store.MaxList)
		if err != nil {
			return unavailable(ctx, err)
		}
		for _, r := range list {
			if len(r.Record) == 0 {
				continue
			}
			sealed, err := c.modules.ResealRecord(ctx, r.Record)
			if err == nil && bytes.Equal(sealed, r.Record) {
				continue
			}
			if err := visit(r, sealed, err); err != nil {
				return err
			}
		}
		if len(list) < store.MaxList {
			return nil
		}
		after = list[len(list)-1].Subject
	}
}

// older visits every version that master keys before the present generation seal.
func (c *Ceremonies) older(ctx context.Context, e *ceremony.Epoch, visit func(store.KeyRecord) error) error {
	name, version := "", uint32(0)
	for {
		records, err := c.store.ListVersions(ctx, name, version, store.MaxList)
		if err != nil {
			return unavailable(ctx, err)
		}
		for _, record := range records {
			s, err := hsm.ParseSealed(record.Sealed)
			if err != nil || s.Header.Generation >= e.Generation {
				continue // what is no sealed key is of no use anyway
			}
			if err := visit(record); err != nil {
				return err
			}
		}
		if len(records) < store.MaxList {
			return nil
		}
		name, version = records[len(records)-1].Name, records[len(records)-1].Version
	}
}

// readyToRetire refuses to retire master keys that still seal a key.
func (c *Ceremonies) readyToRetire(ctx context.Context) error {
	e := c.Epoch()
	if e == nil {
		return fault.New(fault.EpochStale, "")
	}
	left := 0
	if err := c.older(ctx, e, func(store.KeyRecord) error { left++; return nil }); err != nil {
		return err
	}
	if err := c.olderOfTerminals(ctx, e, func(store.TerminalKey) error { left++; return nil }); err != nil {
		return err
	}
	err := c.olderRecords(ctx, func(_ store.PINRecord, _ []byte, err error) error {
		if errors.Is(err, fault.New(fault.ModuleUnavailable, "")) {
			return err
		}
		left++
		return nil
	})
	if err != nil {
		return err
	}
	if left > 0 {
		return fault.New(fault.Conflict, fmt.Sprintf("older master keys still seal %d versions of keys and PIN records: they are sealed anew by the service, its log says how far it is", left))
	}
	return nil
}
