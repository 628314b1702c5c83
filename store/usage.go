package store

import (
	"context"
	"fmt"
	"math"
	"time"
)

// MaxUsage is how many counts one [Uses.AddUsage] takes.
const MaxUsage = 1000

// Usage is how often a version of a key was used, and when last.
type Usage struct {
	Name     string    // as KeyRecord.Name
	Version  uint32    // from 1
	Count    uint64    // at most the largest int64, at which it stays
	LastUsed time.Time // as KeyRecord.CreatedAt
}

// Uses keeps how often keys are used. Its methods may be called concurrently, and by several
// processes; see [Keys] about errors.
type Uses interface {
	// AddUsage adds counts to what is kept, and keeps the later time, for at most
	// [MaxUsage] versions in one transaction. What is about a version that is not there
	// (any more) is passed over. [ErrInvalid] outside the limits. After an error of the
	// context's the counts may have been added.
	AddUsage(ctx context.Context, usage []Usage) error

	// UsageOf returns the usage of a key's versions, the oldest first; of more than
	// [MaxVersions] only the newest. A version that was never used is not among them.
	UsageOf(ctx context.Context, name string) ([]Usage, error)
}

// Validate returns [ErrInvalid] for a usage outside the limits; see [KeyRecord.Validate].
func (u Usage) Validate() error {
	switch {
	case !validName(u.Name) || u.Version == 0:
		return fmt.Errorf("%w: a usage has a key's name and a version from 1", ErrInvalid)
	case u.Count > math.MaxInt64:
		return fmt.Errorf("%w: key %s version %d: the count is above %d", ErrInvalid, u.Name, u.Version, int64(math.MaxInt64))
	case !validTime(u.LastUsed):
		return fmt.Errorf("%w: key %s version %d: the time of use is not within the years 1970 to 9999", ErrInvalid, u.Name, u.Version)
	}
	return nil
}
