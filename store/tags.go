package store

import (
	"context"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Limits of tags.
const (
	MaxTags     = 50  // of a key
	MaxTag      = 128 // bytes
	MaxTagValue = 256 // bytes
)

// Filter says which keys are looked for: those that fit all of it.
type Filter struct {
	NamePrefix string // "" for any name
	Tag        string // keys with this tag; "" for any key
	TagValue   string // keys whose tag has this value; "" for any value, and where Tag is ""
}

// Tags keeps what operators note about keys: of each key, whatever its version, a value for
// each of some tags. A tag has 1 to [MaxTag] bytes of printable UTF-8, its value 0 to
// [MaxTagValue]. The tags of a key go with its last version.
//
// Its methods may be called concurrently, and by several processes; see [Keys] about errors.
type Tags interface {
	// SetTags adds tags to a key, and gives those that it has another value.
	// [ErrNotFound] when there is no such key, [ErrInvalid] outside the limits and when
	// the key would have more than [MaxTags].
	SetTags(ctx context.Context, key string, tags map[string]string) error

	// DeleteTags removes tags from a key, at most [MaxTags] at once, otherwise
	// [ErrInvalid]. Those that it does not have, and a key that is not there, are
	// passed over.
	DeleteTags(ctx context.Context, key string, tags []string) error

	// Tags returns the tags of a key, an empty map where it has none or is not there.
	Tags(ctx context.Context, key string) (map[string]string, error)

	// ListKeys is [Keys.List] of the keys that fit a filter. [ErrInvalid] too for a
	// filter that no key can fit.
	ListKeys(ctx context.Context, f Filter, after string, limit int) ([]KeyRecord, error)
}

// ValidateTags returns [ErrInvalid] for tags that a key cannot be given.
func ValidateTags(tags map[string]string) error {
	if len(tags) > MaxTags {
		return fmt.Errorf("%w: a key has at most %d tags", ErrInvalid, MaxTags)
	}
	for tag, value := range tags {
		if err := validTag(tag, value); err != nil {
			return err
		}
	}
	return nil
}

// Validate returns [ErrInvalid] for a filter that no key can fit.
func (f Filter) Validate() error {
	switch {
	case f.NamePrefix != "" && !validName(f.NamePrefix):
		return fmt.Errorf("%w: the beginning of a key name has at most %d printable ASCII characters without spaces", ErrInvalid, MaxName)
	case f.Tag == "" && f.TagValue != "":
		return fmt.Errorf("%w: a value is looked for without its tag", ErrInvalid)
	case f.Tag != "":
		return validTag(f.Tag, f.TagValue)
	}
	return nil
}

func validTag(tag, value string) error {
	switch {
	case tag == "" || len(tag) > MaxTag || !printable(tag):
		return fmt.Errorf("%w: a tag has 1 to %d bytes of printable UTF-8", ErrInvalid, MaxTag)
	case len(value) > MaxTagValue || !printable(value):
		return fmt.Errorf("%w: the value of a tag has at most %d bytes of printable UTF-8", ErrInvalid, MaxTagValue)
	}
	return nil
}

func printable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(s)
}
