package store

import (
	"context"
	"database/sql"
	"fmt"
)

// transaction carries out do in one transaction, which has the write lock from its
// beginning (_txlock=immediate). An error of do is classified, unless it is already; after
// it nothing has changed.
func (s *SQLite) transaction(ctx context.Context, do func(*sql.Tx) error) error {
	if s.closed.Load() {
		return s.fail(ErrClosed)
	}
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return s.fail(classify(ctx, err))
	}
	if err := do(tx); err != nil {
		if !classified(err) {
			err = classify(ctx, err)
		}
		err = s.fail(err)
		// The first error is the one to report. A connection whose rollback fails is
		// dropped by database/sql, and SQLite undoes what was not committed.
		_ = tx.Rollback()
		return err
	}
	if err := tx.Commit(); err != nil {
		err = s.fail(classify(ctx, err))
		_ = tx.Rollback()
		return err
	}
	return nil
}

// exists reports whether a query has an answer.
func exists(ctx context.Context, tx *sql.Tx, query string, args ...any) (bool, error) {
	var found int64
	err := tx.QueryRowContext(ctx, "SELECT EXISTS ("+query+")", args...).Scan(&found)
	return found == 1, err
}

// scanner is one row.
type scanner interface{ Scan(...any) error }

// columns reads a row of n columns as they come; see scan.
func columns(row scanner, n int) ([]any, error) {
	values, places := make([]any, n), make([]any, n)
	for i := range values {
		places[i] = &values[i]
	}
	if err := row.Scan(places...); err != nil {
		return nil, err
	}
	return values, nil
}

// collect reads what a query answers, row by row.
func collect[T any](ctx context.Context, s *SQLite, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	if s.closed.Load() {
		return nil, s.fail(ErrClosed)
	}
	rows, err := s.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, s.fail(classifyRead(ctx, err))
	}
	return gather(ctx, s, rows, scan)
}

// gather reads rows and closes them.
func gather[T any](ctx context.Context, s *SQLite, rows *sql.Rows, scan func(scanner) (T, error)) (found []T, err error) {
	defer func() {
		if e := rows.Close(); err == nil && e != nil {
			found, err = nil, s.fail(classifyRead(ctx, e))
		}
	}()
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, s.fail(classifyRead(ctx, err))
		}
		found = append(found, one)
	}
	if err := rows.Err(); err != nil {
		return nil, s.fail(classifyRead(ctx, err))
	}
	return found, nil
}

// validLimit returns [ErrInvalid] for a list that nobody can ask for.
func validLimit(limit, most int) error {
	if limit < 1 || limit > most {
		return fmt.Errorf("%w: a list has 1 to %d records", ErrInvalid, most)
	}
	return nil
}
