package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
)

const (
	getVersion = `SELECT name, version, state, sealed, created_at FROM keys WHERE name = $1 AND version = $2`

	newestVersions = `SELECT name, version, state, sealed, created_at FROM keys
		WHERE name = $1 ORDER BY version DESC LIMIT $2`

	listVersions = `SELECT name, version, state, sealed, created_at FROM keys
		WHERE (name, version) > ($1, $2) ORDER BY name, version LIMIT $3`

	replaceSealed = `UPDATE keys SET sealed = $1 WHERE name = $2 AND version = $3 AND sealed = $4`
)

// Version implements [Keys].
func (s *tables) Version(ctx context.Context, name string, version uint32) (KeyRecord, error) {
	if !validName(name) {
		return KeyRecord{}, s.none(ctx)
	}
	return one(ctx, s, scan, getVersion, name, int64(version))
}

// Versions implements [Keys].
func (s *tables) Versions(ctx context.Context, name string) ([]KeyRecord, error) {
	found, err := collect(ctx, s, scan, newestVersions, reachable(name), MaxVersions)
	slices.Reverse(found)
	return found, err
}

// ListVersions implements [Keys].
func (s *tables) ListVersions(ctx context.Context, afterName string, afterVersion uint32, limit int) ([]KeyRecord, error) {
	if err := validLimit(limit, MaxList); err != nil {
		return nil, err
	}
	return collect(ctx, s, scan, listVersions, reachable(afterName), int64(afterVersion), limit)
}

// ReplaceSealed implements [Keys].
func (s *tables) ReplaceSealed(ctx context.Context, name string, version uint32, old, new []byte) error {
	if len(new) == 0 || len(new) > MaxSealed {
		return fmt.Errorf("%w: a sealed key has 1 to %d bytes", ErrInvalid, MaxSealed)
	}
	if !validName(name) {
		return s.none(ctx)
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, replaceSealed, new, name, int64(version), notNull(old))
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 1 {
			return err
		}
		there, err := exists(ctx, tx, getVersion, name, int64(version))
		switch {
		case err != nil:
			return err
		case !there:
			return ErrNotFound
		}
		return fmt.Errorf("key %s version %d: %w", name, version, ErrConflict)
	})
}

// Purge implements [Keys].
func (s *tables) Purge(ctx context.Context, versions ...KeyVersion) error {
	if err := validVersions(versions); err != nil {
		return err
	}
	return s.change(ctx, func(tx *sql.Tx) error { return purge(ctx, tx, versions) })
}

func validVersions(versions []KeyVersion) error {
	for _, v := range versions {
		if !validName(v.Name) || v.Version == 0 {
			return fmt.Errorf("%w: a key has a name of 1 to %d printable ASCII characters without spaces, and versions from 1", ErrInvalid, MaxName)
		}
	}
	return nil
}

// purge deletes versions within a transaction.
func purge(ctx context.Context, tx *sql.Tx, versions []KeyVersion) error {
	for _, v := range versions {
		if _, err := tx.ExecContext(ctx, purgeKey, v.Name, int64(v.Version)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, purgeUsage, v.Name, int64(v.Version)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, purgeTags, v.Name); err != nil {
			return err
		}
	}
	return nil
}
