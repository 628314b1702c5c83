package keys

import (
	"context"

	"keyd/fault"
	"keyd/store"
)

// SetTags adds tags to a key, whatever its version, and gives those that it has another
// value; see [store.Tags] for what a tag is. Errors are refusals of package fault:
// [fault.RequestInvalid] outside the limits, [fault.KeyNotFound],
// [fault.StoreUnavailable]; and ctx's error as it is.
func (v *Inventory) SetTags(ctx context.Context, key string, tags map[string]string) error {
	if err := checkNames(key); err != nil {
		return err
	}
	if store.ValidateTags(tags) != nil {
		return fault.New(fault.RequestInvalid, "a tag has 1 to 128 bytes of printable UTF-8, its value 0 to 256, and a key has at most 50")
	}
	return refused(ctx, v.store.SetTags(ctx, key, tags), "", "", "a key has at most 50 tags")
}

// DeleteTags removes tags from a key; those that it does not have are passed over. Errors
// are those of [Inventory.SetTags], but a key that is not there has no tags.
func (v *Inventory) DeleteTags(ctx context.Context, key string, tags []string) error {
	if err := checkNames(key); err != nil {
		return err
	}
	return refused(ctx, v.store.DeleteTags(ctx, key, tags), "", "", "a key has at most 50 tags")
}

// Tags returns the tags of a key, an empty map where it has none or is not there.
func (v *Inventory) Tags(ctx context.Context, key string) (map[string]string, error) {
	tags, err := v.store.Tags(ctx, key)
	if err != nil {
		return nil, refused(ctx, err, "", "", "")
	}
	return tags, nil
}

// Search is [Inventory.List] of the keys that fit a filter. [fault.RequestInvalid] too for a
// filter that no key can fit and for a limit outside 1 to [store.MaxList].
func (v *Inventory) Search(ctx context.Context, f store.Filter, after string, limit int) ([]Key, error) {
	if err := checkLimit(limit); err != nil {
		return nil, err
	}
	records, err := v.store.ListKeys(ctx, f, after, limit)
	if err != nil {
		return nil, refused(ctx, err, "", "", "no key can be like that")
	}
	return parseAll(records)
}

// Versions returns all versions of a key, the oldest first; of more than
// [store.MaxVersions] only the newest. Errors are those of [Inventory.Resolve].
func (v *Inventory) Versions(ctx context.Context, name string) ([]Key, error) {
	if !ValidName(name) {
		return nil, fault.New(fault.KeyNotFound, "")
	}
	records, err := v.store.Versions(ctx, name)
	switch {
	case err != nil:
		return nil, unavailable(ctx, err)
	case len(records) == 0:
		return nil, fault.New(fault.KeyNotFound, "")
	}
	return parseAll(records)
}
