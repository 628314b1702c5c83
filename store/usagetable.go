package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"time"
)

const (
	// A sum that would not fit stays at the largest number that does.
	addUsage = `INSERT INTO key_usage (name, version, uses, last_used) SELECT $1, $2, $3, $4
		WHERE EXISTS (SELECT 1 FROM keys WHERE name = $1 AND version = $2)
		ON CONFLICT (name, version) DO UPDATE
		SET uses = CASE WHEN excluded.uses > 9223372036854775807 - key_usage.uses THEN 9223372036854775807 ELSE key_usage.uses + excluded.uses END,
			last_used = CASE WHEN excluded.last_used > key_usage.last_used THEN excluded.last_used ELSE key_usage.last_used END`

	usageOf = `SELECT name, version, uses, last_used FROM key_usage WHERE name = $1 ORDER BY version DESC LIMIT $2`
)

// AddUsage implements [Uses].
func (s *tables) AddUsage(ctx context.Context, usage []Usage) error {
	if len(usage) > MaxUsage {
		return fmt.Errorf("%w: at most %d counts are added at once", ErrInvalid, MaxUsage)
	}
	for _, u := range usage {
		if err := u.Validate(); err != nil {
			return err
		}
	}
	return s.engine.transaction(ctx, func(tx *sql.Tx) error {
		stmt, err := tx.PrepareContext(ctx, addUsage)
		if err != nil {
			return err
		}
		for _, u := range usage {
			if _, err := stmt.ExecContext(ctx, u.Name, int64(u.Version), int64(u.Count), u.LastUsed.UnixMicro()); err != nil {
				return err
			}
		}
		return nil
	})
}

// UsageOf implements [Uses].
func (s *tables) UsageOf(ctx context.Context, name string) ([]Usage, error) {
	found, err := collect(ctx, s, scanUsage, usageOf, reachable(name), MaxVersions)
	slices.Reverse(found)
	return found, err
}

// scanUsage takes the columns as they come; see scan.
func scanUsage(row scanner) (Usage, error) {
	column, err := columns(row, 4)
	if err != nil {
		return Usage{}, err
	}
	name, ok0 := column[0].(string)
	version, ok1 := column[1].(int64)
	count, ok2 := column[2].(int64)
	lastUsed, ok3 := column[3].(int64)
	if !ok0 || !ok1 || !ok2 || !ok3 || version < 1 || version > math.MaxUint32 || count < 0 {
		return Usage{}, ErrCorrupt
	}
	u := Usage{name, uint32(version), uint64(count), time.UnixMicro(lastUsed).UTC()}
	if u.Validate() != nil {
		return Usage{}, ErrCorrupt
	}
	return u, nil
}
