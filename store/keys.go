package store

import (
	"context"
	"fmt"
	"math"
	"time"
)

// Limits of a key record.
const (
	MaxName     = 128       // bytes
	MaxSealed   = 64 * 1024 // bytes
	MaxList     = 1000      // records of one [Keys.List], and of the other lists
	MaxVersions = 1000      // records of one [Keys.Versions]
)

// State says whether a key may be used.
type State string

// The states of a key.
const (
	Enabled  State = "ENABLED"
	Disabled State = "DISABLED"
)

// KeyRecord is one version of a key. Name and Version identify it.
type KeyRecord struct {
	Name      string    // 1 to MaxName bytes of printable ASCII without spaces
	Version   uint32    // from 1
	State     State     // Enabled or Disabled
	Sealed    []byte    // 1 to MaxSealed bytes, opaque
	CreatedAt time.Time // years 1970 to 9999; kept in UTC, cut to the microsecond
}

// KeyVersion names one version of a key.
type KeyVersion struct {
	Name    string
	Version uint32
}

// Keys is the key inventory. Its methods may be called concurrently. An error wraps
// one of the package's errors or, when the context ends first, the context's.
type Keys interface {
	// Put adds records in one transaction: all or none. [ErrExists] when a record
	// with the same name and version is kept already; [ErrInvalid] when a record
	// is outside the limits or comes twice. A name that is an alias is [ErrExists].
	Put(ctx context.Context, records ...KeyRecord) error

	// Replace is [Keys.Put] that overwrites records with the same name and version.
	Replace(ctx context.Context, records ...KeyRecord) error

	// ReplaceSealed puts another sealed key in the place of an old one, when that is
	// exactly what the version holds: it is how a key is sealed anew while others work
	// with it. [ErrConflict] when the version holds something else, [ErrNotFound] when
	// there is none, [ErrInvalid] when the new one is outside the limits.
	ReplaceSealed(ctx context.Context, name string, version uint32, old, new []byte) error

	// Purge deletes versions with their usage, in one transaction; with the last version of
	// a key its tags go too. One that is not there is passed over. [ErrInvalid] outside
	// the limits.
	Purge(ctx context.Context, versions ...KeyVersion) error

	// Get returns the current version of a key: the highest, whatever its state, so
	// that disabling a version never brings an older one back. [ErrNotFound] when
	// there is none. The caller owns the result.
	Get(ctx context.Context, name string) (KeyRecord, error)

	// List returns the current versions of the keys whose names come after the given
	// one, in byte order of their names, at most limit (1 to [MaxList], otherwise
	// [ErrInvalid]). It begins with the first for an empty name; fewer than limit
	// records are the last.
	List(ctx context.Context, afterName string, limit int) ([]KeyRecord, error)

	// Version returns one version of a key. [ErrNotFound] when there is none. The
	// caller owns the result.
	Version(ctx context.Context, name string, version uint32) (KeyRecord, error)

	// Versions returns all versions of a key, the oldest first; of more than
	// [MaxVersions] only the newest. None for a key that is not there.
	Versions(ctx context.Context, name string) ([]KeyRecord, error)

	// ListVersions is [Keys.List] over all versions of all keys, in the order of name
	// and version. It goes on after the given version of the given name.
	ListVersions(ctx context.Context, afterName string, afterVersion uint32, limit int) ([]KeyRecord, error)
}

// Store is everything that the front keeps.
type Store interface {
	Keys
	Counters
	Ceremonies
	Epochs
	Aliases
	Tags
	Uses
	Nodes
	Terminals
	KeySets
	Injections
	PINRecords
	Voids
	Changes
	Backups

	// Close waits for running operations and releases the store.
	Close() error
}

// Validate returns [ErrInvalid] for a record outside the limits. Every
// implementation refuses such a record before it touches the database, and reports
// one that it finds there as [ErrCorrupt].
func (r KeyRecord) Validate() error {
	switch {
	case !validName(r.Name):
		return fmt.Errorf("%w: a key name has 1 to %d printable ASCII characters without spaces", ErrInvalid, MaxName)
	case r.Version == 0:
		return fmt.Errorf("%w: key %s: versions start from 1", ErrInvalid, r.Name)
	case r.State != Enabled && r.State != Disabled:
		return fmt.Errorf("%w: key %s: the state is neither %s nor %s", ErrInvalid, r.Name, Enabled, Disabled)
	case len(r.Sealed) == 0 || len(r.Sealed) > MaxSealed:
		return fmt.Errorf("%w: key %s: a sealed key has 1 to %d bytes", ErrInvalid, r.Name, MaxSealed)
	case !validTime(r.CreatedAt):
		return fmt.Errorf("%w: key %s: the creation time is not within the years 1970 to 9999", ErrInvalid, r.Name)
	}
	return nil
}

// ValidateAll returns [ErrInvalid] for records that cannot be written together.
func ValidateAll(records []KeyRecord) error {
	seen := make(map[KeyVersion]bool, len(records))
	for _, r := range records {
		if err := r.Validate(); err != nil {
			return err
		}
		id := KeyVersion{r.Name, r.Version}
		if seen[id] {
			return fmt.Errorf("%w: key %s version %d comes twice", ErrInvalid, r.Name, r.Version)
		}
		seen[id] = true
	}
	return nil
}

// newRecord makes a record of database values, which are trusted no more than any
// other input.
func newRecord(name string, version int64, state string, sealed []byte, createdAt int64) (KeyRecord, error) {
	if version < 1 || version > math.MaxUint32 {
		return KeyRecord{}, ErrCorrupt
	}
	r := KeyRecord{Name: name, Version: uint32(version), State: State(state), Sealed: sealed, CreatedAt: time.UnixMicro(createdAt).UTC()}
	if r.Validate() != nil {
		return KeyRecord{}, ErrCorrupt
	}
	return r, nil
}

func validName(name string) bool {
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' {
			return false
		}
	}
	return len(name) >= 1 && len(name) <= MaxName
}
