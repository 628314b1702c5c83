package store

import (
	"context"
	"fmt"
)

// injected inserts what a backup has of the keys that terminals get. Each thing is of a terminal,
// a key set or an injection that came before it.
func (in *importer) injected(ctx context.Context, i Item) error {
	switch {
	case i.KeyHost != nil:
		return in.exec(ctx, addHost, hostValues(i.KeyHost)...)
	case i.KeySet != nil:
		version := uint32(1)
		if in.set.Name == i.KeySet.Name {
			version = in.set.Version + 1
		}
		if i.KeySet.Version != version {
			return fmt.Errorf("%w: key set %s: its versions in a backup have a gap", ErrInvalid, i.KeySet.Name)
		}
		in.set = *i.KeySet
		return in.exec(ctx, addSet, setValues(i.KeySet)...)
	case i.RevocationList != nil:
		return in.exec(ctx, addList, listValues(i.RevocationList)...)
	case i.Injection != nil:
		n := i.Injection
		if err := in.fits(ctx, "an injection of no terminal", getTerminal, n.Terminal); err != nil {
			return err
		}
		if err := in.fits(ctx, "an injection of no key set", getSetVersion, n.KeySet, int64(n.KeySetVersion)); err != nil {
			return err
		}
		values, err := injectionValues(n)
		if err != nil {
			return err
		}
		return in.exec(ctx, addInjection, values...)
	case i.InitialKey != nil:
		k := i.InitialKey
		if err := in.fits(ctx, "an initial key of no injection", getInjection, k.Terminal, k.Injection); err != nil {
			return err
		}
		confirmed := 0
		if k.Confirmed {
			confirmed = 1
		}
		return in.exec(ctx, addInitial, k.BDK, k.ID, k.Terminal, k.Injection, confirmed)
	case i.Range != nil:
		r := i.Range
		return in.exec(ctx, addRange, r.BDK, r.Prefix, int64(r.First), int64(r.Next))
	case i.TerminalKey != nil:
		k := i.TerminalKey
		if err := in.fits(ctx, "a key of no injection", getInjection, k.Terminal, k.Injection); err != nil {
			return err
		}
		return in.exec(ctx, addTerminalKey, terminalKeyValues(k)...)
	}
	return fmt.Errorf("%w: an item of a backup is of no kind", ErrInvalid)
}

// fits refuses what is of something that the backup does not have.
func (in *importer) fits(ctx context.Context, what, query string, args ...any) error {
	there, err := exists(ctx, in.tx, query, args...)
	if err == nil && !there {
		err = fmt.Errorf("%w: a backup has %s", ErrInvalid, what)
	}
	return err
}
