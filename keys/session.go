package keys

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"keyd/fault"
	"keyd/hsm"
	"keyd/store"
)

// ofTerminal reports whether a name or a reference is one of a terminal's key, which no other key
// and no alias can have.
func ofTerminal(name string) bool { return strings.HasPrefix(name, hsm.TerminalPrefix) }

// resolveSession finds a session key of a terminal. It is read each time, with the state of its
// terminal: a terminal that another front suspends has no key that may be used from then on.
// Its uses are not counted.
func (v *Inventory) resolveSession(ctx context.Context, reference string) (Key, error) {
	name, version := reference, uint32(0)
	if strings.IndexByte(reference, '?') >= 0 {
		var ok bool
		if name, version, ok = parsePinned(reference); !ok {
			return Key{}, fault.New(fault.KeyNotFound, "")
		}
	}
	terminal, part, ok := strings.Cut(strings.TrimPrefix(name, hsm.TerminalPrefix), ":")
	if !ok || !ValidName(name) {
		return Key{}, fault.New(fault.KeyNotFound, "")
	}
	found, state, err := v.store.SessionKey(ctx, terminal, part, version)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return Key{}, fault.New(fault.KeyNotFound, "")
	case err != nil:
		return Key{}, unavailable(ctx, err)
	}
	r := store.KeyRecord{Name: name, Version: found.Version, State: store.Disabled, Sealed: found.Sealed, CreatedAt: found.CreatedAt}
	if state == store.TerminalRegistered {
		r.State = store.Enabled
	}
	key, err := parse(r)
	if err != nil {
		return Key{}, err
	}
	if key.Header.Device == "" || version != 0 && key.Version != version {
		return Key{}, fault.Wrap(fault.KeySealInvalid, fmt.Errorf("the store answered %q with a key that is no terminal's", reference))
	}
	return key, nil
}
