package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// foldRows is the number of counters in one statement, most of whose cost does not
// depend on it.
const (
	foldRows = 32
	foldRow  = "(?, ?, ?, ?)"
)

const (
	// Of the row that is known only the ending is read.
	extendRows = `SELECT number, CASE WHEN number > ?1 THEN batch ELSE substr(batch, -4) END FROM counter_journal WHERE number >= ?1 ORDER BY number`

	// The condition and the row are one statement, which has the write lock from its
	// beginning: two writers never both see the same newest number.
	extendNext = `INSERT INTO counter_journal (number, batch) SELECT ?1, ?2
		WHERE ?1 = coalesce((SELECT max(number) FROM counter_journal), 0) + 1
			AND (?3 IS NULL OR EXISTS (SELECT 1 FROM counter_journal WHERE number = ?1 - 1 AND substr(batch, -4) = ?3))`

	foldCounters = `INSERT INTO counters (sequence, counter, receipt, accepted_at) VALUES %s
		ON CONFLICT (sequence) DO UPDATE
		SET counter = excluded.counter, receipt = excluded.receipt, accepted_at = excluded.accepted_at
		WHERE excluded.counter > counters.counter OR excluded.counter = counters.counter AND excluded.receipt <> counters.receipt`
)

// extendStatements are those of [SQLite.ExtendJournal].
type extendStatements struct{ next, rows *sql.Stmt }

// ExtendJournal implements [Counters].
func (s *SQLite) ExtendJournal(
	ctx context.Context, known uint64, ending []byte, each func(number uint64, batch []byte) error, next func(number uint64) ([]byte, error),
) error {
	return s.extender.extend(known, ending, each, next, func(number uint64, batch []byte) (bool, error) {
		if s.closed.Load() {
			return false, s.fail(ErrClosed)
		}
		result, err := s.extend.next.ExecContext(ctx, int64(number), batch, ending)
		if err != nil {
			return false, s.fail(classify(ctx, err))
		}
		n, err := result.RowsAffected()
		if err != nil {
			return false, s.fail(classify(ctx, err))
		}
		return n == 1, nil
	}, func(f *follower) error {
		return s.transaction(ctx, func(tx *sql.Tx) error {
			rows, err := tx.StmtContext(ctx, s.extend.rows).QueryContext(ctx, int64(known))
			if err != nil {
				return err
			}
			if err := eachRow(rows, scanFollowing, f.row); err != nil {
				return err
			}
			batch, err := f.batch()
			switch {
			case err != nil:
				return err
			case batch == nil:
				return errUnchanged
			}
			_, err = tx.StmtContext(ctx, s.extend.next).ExecContext(ctx, int64(f.newest+1), batch, nil)
			return err
		})
	})
}

// Fold implements [Counters]. It is fastest for counters in the order of their
// sequences.
func (s *SQLite) Fold(ctx context.Context, counters ...Counter) error {
	if err := ValidateFold(counters); err != nil {
		return err
	}
	return s.transaction(ctx, func(tx *sql.Tx) error {
		if len(counters) == 0 {
			return errUnchanged
		}
		many, one := tx.StmtContext(ctx, s.foldMany), tx.StmtContext(ctx, s.foldOne)
		args := make([]any, 0, 4*foldRows)
		for len(counters) > 0 {
			statement, n := many, foldRows
			if len(counters) < foldRows {
				statement, n = one, 1
			}
			args = args[:0]
			for _, c := range counters[:n] {
				args = append(args, c.Sequence, int64(c.Counter), notNull(c.Receipt), c.AcceptedAt.UnixMicro())
			}
			if _, err := statement.ExecContext(ctx, args...); err != nil {
				return err
			}
			counters = counters[n:]
		}
		return nil
	})
}

// DeleteReceiptKeys implements [Counters]. SQLite overwrites deleted rows here
// (secure_delete), but only in the pages that it writes from now on; the write-ahead
// log holds older ones until it is emptied.
func (s *SQLite) DeleteReceiptKeys(ctx context.Context, ids ...uint64) error {
	if s.closed.Load() {
		return s.fail(ErrClosed)
	}
	if len(ids) == 0 {
		return nil
	}
	if err := s.transaction(ctx, func(tx *sql.Tx) error { return deleteKeys(ctx, tx, ids) }); err != nil {
		return err
	}
	var busy, frames, moved int64
	if err := s.checkpointer.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved); err != nil {
		return s.fail(classify(ctx, err))
	}
	if busy != 0 {
		return s.fail(fmt.Errorf("%w; until then deleted receipt keys stay in its write-ahead log", ErrLocked))
	}
	return nil
}

// prepareStatements prepares the statements that are used often.
func (s *SQLite) prepareStatements(ctx context.Context) error {
	for _, of := range []struct {
		db         *sql.DB
		statements map[string]*sql.Stmt
		queries    []string
	}{
		{s.readers, s.asked, []string{getKey, listKeys, getVersion, getAlias, getCounter, getPIN, getVoid, getVoidOfCode, getVoidOfRequest, getVoidStanding}},
		{s.writer, s.written, []string{getPIN, updatePIN, missPIN, getVoidOfRequest, getStanding, addVoid, getVoidStanding, changeVoid}},
	} {
		for _, query := range of.queries {
			var err error
			if of.statements[query], err = of.db.PrepareContext(ctx, query); err != nil {
				return classify(ctx, err)
			}
		}
	}
	for _, p := range []struct {
		statement **sql.Stmt
		query     string
	}{
		{&s.extend.rows, extendRows},
		{&s.extend.next, extendNext},
		{&s.foldOne, fmt.Sprintf(foldCounters, foldRow)},
		{&s.foldMany, fmt.Sprintf(foldCounters, strings.Repeat(foldRow+", ", foldRows-1)+foldRow)},
	} {
		var err error
		if *p.statement, err = s.writer.PrepareContext(ctx, p.query); err != nil {
			return classify(ctx, err)
		}
	}
	return nil
}

func (s *SQLite) closeStatements() error {
	errs := []error{s.extend.rows.Close(), s.extend.next.Close(), s.foldOne.Close(), s.foldMany.Close()}
	for _, statements := range []map[string]*sql.Stmt{s.asked, s.written} {
		for _, statement := range statements {
			errs = append(errs, statement.Close())
		}
	}
	return errors.Join(errs...)
}
