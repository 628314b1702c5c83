package keys

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/store"
)

// Store is what an inventory keeps in the database.
type Store interface {
	store.Keys
	store.Aliases
	store.Tags
	store.Uses
	store.TerminalKeys
}

// Inventory finds keys by name. It is safe for concurrent use. It remembers the keys
// that were asked for last, so that it costs the same with a hundred keys and with
// a hundred thousand. Changes have to go through it, or be told to it with
// [Inventory.Forget] or, where others write the same store, [Inventory.ForgetAll].
type Inventory struct {
	store Store
	clock func() time.Time

	current cache[*Key]   // by name
	pinned  cache[*Key]   // by name and version, as requests write them
	targets cache[string] // names of keys, by alias

	usage usage
	view  view

	mu      sync.Mutex // of the count
	counted bool
	count   uint64
}

// New returns the inventory over a store. What it counts of the keys' use is kept from
// [Inventory.Start] to [Inventory.Close]; without them it works and counts nothing.
func New(s Store) *Inventory {
	v := &Inventory{store: s, clock: time.Now}
	v.usage.turn = make(chan struct{}, 1)
	return v
}

// List returns the current versions of the keys whose names come after the given one
// in byte order, at most limit (1 to [store.MaxList]); fewer are the last. Errors are
// those of [Inventory.Resolve].
func (v *Inventory) List(ctx context.Context, afterName string, limit int) ([]Key, error) {
	records, err := v.store.List(ctx, afterName, limit)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	return parseAll(records)
}

// Count returns the number of key names. It reads the whole inventory once, and again
// after a change. The error is [fault.StoreUnavailable], or ctx's.
func (v *Inventory) Count(ctx context.Context) (uint64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.counted {
		return v.count, nil
	}
	v.count = 0
	for last := ""; ; {
		records, err := v.store.List(ctx, last, store.MaxList)
		if err != nil {
			return 0, unavailable(ctx, err)
		}
		v.count += uint64(len(records))
		if len(records) < store.MaxList {
			v.counted = true
			return v.count, nil
		}
		last = records[len(records)-1].Name
	}
}

// importBatch is the number of keys that [Inventory.Import] writes in a transaction.
const importBatch = 500

// Import takes in sealed keys that a provisioning process has made, enabled. A key
// that has the name and version of one that is there takes its place; one with a lower
// version than is there is refused, since it would never be used.
//
// Nothing is written unless every key is a sealed key of its name and none comes twice.
// The error says which is not. After an error of the store some keys may be taken in:
// importing again is safe.
func (v *Inventory) Import(ctx context.Context, sealed []hsm.Key) error {
	records, err := v.records(ctx, sealed)
	if err != nil {
		return err
	}
	for len(records) > 0 {
		n := min(len(records), importBatch)
		if err := v.replace(ctx, records[:n]); err != nil {
			return err
		}
		records = records[n:]
	}
	return nil
}

func (v *Inventory) records(ctx context.Context, sealed []hsm.Key) ([]store.KeyRecord, error) {
	now := v.clock()
	seen := make(map[string]bool, len(sealed))
	records := make([]store.KeyRecord, 0, len(sealed))
	for i, s := range sealed {
		if !ValidName(s.Name) || ofTerminal(s.Name) {
			return nil, fmt.Errorf("import key %d of %d: it has no name that a key can have", i+1, len(sealed))
		}
		if seen[s.Name] {
			return nil, fmt.Errorf("import key %s: it comes twice", s.Name)
		}
		seen[s.Name] = true
		parsed, err := hsm.ParseSealed(s.Sealed)
		if err != nil {
			return nil, fmt.Errorf("import key %s: %w", s.Name, err)
		}
		if parsed.Header.Name != s.Name {
			return nil, fmt.Errorf("import key %s: it was sealed under another name, %q", s.Name, parsed.Header.Name)
		}
		there, err := v.store.Get(ctx, s.Name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, fmt.Errorf("import key %s: %w", s.Name, err)
		}
		if err == nil && there.Version > parsed.Header.Version {
			return nil, fmt.Errorf("import key %s: version %d is there, newer than version %d", s.Name, there.Version, parsed.Header.Version)
		}
		r := store.KeyRecord{Name: s.Name, Version: parsed.Header.Version, State: store.Enabled, Sealed: s.Sealed, CreatedAt: now}
		if err := r.Validate(); err != nil {
			return nil, fmt.Errorf("import: %w", err)
		}
		records = append(records, r)
	}
	return records, nil
}

func (v *Inventory) replace(ctx context.Context, records []store.KeyRecord) error {
	err := v.store.Replace(ctx, records...)
	// Even a write that failed may have happened: nothing that was read before it is
	// believed any longer.
	names := make([]string, len(records))
	for i, r := range records {
		names[i] = r.Name
	}
	v.Forget(names...)
	if err != nil {
		return fmt.Errorf("import keys: %w", err)
	}
	return nil
}

// Forget drops what is remembered of keys and aliases with these names, and how many keys
// there are. It is for changes past the inventory: after [store.Epochs.AdvanceEpoch] with
// the names that the change is about, whatever it returned. A request that starts when
// Forget has returned sees what the store has.
func (v *Inventory) Forget(names ...string) {
	for _, name := range names {
		v.current.forget(name)
		v.targets.forget(name)
	}
	if len(names) > 0 {
		v.pinned.forgetAll() // few are pinned, and changes are rare
	}
	v.mu.Lock()
	v.counted = false
	v.mu.Unlock()
}

// ForgetAll drops all that is remembered, because another process has changed something.
func (v *Inventory) ForgetAll() {
	v.current.forgetAll()
	v.targets.forgetAll()
	v.pinned.forgetAll()
	v.mu.Lock()
	v.counted = false
	v.mu.Unlock()
}

// unavailable keeps the context's own error and makes a refusal of any other.
func unavailable(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil && errors.Is(err, ended) {
		return ended
	}
	return fault.Wrap(fault.StoreUnavailable, err)
}
