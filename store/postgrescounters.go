package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

var (
	// It does not wait for who has the lock. The newest number may be from before the
	// lock was free: then the row is there already.
	extendPostgres = fmt.Sprintf(`INSERT INTO counter_journal (number, batch) SELECT $1, $2
		WHERE pg_try_advisory_xact_lock(%d, %d) AND $1 = coalesce((SELECT max(number) FROM counter_journal), 0) + 1
			AND ($3::bytea IS NULL OR EXISTS (SELECT 1 FROM counter_journal WHERE number = $1 - 1 AND substr(batch, length(batch) - 3) = $3))
		ON CONFLICT (number) DO NOTHING`, lockClass, journalLock)

	lockJournal = fmt.Sprintf(`SELECT pg_advisory_xact_lock(%d, %d)`, lockClass, journalLock)
)

const (
	// Of the row that is known only the ending is read.
	followPostgres = `SELECT number, CASE WHEN number > $1 THEN batch ELSE substr(batch, length(batch) - 3) END FROM counter_journal WHERE number >= $1 ORDER BY number`

	appendPostgres = `INSERT INTO counter_journal (number, batch) VALUES ($1, $2)`

	// What is kept as it is, is not even locked; and whoever folds the same sequences
	// takes them in the same order.
	foldPostgres = `INSERT INTO counters (sequence, counter, receipt, accepted_at)
		SELECT n.sequence, n.counter, n.receipt, n.accepted_at
		FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::bigint[]) AS n (sequence, counter, receipt, accepted_at)
		LEFT JOIN counters AS c ON c.sequence = n.sequence
		WHERE c.sequence IS NULL OR n.counter > c.counter OR n.counter = c.counter AND n.receipt <> c.receipt
		ORDER BY n.sequence
		ON CONFLICT (sequence) DO UPDATE
		SET counter = excluded.counter, receipt = excluded.receipt, accepted_at = excluded.accepted_at
		WHERE excluded.counter > counters.counter OR excluded.counter = counters.counter AND excluded.receipt <> counters.receipt`
)

// ExtendJournal implements [Counters]. As long as nobody else adds rows it is one trip to the
// server, and otherwise two: the lock with what follows, and the row with its commit.
func (s *Postgres) ExtendJournal(
	ctx context.Context, known uint64, ending []byte, each func(number uint64, batch []byte) error, next func(number uint64) ([]byte, error),
) error {
	return s.extender.extend(known, ending, each, next, func(number uint64, batch []byte) (added bool, err error) {
		err = s.direct(ctx, func(ctx context.Context, c *pgxpool.Conn) error {
			tag, err := c.Exec(ctx, extendPostgres, int64(number), batch, ending)
			added = err == nil && tag.RowsAffected() == 1
			return err
		})
		return added, err
	}, func(f *follower) error {
		return s.direct(ctx, func(ctx context.Context, c *pgxpool.Conn) error { return follow(ctx, c, f) })
	})
}

// direct carries out do on a connection past database/sql. A connection on which something is
// left open is not used again.
func (s *Postgres) direct(ctx context.Context, do func(context.Context, *pgxpool.Conn) error) error {
	if s.closed.Load() {
		return s.fail(ErrClosed)
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := s.pool.Acquire(call)
	if err == nil {
		err = do(call, c)
		c.Release()
	}
	if err != nil {
		return end(ctx, s, err)
	}
	return nil
}

// follow carries out the part of a follower.
func follow(ctx context.Context, c *pgxpool.Conn, f *follower) error {
	lock := &pgx.Batch{}
	lock.Queue("BEGIN")
	lock.Queue(lockJournal)
	lock.Queue(followPostgres, int64(f.known))
	if err := followRows(c.SendBatch(ctx, lock), f); err != nil {
		return errors.Join(err, rollback(ctx, c))
	}
	batch, err := f.batch()
	if err != nil || batch == nil {
		return errors.Join(err, rollback(ctx, c))
	}
	add := &pgx.Batch{}
	add.Queue(appendPostgres, int64(f.newest+1), batch)
	add.Queue("COMMIT")
	results := c.SendBatch(ctx, add)
	_, err = results.Exec()
	if err == nil {
		tag, e := results.Exec()
		if err = e; err == nil && tag.String() != "COMMIT" {
			err = pgx.ErrTxCommitRollback
		}
	}
	if e := results.Close(); err == nil {
		err = e
	}
	return err // a connection that is left in a transaction is closed when it is released
}

// followRows reads the answers to the first trip.
func followRows(results pgx.BatchResults, f *follower) (err error) {
	defer func() {
		if e := results.Close(); err == nil {
			err = e
		}
	}()
	for range 2 {
		if _, err := results.Exec(); err != nil {
			return err
		}
	}
	rows, err := results.Query()
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		r, err := scanFollowing(values{rows})
		if err != nil {
			return err
		}
		if err := f.row(r); err != nil {
			return err
		}
	}
	return rows.Err()
}

// rollback ends a transaction in which nothing was written. Where that fails the connection
// is closed when it is released.
func rollback(ctx context.Context, c *pgxpool.Conn) error {
	if c.Conn().PgConn().TxStatus() == 'I' || c.Conn().IsClosed() {
		return nil
	}
	_, _ = c.Exec(ctx, "ROLLBACK")
	return nil
}

// values is a [scanner] over a row of pgx.
type values struct{ rows pgx.Rows }

// Scan takes the columns as they come.
func (v values) Scan(places ...any) error {
	columns, err := v.rows.Values()
	if err != nil {
		return err
	}
	if len(columns) != len(places) {
		return ErrCorrupt
	}
	for i, c := range columns {
		place, ok := places[i].(*any)
		if !ok {
			return ErrFailed
		}
		*place = c
	}
	return nil
}

// Fold implements [Counters].
func (s *Postgres) Fold(ctx context.Context, counters ...Counter) error {
	if err := ValidateFold(counters); err != nil {
		return err
	}
	sequences, receipts := make([][]byte, len(counters)), make([][]byte, len(counters))
	numbers, times := make([]int64, len(counters)), make([]int64, len(counters))
	for i, c := range counters {
		sequences[i], numbers[i], receipts[i], times[i] = c.Sequence, int64(c.Counter), notNull(c.Receipt), c.AcceptedAt.UnixMicro()
	}
	for try := 0; ; try++ {
		err := s.direct(ctx, func(ctx context.Context, c *pgxpool.Conn) error {
			_, err := c.Exec(ctx, foldPostgres, sequences, numbers, receipts, times)
			return err
		})
		if !errors.Is(err, errUndone) || try >= writeRetries {
			return err
		}
	}
}

// DeleteReceiptKeys implements [Counters]. PostgreSQL does not overwrite: VACUUM gives the
// rows' space free in the table's file, and its write-ahead log, with what is made of it,
// holds them until it is recycled.
func (s *Postgres) DeleteReceiptKeys(ctx context.Context, ids ...uint64) error {
	if len(ids) == 0 {
		return s.engine.transaction(ctx, func(*sql.Tx) error { return errUnchanged })
	}
	if err := s.transaction(ctx, func(tx *sql.Tx) error { return deleteKeys(ctx, tx, ids) }); err != nil {
		return err
	}
	return s.direct(ctx, func(ctx context.Context, c *pgxpool.Conn) error {
		_, err := c.Exec(ctx, "VACUUM receipt_keys")
		return err
	})
}
