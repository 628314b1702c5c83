package store

import (
	"context"
	"fmt"
)

// MaxAliasesOf is how many aliases a key has at most.
const MaxAliasesOf = 100

// Alias is another name of a key.
type Alias struct {
	Name string // as KeyRecord.Name
	Key  string // name of the key that it stands for
}

// Aliases keeps other names of keys. An alias stands for a key, never for another alias:
// none has the name of a key, and no key is written under the name of one. A key whose last
// version is purged leaves its aliases behind, which then stand for nothing until they are
// moved or deleted.
//
// Its methods may be called concurrently, and by several processes; see [Keys] about errors.
type Aliases interface {
	// SetAlias makes an alias stand for a key when it stands for the expected one, ""
	// where there is no such alias: otherwise [ErrConflict]. [ErrExists] when a key has
	// the alias's name, or is going to have it with a proposed epoch; [ErrNotFound]
	// when there is no such key; [ErrInvalid] outside the limits, and when the key has
	// [MaxAliasesOf] already.
	SetAlias(ctx context.Context, alias, key, expected string) error

	// DeleteAlias removes an alias that stands for the expected key. [ErrConflict] when
	// it stands for another, [ErrNotFound] when there is none.
	DeleteAlias(ctx context.Context, alias, expected string) error

	// Alias returns the name of the key that an alias stands for. [ErrNotFound] when
	// there is no such alias.
	Alias(ctx context.Context, alias string) (key string, err error)

	// Aliases returns the aliases that come after the given one in byte order, at most
	// limit (1 to [MaxList], otherwise [ErrInvalid]). Fewer are the last.
	Aliases(ctx context.Context, after string, limit int) ([]Alias, error)

	// AliasesOf returns the aliases of a key in byte order.
	AliasesOf(ctx context.Context, key string) ([]string, error)
}

// Validate returns [ErrInvalid] for an alias outside the limits; see [KeyRecord.Validate].
func (a Alias) Validate() error {
	switch {
	case !validName(a.Name) || !validName(a.Key):
		return fmt.Errorf("%w: an alias and a key name have 1 to %d printable ASCII characters without spaces", ErrInvalid, MaxName)
	case a.Name == a.Key:
		return fmt.Errorf("%w: alias %s: it cannot stand for itself", ErrInvalid, a.Name)
	}
	return nil
}
