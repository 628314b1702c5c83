package store

import (
	"bytes"
	"context"
	"database/sql"
	"math"
	"time"
)

const (
	readJournal = `SELECT number, batch FROM counter_journal ORDER BY number`

	trimJournal = `DELETE FROM counter_journal
		WHERE number <= $1 AND number < (SELECT max(number) FROM counter_journal)`

	getCounter = `SELECT sequence, counter, receipt, accepted_at FROM counters WHERE sequence = $1`

	addReceiptKey = `INSERT INTO receipt_keys (id, key, created_at) VALUES ($1, $2, $3)`

	listReceiptKeys = `SELECT id, key, created_at FROM receipt_keys ORDER BY id LIMIT $1`

	deleteReceiptKey = `DELETE FROM receipt_keys WHERE id = $1`
)

// ReadJournal implements [Counters].
func (s *tables) ReadJournal(ctx context.Context, do func(number uint64, batch []byte) error) error {
	return each(ctx, s, scanRow, func(r JournalRow) error { return do(r.Number, r.Batch) }, readJournal)
}

// TrimJournal implements [Counters].
func (s *tables) TrimJournal(ctx context.Context, through uint64) error {
	return s.engine.transaction(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, trimJournal, int64(min(through, math.MaxInt64)))
		return err
	})
}

// Counter implements [Counters].
func (s *tables) Counter(ctx context.Context, sequence []byte) (Counter, error) {
	if len(sequence) == 0 || len(sequence) > MaxSequence {
		return Counter{}, s.none(ctx)
	}
	c, err := one(ctx, s, scanCounter, getCounter, notNull(sequence))
	if err == nil && !bytes.Equal(c.Sequence, sequence) {
		return Counter{}, s.fail(ErrCorrupt)
	}
	return c, err
}

// AddReceiptKey implements [Counters].
func (s *tables) AddReceiptKey(ctx context.Context, key ReceiptKey) error {
	if err := key.Validate(); err != nil {
		return err
	}
	return s.engine.transaction(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, addReceiptKey, int64(key.ID), key.Key[:], key.CreatedAt.UnixMicro())
		return err
	})
}

// ReceiptKeys implements [Counters].
func (s *tables) ReceiptKeys(ctx context.Context) ([]ReceiptKey, error) {
	return collect(ctx, s, scanReceiptKey, listReceiptKeys, MaxReceiptKeys)
}

// deleteKeys deletes receipt keys within a transaction.
func deleteKeys(ctx context.Context, tx *sql.Tx, ids []uint64) error {
	for _, id := range ids {
		if !validNumber(id) {
			continue // none is kept under it
		}
		if _, err := tx.ExecContext(ctx, deleteReceiptKey, int64(id)); err != nil {
			return err
		}
	}
	return nil
}

// scanCounter takes the columns as they come; see scan.
func scanCounter(row scanner) (Counter, error) {
	column, err := columns(row, 4)
	if err != nil {
		return Counter{}, err
	}
	sequence, ok0 := column[0].([]byte)
	counter, ok1 := column[1].(int64)
	receipt, ok2 := column[2].([]byte)
	at, ok3 := column[3].(int64)
	if !ok0 || !ok1 || !ok2 || !ok3 || counter < 0 || counter > math.MaxUint32 {
		return Counter{}, ErrCorrupt
	}
	c := Counter{Sequence: sequence, Counter: uint32(counter), Receipt: receipt, AcceptedAt: time.UnixMicro(at).UTC()}
	if c.Validate() != nil {
		return Counter{}, ErrCorrupt
	}
	return c, nil
}

// scanReceiptKey takes the columns as they come; see scan.
func scanReceiptKey(row scanner) (ReceiptKey, error) {
	column, err := columns(row, 3)
	if err != nil {
		return ReceiptKey{}, err
	}
	id, ok0 := column[0].(int64)
	value, ok1 := column[1].([]byte)
	at, ok2 := column[2].(int64)
	if !ok0 || !ok1 || !ok2 || id < 1 || len(value) != ReceiptKeySize {
		return ReceiptKey{}, ErrCorrupt
	}
	key := ReceiptKey{ID: uint64(id), Key: [ReceiptKeySize]byte(value), CreatedAt: time.UnixMicro(at).UTC()}
	clear(value)
	if key.Validate() != nil {
		return ReceiptKey{}, ErrCorrupt
	}
	return key, nil
}

// notNull keeps the driver from taking an empty slice for NULL.
func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
