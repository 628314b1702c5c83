package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Times of [Postgres]. No call hangs: neither a server nor a network that falls silent.
const (
	callTimeout  = 10 * time.Second // a call of the store, but for those that hand out or take many rows
	silence      = 10 * time.Second // the server says nothing while something is awaited from it
	dialTimeout  = 3 * time.Second  // a connection to one host, until it is ready
	lockTimeout  = BusyTimeout      // another's lock
	idleTimeout  = 30 * time.Second // a transaction of which nothing more comes: the server ends it
	streamPause  = 10 * time.Minute // likewise while a backup is read or written
	writeRetries = 3                // of a transaction that a conflict ended before it was committed
)

// writeLock is held by transactions that write what [tables] keeps, journalLock by those that
// append to the journal. Both are advisory locks of the database, in keyd's class.
const (
	lockClass   = 0x6b796431 // "kyd1"
	writeLock   = 1
	journalLock = 2
	schemaLock  = 3
)

// Postgres is a [Store] in a PostgreSQL database, in the schema keyd. Several fronts work on
// one database. The server may go away and come back: calls fail meanwhile, within a time of
// their own, and work again afterwards.
type Postgres struct {
	tables

	name     string // for errors: the hosts and the database
	pool     *pgxpool.Pool
	db       *sql.DB // over the pool
	extender extender
	closed   atomic.Bool
}

var _ Store = (*Postgres)(nil)

// Close implements [Store]. A second call does nothing.
func (s *Postgres) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	err := s.db.Close()
	s.pool.Close() // waits for running calls, which end by themselves
	if err != nil {
		return fmt.Errorf("store %s: %w", s.name, classifyPostgres(context.Background(), err))
	}
	return nil
}

// transaction implements [engine]. Whoever writes has the lock alone, and then each statement
// sees what was committed before: nothing conflicts, and nothing has to be repeated but for
// the server's own reasons.
func (s *Postgres) transaction(ctx context.Context, do func(*sql.Tx) error) error {
	for try := 0; ; try++ {
		err := s.within(ctx, &sql.TxOptions{}, callTimeout, do, lockStatement, writeLock)
		if try < writeRetries && errors.Is(err, errUndone) && ctx.Err() == nil {
			continue
		}
		return err
	}
}

// lockStatement waits for one of keyd's locks, which goes with the transaction.
var lockStatement = fmt.Sprintf(`SELECT pg_advisory_xact_lock(%d, $1)`, lockClass)

// snapshot implements [engine].
func (s *Postgres) snapshot(ctx context.Context, do func(*sql.Tx) error) error {
	return s.within(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}, 0, do, noHurry)
}

// unhurried implements [engine].
func (s *Postgres) unhurried(ctx context.Context, do func(*sql.Tx) error) error {
	return s.within(ctx, &sql.TxOptions{}, 0, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, lockStatement, writeLock); err != nil {
			return err
		}
		return do(tx)
	}, noHurry)
}

// noHurry lets a transaction last as long as its caller takes, as long as something happens.
var noHurry = fmt.Sprintf("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = %d", streamPause.Milliseconds())

// within carries out do in a transaction of at most that time, 0 for any, after a first
// statement.
func (s *Postgres) within(ctx context.Context, o *sql.TxOptions, limit time.Duration, do func(*sql.Tx) error, first string, args ...any) error {
	if s.closed.Load() {
		return s.fail(ErrClosed)
	}
	call := ctx
	if limit > 0 {
		var cancel context.CancelFunc
		call, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	tx, err := s.begin(ctx, call, o, first, args)
	if errors.Is(err, errLost) {
		tx, err = s.begin(ctx, call, o, first, args) // it was lost while it was idle
	}
	if err != nil {
		return s.fail(err)
	}
	if err := do(tx); err != nil {
		// The first error is the one to report. A connection whose rollback fails is
		// dropped, and the server undoes what was not committed.
		_ = tx.Rollback()
		if errors.Is(err, errUnchanged) {
			return nil
		}
		return end(ctx, s, err)
	}
	if err := tx.Commit(); err != nil {
		return s.fail(s.classify(ctx, err)) // it may have been committed
	}
	return nil
}

// begin begins a transaction with its first statement. The error is classified.
func (s *Postgres) begin(ctx, call context.Context, o *sql.TxOptions, first string, args []any) (*sql.Tx, error) {
	tx, err := s.db.BeginTx(call, o)
	if err != nil {
		return nil, s.classify(ctx, err)
	}
	if _, err := tx.ExecContext(call, first, args...); err != nil {
		_ = tx.Rollback()
		return nil, s.classify(ctx, err)
	}
	return tx, nil
}

// query implements [engine].
func (s *Postgres) query(ctx context.Context, query string, args ...any) (rows *sql.Rows, done func(), err error) {
	if s.closed.Load() {
		return nil, nil, ErrClosed
	}
	limit := callTimeout
	if query == readJournal {
		limit = streamPause
	}
	call, cancel := context.WithTimeout(ctx, limit)
	// The first row is there when this returns.
	if rows, err = s.db.QueryContext(call, query, args...); err != nil {
		if err = s.classify(ctx, err); errors.Is(err, errLost) {
			rows, err = s.db.QueryContext(call, query, args...) // it was lost while it was idle
		}
	}
	if err != nil {
		cancel()
		return nil, nil, err
	}
	return rows, cancel, nil
}

// prepared implements [engine]: the driver prepares each statement once for each connection.
func (s *Postgres) prepared(string) *sql.Stmt { return nil }

// now implements [engine]: the server's clock.
func (s *Postgres) now(ctx context.Context, tx *sql.Tx) (micros int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint`).Scan(&micros)
	return micros, err
}

// classify implements [engine]. Connections to a server that does not answer, or that takes no
// writes any more, are not used again.
func (s *Postgres) classify(ctx context.Context, err error) error {
	err = classifyPostgres(ctx, err)
	if errors.Is(err, ErrUnreachable) || errors.Is(err, ErrReadOnly) {
		s.pool.Reset()
	}
	return err
}

// fail implements [engine]: it names the server and the database.
func (s *Postgres) fail(err error) error {
	if s.closed.Load() {
		err = ErrClosed
	}
	return fmt.Errorf("store %s: %w", s.name, err)
}
