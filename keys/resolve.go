package keys

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"keyd/fault"
	"keyd/store"
)

// Resolve returns the key that a reference names, see [ValidReference]: the current version
// of the key with that name or alias, or the version that the reference says. It does so
// whether the key may be used now or not: that is [Key.CheckUsable]'s to say. A name comes
// before an alias; an alias with a version names nothing. Names of terminals' keys
// ("terminal:TERMINAL:NAME") name session keys, and nothing else.
//
// Errors are refusals of package fault: [fault.KeyNotFound]; [fault.KeySealInvalid]
// if what is stored is no sealed key of that name and version;
// [fault.StoreUnavailable], see [Inventory.Fresh] too; and ctx's error as it is.
func (v *Inventory) Resolve(ctx context.Context, reference string) (Key, error) {
	if err := v.Fresh(); err != nil {
		return Key{}, err
	}
	if ofTerminal(reference) {
		return v.resolveSession(ctx, reference)
	}
	if key, ok := v.current.get(reference); ok {
		return *key, nil
	}
	if strings.IndexByte(reference, '?') >= 0 {
		return v.resolvePinned(ctx, reference)
	}
	if target, ok := v.targets.get(reference); ok {
		return v.resolveName(ctx, target)
	}
	if !ValidName(reference) {
		return Key{}, fault.New(fault.KeyNotFound, "")
	}
	key, err := v.read(ctx, reference)
	if !isNotFound(err) {
		return key, err
	}
	epoch := v.targets.epoch()
	target, err := v.store.Alias(ctx, reference)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return Key{}, fault.New(fault.KeyNotFound, "")
	case err != nil:
		return Key{}, unavailable(ctx, err)
	case !ValidName(target) || ofTerminal(target):
		return Key{}, fault.New(fault.KeyNotFound, "")
	}
	v.targets.put(strings.Clone(reference), target, epoch)
	return v.resolveName(ctx, target)
}

// resolveName is [Inventory.Resolve] without aliases and versions.
func (v *Inventory) resolveName(ctx context.Context, name string) (Key, error) {
	if key, ok := v.current.get(name); ok {
		return *key, nil
	}
	return v.read(ctx, name)
}

// read reads the current version of a key from the store.
func (v *Inventory) read(ctx context.Context, name string) (Key, error) {
	epoch := v.current.epoch()
	record, err := v.store.Get(ctx, name)
	key, err := v.found(ctx, record, err)
	if err != nil {
		return Key{}, err
	}
	if key.Name != name {
		return Key{}, fault.Wrap(fault.KeySealInvalid, fmt.Errorf("the store answered %q with key %q", name, key.Name))
	}
	v.current.put(key.Name, &key, epoch)
	return key, nil
}

// resolvePinned finds the version that a reference says.
func (v *Inventory) resolvePinned(ctx context.Context, reference string) (Key, error) {
	if key, ok := v.pinned.get(reference); ok {
		return *key, nil
	}
	name, version, ok := parsePinned(reference)
	if !ok || !ValidName(name) {
		return Key{}, fault.New(fault.KeyNotFound, "")
	}
	epoch := v.pinned.epoch()
	record, err := v.store.Version(ctx, name, version)
	key, err := v.found(ctx, record, err)
	if err != nil {
		return Key{}, err
	}
	if key.Name != name || key.Version != version {
		return Key{}, fault.Wrap(fault.KeySealInvalid,
			fmt.Errorf("the store answered %q version %d with key %q version %d", name, version, key.Name, key.Version))
	}
	v.pinned.put(strings.Clone(reference), &key, epoch)
	return key, nil
}

// found makes a key, whose uses are counted, of what the store answered.
func (v *Inventory) found(ctx context.Context, record store.KeyRecord, err error) (Key, error) {
	switch {
	case err == nil:
	case errors.Is(err, store.ErrNotFound):
		return Key{}, fault.New(fault.KeyNotFound, "")
	default:
		return Key{}, unavailable(ctx, err)
	}
	key, err := parse(record)
	if err != nil {
		return Key{}, err
	}
	key.uses = &uses{version: store.KeyVersion{Name: key.Name, Version: key.Version}}
	return key, nil
}

func isNotFound(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) && f.Reason == fault.KeyNotFound
}
