package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// foldRows is the number of counters in one statement, most of whose cost does not
// depend on it.
const (
	foldRows = 32
	foldRow  = "(?, ?, ?, ?)"
)

const (
	// The condition and the row are one statement, which has the write lock from its
	// beginning: two writers never both see the same newest number.
	appendJournal = `INSERT INTO counter_journal (number, batch) SELECT ?1, ?2
		WHERE ?1 = coalesce((SELECT max(number) FROM counter_journal), 0) + 1`

	readJournal = `SELECT number, batch FROM counter_journal ORDER BY number`

	trimJournal = `DELETE FROM counter_journal
		WHERE number <= ? AND number < (SELECT max(number) FROM counter_journal)`

	foldCounters = `INSERT INTO counters (sequence, counter, receipt, accepted_at) VALUES %s
		ON CONFLICT (sequence) DO UPDATE
		SET counter = excluded.counter, receipt = excluded.receipt, accepted_at = excluded.accepted_at
		WHERE excluded.counter >= counters.counter`

	getCounter = `SELECT counter, receipt, accepted_at FROM counters WHERE sequence = ?`

	addReceiptKey = `INSERT INTO receipt_keys (id, key, created_at) VALUES (?, ?, ?)`

	listReceiptKeys = `SELECT id, key, created_at FROM receipt_keys ORDER BY id LIMIT ?`

	deleteReceiptKey = `DELETE FROM receipt_keys WHERE id = ?`
)

// AppendJournal implements [Counters].
func (s *SQLite) AppendJournal(ctx context.Context, number uint64, batch []byte) error {
	if err := ValidateBatch(number, batch); err != nil {
		return err
	}
	if s.closed.Load() {
		return s.fail(ErrClosed)
	}
	result, err := s.appendJournal.ExecContext(ctx, int64(number), batch)
	if err != nil {
		return s.fail(classify(ctx, err))
	}
	n, err := result.RowsAffected()
	switch {
	case err != nil:
		return s.fail(classify(ctx, err))
	case n != 1:
		return s.fail(errJournal)
	}
	return nil
}

// ReadJournal implements [Counters].
func (s *SQLite) ReadJournal(ctx context.Context, each func(number uint64, batch []byte) error) (err error) {
	if s.closed.Load() {
		return s.fail(ErrClosed)
	}
	rows, err := s.readers.QueryContext(ctx, readJournal)
	if err != nil {
		return s.fail(classifyRead(ctx, err))
	}
	defer func() {
		if e := rows.Close(); err == nil && e != nil {
			err = s.fail(classifyRead(ctx, e))
		}
	}()
	for rows.Next() {
		var column [2]any // see scan
		if err := rows.Scan(&column[0], &column[1]); err != nil {
			return s.fail(classifyRead(ctx, err))
		}
		number, ok0 := column[0].(int64)
		batch, ok1 := column[1].([]byte)
		if !ok0 || !ok1 || number < 1 || ValidateBatch(uint64(number), batch) != nil {
			return s.fail(ErrCorrupt)
		}
		if err := each(uint64(number), batch); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return s.fail(classifyRead(ctx, err))
	}
	return nil
}

// TrimJournal implements [Counters].
func (s *SQLite) TrimJournal(ctx context.Context, through uint64) error {
	if s.closed.Load() {
		return s.fail(ErrClosed)
	}
	if _, err := s.writer.ExecContext(ctx, trimJournal, int64(min(through, math.MaxInt64))); err != nil {
		return s.fail(classify(ctx, err))
	}
	return nil
}

// Fold implements [Counters]. It is fastest for counters in the order of their
// sequences.
func (s *SQLite) Fold(ctx context.Context, counters ...Counter) error {
	if err := ValidateFold(counters); err != nil {
		return err
	}
	if s.closed.Load() {
		return s.fail(ErrClosed)
	}
	if len(counters) == 0 {
		return nil
	}
	return s.transaction(ctx, func(tx *sql.Tx) error {
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

// Counter implements [Counters].
func (s *SQLite) Counter(ctx context.Context, sequence []byte) (Counter, error) {
	if s.closed.Load() {
		return Counter{}, s.fail(ErrClosed)
	}
	var column [3]any // see scan
	// Reading one row takes microseconds: to watch the context costs more than that.
	if ctx.Err() != nil {
		return Counter{}, s.fail(ctx.Err())
	}
	ctx = context.WithoutCancel(ctx)
	if err := s.counter.QueryRowContext(ctx, notNull(sequence)).Scan(&column[0], &column[1], &column[2]); err != nil {
		return Counter{}, s.fail(classifyRead(ctx, err))
	}
	counter, ok0 := column[0].(int64)
	receipt, ok1 := column[1].([]byte)
	at, ok2 := column[2].(int64)
	if !ok0 || !ok1 || !ok2 || counter < 0 || counter > math.MaxUint32 {
		return Counter{}, s.fail(ErrCorrupt)
	}
	c := Counter{Sequence: bytes.Clone(sequence), Counter: uint32(counter), Receipt: receipt, AcceptedAt: time.UnixMicro(at).UTC()}
	if c.Validate() != nil {
		return Counter{}, s.fail(ErrCorrupt)
	}
	return c, nil
}

// AddReceiptKey implements [Counters].
func (s *SQLite) AddReceiptKey(ctx context.Context, key ReceiptKey) error {
	if err := key.Validate(); err != nil {
		return err
	}
	if s.closed.Load() {
		return s.fail(ErrClosed)
	}
	if _, err := s.writer.ExecContext(ctx, addReceiptKey, int64(key.ID), key.Key[:], key.CreatedAt.UnixMicro()); err != nil {
		return s.fail(classify(ctx, err))
	}
	return nil
}

// ReceiptKeys implements [Counters].
func (s *SQLite) ReceiptKeys(ctx context.Context) (keys []ReceiptKey, err error) {
	if s.closed.Load() {
		return nil, s.fail(ErrClosed)
	}
	rows, err := s.readers.QueryContext(ctx, listReceiptKeys, MaxReceiptKeys)
	if err != nil {
		return nil, s.fail(classifyRead(ctx, err))
	}
	defer func() {
		if e := rows.Close(); err == nil && e != nil {
			keys, err = nil, s.fail(classifyRead(ctx, e))
		}
	}()
	for rows.Next() {
		var column [3]any // see scan
		if err := rows.Scan(&column[0], &column[1], &column[2]); err != nil {
			return nil, s.fail(classifyRead(ctx, err))
		}
		id, ok0 := column[0].(int64)
		value, ok1 := column[1].([]byte)
		at, ok2 := column[2].(int64)
		if !ok0 || !ok1 || !ok2 || id < 1 || len(value) != ReceiptKeySize {
			return nil, s.fail(ErrCorrupt)
		}
		key := ReceiptKey{ID: uint64(id), Key: [ReceiptKeySize]byte(value), CreatedAt: time.UnixMicro(at).UTC()}
		clear(value)
		if key.Validate() != nil {
			return nil, s.fail(ErrCorrupt)
		}
		keys = append(keys, key)
	}
	if err := rows.Err(); err != nil {
		return nil, s.fail(classifyRead(ctx, err))
	}
	return keys, nil
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
	err := s.transaction(ctx, func(tx *sql.Tx) error {
		for _, id := range ids {
			if !validNumber(id) {
				continue // none is kept under it
			}
			if _, err := tx.ExecContext(ctx, deleteReceiptKey, int64(id)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
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

// prepareCounters prepares the statements that are used often.
func (s *SQLite) prepareCounters(ctx context.Context) error {
	for _, p := range []struct {
		statement **sql.Stmt
		db        *sql.DB
		query     string
	}{
		{&s.appendJournal, s.writer, appendJournal},
		{&s.foldOne, s.writer, fmt.Sprintf(foldCounters, foldRow)},
		{&s.foldMany, s.writer, fmt.Sprintf(foldCounters, strings.Repeat(foldRow+", ", foldRows-1)+foldRow)},
		{&s.counter, s.readers, getCounter},
	} {
		var err error
		if *p.statement, err = p.db.PrepareContext(ctx, p.query); err != nil {
			return classify(ctx, err)
		}
	}
	return nil
}

func (s *SQLite) closeCounters() error {
	return errors.Join(s.appendJournal.Close(), s.foldOne.Close(), s.foldMany.Close(), s.counter.Close(), s.checkpointer.Close())
}

// notNull keeps the driver from taking an empty slice for NULL.
func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
