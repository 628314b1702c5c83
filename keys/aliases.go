package keys

import (
	"context"

	"keyd/fault"
	"keyd/hsm"
	"keyd/store"
)

// SetAlias makes an alias stand for a key when it stands for the expected one, "" where
// there is no such alias. No request that starts afterwards gets the key before.
//
// Errors are refusals of package fault: [fault.RequestInvalid] for what is no name, for an
// alias that has the name of a key, and for a key with [store.MaxAliasesOf] aliases;
// [fault.Conflict] for an alias that does not stand for the expected key;
// [fault.KeyNotFound] where there is no such key; [fault.StoreUnavailable]; and ctx's error
// as it is. After the last two the alias may have moved.
func (v *Inventory) SetAlias(ctx context.Context, alias, key, expected string) error {
	if err := checkNames(alias, key); err != nil {
		return err
	}
	if alias == key {
		return fault.New(fault.RequestInvalid, "an alias cannot stand for itself")
	}
	if ofTerminal(alias) || ofTerminal(key) {
		return fault.New(fault.RequestInvalid, "names that begin with "+hsm.TerminalPrefix+" are of keys of terminals, which have no aliases")
	}
	err := v.store.SetAlias(ctx, alias, key, expected)
	v.targets.forget(alias)
	return refused(ctx, err, "the alias does not stand for the expected key", "a key has the name of the alias", "the key has as many aliases as a key can have")
}

// DeleteAlias removes an alias that stands for the expected key. No request that starts
// afterwards gets it. Errors are those of [Inventory.SetAlias], [fault.KeyNotFound] where
// there is no such alias.
func (v *Inventory) DeleteAlias(ctx context.Context, alias, expected string) error {
	if err := checkNames(alias); err != nil {
		return err
	}
	err := v.store.DeleteAlias(ctx, alias, expected)
	v.targets.forget(alias)
	return refused(ctx, err, "the alias does not stand for the expected key", "", "")
}

// Alias returns the name of the key that an alias stands for. [fault.KeyNotFound] where
// there is no such alias; the other errors are those of [Inventory.Resolve].
func (v *Inventory) Alias(ctx context.Context, alias string) (string, error) {
	if !ValidName(alias) {
		return "", fault.New(fault.KeyNotFound, "")
	}
	key, err := v.store.Alias(ctx, alias)
	if err != nil {
		return "", refused(ctx, err, "", "", "")
	}
	return key, nil
}

// Aliases returns the aliases that come after the given one in byte order, at most limit (1
// to [store.MaxList], otherwise [fault.RequestInvalid]); fewer are the last.
func (v *Inventory) Aliases(ctx context.Context, after string, limit int) ([]store.Alias, error) {
	if err := checkLimit(limit); err != nil {
		return nil, err
	}
	found, err := v.store.Aliases(ctx, after, limit)
	if err != nil {
		return nil, refused(ctx, err, "", "", "")
	}
	return found, nil
}

// AliasesOf returns the aliases of a key in byte order, none for a key that is not there.
func (v *Inventory) AliasesOf(ctx context.Context, key string) ([]string, error) {
	found, err := v.store.AliasesOf(ctx, key)
	if err != nil {
		return nil, refused(ctx, err, "", "", "")
	}
	return found, nil
}
