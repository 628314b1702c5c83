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
}

var _ Store = (*SQLite)(nil)

const (
	insertKey = `INSERT INTO keys (name, version, state, sealed, created_at) VALUES (?, ?, ?, ?, ?)`

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
	if limit < 1 || limit > MaxList {
		return nil, fmt.Errorf("%w: a list has 1 to %d records", ErrInvalid, MaxList)
	}
	if s.closed.Load() {
		return nil, s.fail(ErrClosed)
	}
	rows, err := s.list.QueryContext(ctx, afterName, limit)
	if err != nil {
		return nil, s.fail(classifyRead(ctx, err))
	}
	defer func() {
		if e := rows.Close(); err == nil && e != nil {
			records, err = nil, s.fail(classifyRead(ctx, e))
		}
	}()
	for rows.Next() {
		r, err := scan(rows)
		if err != nil {
			return nil, s.fail(classifyRead(ctx, err))
		}
		records = append(records, r)
	}
	if err := rows.Err(); err != nil {
		return nil, s.fail(classifyRead(ctx, err))
	}
	return records, nil
}

// Close implements [Store]. What was written is in the file even without it. A
// second call does nothing.
func (s *SQLite) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	// The writer goes last: its connection moves the write-ahead log into the file.
	err := errors.Join(s.get.Close(), s.list.Close(), s.closeCounters(), s.readers.Close(), s.writer.Close())
	if err != nil {
		return fmt.Errorf("store %s: %w", s.path, classify(context.Background(), err))
	}
	return nil
}

// write carries out the statement for every record in one transaction, which has the
// write lock from its beginning (_txlock=immediate).
func (s *SQLite) write(ctx context.Context, statement string, records []KeyRecord) (err error) {
	if err := ValidateAll(records); err != nil {
		return err
	}
	if s.closed.Load() {
		return s.fail(ErrClosed)
	}
	if len(records) == 0 {
		return nil
	}
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return s.fail(classify(ctx, err))
	}
	defer func() {
		if err != nil {
			// The first error is the one to report. A connection whose
			// rollback fails is dropped by database/sql, and SQLite
			// undoes what was not committed.
			_ = tx.Rollback()
		}
	}()
	stmt, err := tx.PrepareContext(ctx, statement)
	if err != nil {
		return s.fail(classify(ctx, err))
	}
	for _, r := range records {
		_, err := stmt.ExecContext(ctx, r.Name, int64(r.Version), string(r.State), r.Sealed, r.CreatedAt.UnixMicro())
		if err != nil {
			return s.fail(fmt.Errorf("key %s version %d: %w", r.Name, r.Version, classify(ctx, err)))
		}
	}
	if err := tx.Commit(); err != nil {
		return s.fail(classify(ctx, err))
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
func scan(row interface{ Scan(...any) error }) (KeyRecord, error) {
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
