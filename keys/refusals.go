package keys

import (
	"context"
	"errors"

	"keyd/fault"
	"keyd/store"
)

// refused makes a refusal of what the store said, nil of nil. The sentences are for the
// caller: what conflicts, what is there already, and what is outside the limits.
func refused(ctx context.Context, err error, conflict, exists, invalid string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrConflict):
		return fault.New(fault.Conflict, conflict)
	case errors.Is(err, store.ErrExists):
		return fault.New(fault.RequestInvalid, exists)
	case errors.Is(err, store.ErrInvalid):
		return fault.New(fault.RequestInvalid, invalid)
	case errors.Is(err, store.ErrNotFound):
		return fault.New(fault.KeyNotFound, "")
	}
	return unavailable(ctx, err)
}

func checkNames(names ...string) error {
	for _, name := range names {
		if !ValidName(name) {
			return fault.New(fault.RequestInvalid, "a name has 1 to 128 characters, letters, digits and ._:/@+=#~-, and begins with a letter or a digit")
		}
	}
	return nil
}

func checkLimit(limit int) error {
	if limit < 1 || limit > store.MaxList {
		return fault.New(fault.RequestInvalid, "a list has 1 to 1000 entries")
	}
	return nil
}

// parseAll reads rows of the store.
func parseAll(records []store.KeyRecord) ([]Key, error) {
	found := make([]Key, len(records))
	for i, r := range records {
		var err error
		if found[i], err = parse(r); err != nil {
			return nil, err
		}
	}
	return found, nil
}
