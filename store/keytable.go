package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

const (
	// Nothing is inserted under the name of an alias.
	insertKey = `INSERT INTO keys (name, version, state, sealed, created_at) SELECT $1, $2, $3, $4, $5
		WHERE NOT EXISTS (SELECT 1 FROM aliases WHERE alias = $1)`

	replaceKey = insertKey + ` ON CONFLICT (name, version) DO UPDATE
		SET state = excluded.state, sealed = excluded.sealed, created_at = excluded.created_at`

	getKey = `SELECT name, version, state, sealed, created_at FROM keys
		WHERE name = $1 ORDER BY version DESC LIMIT 1`

	listKeys = `SELECT name, version, state, sealed, created_at FROM keys AS k
		WHERE name > $1 AND version = (SELECT max(version) FROM keys WHERE name = k.name)
		ORDER BY name LIMIT $2`
)

// Put implements [Keys].
func (s *tables) Put(ctx context.Context, records ...KeyRecord) error {
	return s.writeAll(ctx, insertKey, records)
}

// Replace implements [Keys].
func (s *tables) Replace(ctx context.Context, records ...KeyRecord) error {
	return s.writeAll(ctx, replaceKey, records)
}

// writeAll carries out the statement for every record in one transaction.
func (s *tables) writeAll(ctx context.Context, statement string, records []KeyRecord) error {
	if err := ValidateAll(records); err != nil {
		return err
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		if len(records) == 0 {
			return errUnchanged
		}
		return s.writeKeys(ctx, tx, statement, records)
	})
}

// Get implements [Keys].
func (s *tables) Get(ctx context.Context, name string) (KeyRecord, error) {
	if !validName(name) {
		return KeyRecord{}, s.none(ctx)
	}
	return one(ctx, s, scan, getKey, name)
}

// List implements [Keys].
func (s *tables) List(ctx context.Context, afterName string, limit int) ([]KeyRecord, error) {
	if err := validLimit(limit, MaxList); err != nil {
		return nil, err
	}
	return collect(ctx, s, scan, listKeys, reachable(afterName), limit)
}

// writeKeys carries out [insertKey] or [replaceKey] for every record.
func (s *tables) writeKeys(ctx context.Context, tx *sql.Tx, statement string, records []KeyRecord) error {
	stmt, err := tx.PrepareContext(ctx, statement)
	if err != nil {
		return err
	}
	for _, r := range records {
		result, err := stmt.ExecContext(ctx, r.Name, int64(r.Version), string(r.State), r.Sealed, r.CreatedAt.UnixMicro())
		if err != nil {
			return fmt.Errorf("key %s version %d: %w", r.Name, r.Version, s.engine.classify(ctx, err))
		}
		if n, err := result.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, fmt.Errorf("key %s version %d: %w: an alias has this name", r.Name, r.Version, ErrExists))
		}
	}
	return nil
}

// scan takes the columns as they come: a conversion that fails in database/sql would
// put the value into its error.
func scan(row scanner) (KeyRecord, error) {
	var column [5]any
	if err := row.Scan(&column[0], &column[1], &column[2], &column[3], &column[4]); err != nil {
		return KeyRecord{}, err
	}
	name, ok0 := column[0].(string)
	version, ok1 := column[1].(int64)
	state, ok2 := column[2].(string)
	sealed, ok3 := column[3].([]byte)
	createdAt, ok4 := column[4].(int64)
	if !ok0 || !ok1 || !ok2 || !ok3 || !ok4 {
		return KeyRecord{}, ErrCorrupt
	}
	return newRecord(name, version, state, sealed, createdAt)
}
