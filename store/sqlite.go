package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
)

// SQLite is a [Store] in one file. Several processes may have it open; each write
// waits for the others' for at most [BusyTimeout].
type SQLite struct {
	path    string
	writer  *sql.DB // one connection: SQLite has one writer, and here the wait obeys the context
	readers *sql.DB // never write, and never wait for the writer (WAL)
	get     *sql.Stmt
	list    *sql.Stmt
	closed  atomic.Bool

	checkpointer *sql.DB // one connection, with a shorter wait than the writer's

	appendJournal     *sql.Stmt
	foldOne, foldMany *sql.Stmt
	counter           *sql.Stmt

	version, alias *sql.Stmt
}

var _ Store = (*SQLite)(nil)

const (
	// Nothing is inserted under the name of an alias.
	insertKey = `INSERT INTO keys (name, version, state, sealed, created_at) SELECT ?1, ?2, ?3, ?4, ?5
		WHERE NOT EXISTS (SELECT 1 FROM aliases WHERE alias = ?1)`

	replaceKey = insertKey + ` ON CONFLICT (name, version) DO UPDATE
		SET state = excluded.state, sealed = excluded.sealed, created_at = excluded.created_at`

	getKey = `SELECT name, version, state, sealed, created_at FROM keys
		WHERE name = ? ORDER BY version DESC LIMIT 1`

	listKeys = `SELECT name, version, state, sealed, created_at FROM keys AS k
		WHERE name > ? AND version = (SELECT max(version) FROM keys WHERE name = k.name)
		ORDER BY name LIMIT ?`
)

// Put implements [Keys].
func (s *SQLite) Put(ctx context.Context, records ...KeyRecord) error {
	return s.write(ctx, insertKey, records)
}

// Replace implements [Keys].
func (s *SQLite) Replace(ctx context.Context, records ...KeyRecord) error {
	return s.write(ctx, replaceKey, records)
}

// Get implements [Keys].
func (s *SQLite) Get(ctx context.Context, name string) (KeyRecord, error) {
	if s.closed.Load() {
		return KeyRecord{}, s.fail(ErrClosed)
	}
	r, err := scan(s.get.QueryRowContext(ctx, name))
	if err != nil {
		return KeyRecord{}, s.fail(classifyRead(ctx, err))
	}
	return r, nil
}

// List implements [Keys].
func (s *SQLite) List(ctx context.Context, afterName string, limit int) (records []KeyRecord, err error) {
	if err := validLimit(limit, MaxList); err != nil {
		return nil, err
	}
	if s.closed.Load() {
		return nil, s.fail(ErrClosed)
	}
	rows, err := s.list.QueryContext(ctx, afterName, limit)
	if err != nil {
		return nil, s.fail(classifyRead(ctx, err))
	}
	return gather(ctx, s, rows, scan)
}

// Close implements [Store]. What was written is in the file even without it. A
// second call does nothing.
func (s *SQLite) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	// The writer goes last: its connection moves the write-ahead log into the file.
	err := errors.Join(s.get.Close(), s.list.Close(), s.version.Close(), s.alias.Close(), s.closeCounters(), s.readers.Close(), s.writer.Close())
	if err != nil {
		return fmt.Errorf("store %s: %w", s.path, classify(context.Background(), err))
	}
	return nil
}

// write carries out the statement for every record in one transaction.
func (s *SQLite) write(ctx context.Context, statement string, records []KeyRecord) error {
	if err := ValidateAll(records); err != nil {
		return err
	}
	if s.closed.Load() {
		return s.fail(ErrClosed)
	}
	if len(records) == 0 {
		return nil
	}
	return s.transaction(ctx, func(tx *sql.Tx) error { return writeKeys(ctx, tx, statement, records) })
}

// writeKeys carries out [insertKey] or [replaceKey] for every record.
func writeKeys(ctx context.Context, tx *sql.Tx, statement string, records []KeyRecord) error {
	stmt, err := tx.PrepareContext(ctx, statement)
	if err != nil {
		return classify(ctx, err)
	}
	for _, r := range records {
		result, err := stmt.ExecContext(ctx, r.Name, int64(r.Version), string(r.State), r.Sealed, r.CreatedAt.UnixMicro())
		if err != nil {
			return fmt.Errorf("key %s version %d: %w", r.Name, r.Version, classify(ctx, err))
		}
		if n, err := result.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, fmt.Errorf("key %s version %d: %w: an alias has this name", r.Name, r.Version, ErrExists))
		}
	}
	return nil
}

// fail names the file. Whatever fails after Close fails because of it.
func (s *SQLite) fail(err error) error {
	if s.closed.Load() {
		err = ErrClosed
	}
	return fmt.Errorf("store %s: %w", s.path, err)
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

// classifyRead is [classify] for a row that is missing or outside the limits.
func classifyRead(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	case errors.Is(err, ErrCorrupt):
		return ErrCorrupt
	}
	return classify(ctx, err)
}
