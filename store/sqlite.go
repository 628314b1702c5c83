package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// SQLite is a [Store] in one file. Several processes may have it open; each write
// waits for the others' for at most [BusyTimeout].
type SQLite struct {
	tables

	path    string
	writer  *sql.DB              // one connection: SQLite has one writer, and here the wait obeys the context
	readers *sql.DB              // never write, and never wait for the writer (WAL)
	asked   map[string]*sql.Stmt // of the readers, by their text: queries that are asked often
	written map[string]*sql.Stmt // likewise of the writer
	closed  atomic.Bool

	checkpointer *sql.DB // one connection, with a shorter wait than the writer's

	extender          extender
	extend            extendStatements
	foldOne, foldMany *sql.Stmt
}

var _ Store = (*SQLite)(nil)

// Close implements [Store]. What was written is in the file even without it. A
// second call does nothing.
func (s *SQLite) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	// The writer goes last: its connection moves the write-ahead log into the file.
	err := errors.Join(s.closeStatements(), s.checkpointer.Close(), s.readers.Close(), s.writer.Close())
	if err != nil {
		return fmt.Errorf("store %s: %w", s.path, classify(context.Background(), err))
	}
	return nil
}

// transaction implements [engine]. It has the write lock from its beginning
// (_txlock=immediate).
func (s *SQLite) transaction(ctx context.Context, do func(*sql.Tx) error) error {
	return s.within(ctx, s.writer, do)
}

// unhurried implements [engine].
func (s *SQLite) unhurried(ctx context.Context, do func(*sql.Tx) error) error {
	return s.transaction(ctx, do)
}

// snapshot implements [engine].
func (s *SQLite) snapshot(ctx context.Context, do func(*sql.Tx) error) error {
	return s.within(ctx, s.readers, do)
}

func (s *SQLite) within(ctx context.Context, db *sql.DB, do func(*sql.Tx) error) error {
	if s.closed.Load() {
		return s.fail(ErrClosed)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return s.fail(classify(ctx, err))
	}
	if err := do(tx); err != nil {
		// The first error is the one to report. A connection whose rollback fails is
		// dropped by database/sql, and SQLite undoes what was not committed.
		_ = tx.Rollback()
		if errors.Is(err, errUnchanged) {
			return nil
		}
		return end(ctx, s, err)
	}
	if err := tx.Commit(); err != nil {
		err = s.fail(classify(ctx, err))
		_ = tx.Rollback()
		return err
	}
	return nil
}

// query implements [engine].
func (s *SQLite) query(ctx context.Context, query string, args ...any) (rows *sql.Rows, done func(), err error) {
	if s.closed.Load() {
		return nil, nil, ErrClosed
	}
	if statement, ok := s.asked[query]; ok {
		// They take microseconds: to watch the context costs more than that.
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		rows, err = statement.QueryContext(context.WithoutCancel(ctx), args...)
	} else {
		rows, err = s.readers.QueryContext(ctx, query, args...)
	}
	return rows, func() {}, err
}

// prepared implements [engine].
func (s *SQLite) prepared(query string) *sql.Stmt { return s.written[query] }

// now implements [engine]: the process's clock.
func (s *SQLite) now(context.Context, *sql.Tx) (int64, error) { return time.Now().UnixMicro(), nil }

// classify implements [engine].
func (s *SQLite) classify(ctx context.Context, err error) error { return classify(ctx, err) }

// fail implements [engine]: it names the file.
func (s *SQLite) fail(err error) error {
	if s.closed.Load() {
		err = ErrClosed
	}
	return fmt.Errorf("store %s: %w", s.path, err)
}
