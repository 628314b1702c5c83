package keys

import (
	"fmt"
	"strings"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/store"
)

// MaxName is the length of the longest key name, in bytes.
const MaxName = store.MaxName

// ValidName reports whether a key can have that name: 1 to [MaxName] bytes, letters,
// digits and "._:/@+=#~-", the first one a letter or a digit.
func ValidName(name string) bool {
	if len(name) == 0 || len(name) > MaxName {
		return false
	}
	for i := range len(name) {
		if !alphanumeric(name[i]) && (i == 0 || strings.IndexByte("._:/@+=#~-", name[i]) < 0) {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// Key is a version of a key in the inventory: the current one, unless another was named.
// It is shared with a cache: Header and Sealed must not be changed.
type Key struct {
	Name    string // its own, whatever it was called in the request
	Version uint32 // counts from 1
	State   store.State
	Header  *hsm.Header // as the sealed key has it, not authenticated
	Sealed  []byte
	Created time.Time

	uses *uses // counts them; nil for a key that was not resolved
}

// CheckUsable returns a [fault.KeyDisabled] if the key is stopped, or if its header's
// validity does not cover the time. It is apart from [Inventory.Resolve] because the
// policy comes between: a caller who may not use a key does not learn its state.
func (k Key) CheckUsable(at time.Time) error {
	if k.State != store.Enabled || !k.Header.ValidAt(at) {
		return fault.New(fault.KeyDisabled, "")
	}
	return nil
}

// parse reads a row of the store, which is trusted no more than any other input.
func parse(r store.KeyRecord) (Key, error) {
	s, err := hsm.ParseSealed(r.Sealed)
	if err != nil {
		return Key{}, fault.Wrap(fault.KeySealInvalid, fmt.Errorf("key %s version %d: %w", r.Name, r.Version, err))
	}
	if s.Header.Name != r.Name || s.Header.Version != r.Version {
		return Key{}, fault.Wrap(fault.KeySealInvalid,
			fmt.Errorf("key %s version %d was sealed as another: %q version %d", r.Name, r.Version, s.Header.Name, s.Header.Version))
	}
	return Key{Name: r.Name, Version: r.Version, State: r.State, Header: s.Header, Sealed: r.Sealed, Created: r.CreatedAt}, nil
}
