package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
)

// Range is identifiers of initial keys: a prefix and a number, which counts from First to Last.
// With a prefix of 4 bytes an identifier has 8 (AES): prefix, number. With one of 5 it has 10
// (TDES): prefix, number in 19 bits, 21 bits that are 0.
type Range struct {
	Prefix []byte
	First  uint32
	Last   uint32
}

const (
	aesPrefix  = 4 // bytes
	tdesPrefix = 5

	tdesNumbers  = 1 << 19
	tdesCounters = 21 // bits

	takenPage = 1000 // identifiers that are looked at together
)

// InitialKey is an initial key that was allotted.
type InitialKey struct {
	BDK       string // name of the base derivation key
	ID        []byte // 8 or 10 bytes
	Terminal  string // whose it is
	Injection string // the last for which it was allotted
	Confirmed bool   // the terminal has confirmed that it has it
}

// RangeCounter is where a range goes on.
type RangeCounter struct {
	BDK    string
	Prefix []byte // 4 or 5 bytes
	First  uint32 // of the range
	Next   uint64 // no number below it is allotted by the range any more
}

// Validate returns [ErrInvalid] for a range of which there is none.
func (r Range) Validate() error {
	if len(r.Prefix) != aesPrefix && len(r.Prefix) != tdesPrefix || r.Last < r.First || len(r.Prefix) == tdesPrefix && r.Last >= tdesNumbers {
		return fmt.Errorf("%w: a range has a prefix of 4 bytes and numbers of 32 bits, or a prefix of 5 bytes and numbers of 19 bits, from the first to the last", ErrInvalid)
	}
	return nil
}

// ID returns the identifier with a number.
func (r Range) ID(n uint32) []byte {
	if len(r.Prefix) == aesPrefix {
		return binary.BigEndian.AppendUint32(bytes.Clone(r.Prefix), n)
	}
	var rest [8]byte // of which the last 5 bytes are the identifier's
	binary.BigEndian.PutUint64(rest[:], uint64(n)<<tdesCounters)
	return append(bytes.Clone(r.Prefix), rest[3:]...)
}

// Validate returns [ErrInvalid] for an initial key outside the limits; see [KeyRecord.Validate].
func (k InitialKey) Validate() error {
	if !validName(k.BDK) || len(k.ID) != 8 && len(k.ID) != 10 || !validTerminalName(k.Terminal) || !validInjectionID(k.Injection) {
		return fmt.Errorf("%w: an initial key has an identifier of 8 or 10 bytes, and is of a base derivation key, a terminal and an injection", ErrInvalid)
	}
	return nil
}

// Validate returns [ErrInvalid] for a counter outside the limits; see [KeyRecord.Validate].
func (c RangeCounter) Validate() error {
	if !validName(c.BDK) || len(c.Prefix) != aesPrefix && len(c.Prefix) != tdesPrefix || c.Next < uint64(c.First) || c.Next > 1<<32 {
		return fmt.Errorf("%w: the counter of a range is of a base derivation key and a prefix of 4 or 5 bytes, and not below the first number", ErrInvalid)
	}
	return nil
}

const (
	initialColumns = `bdk, id, terminal, injection, confirmed`

	addInitial = `INSERT INTO initial_keys (` + initialColumns + `) VALUES ($1, $2, $3, $4, $5)`

	getInitial = `SELECT ` + initialColumns + ` FROM initial_keys WHERE bdk = $1 AND id = $2`

	moveInitial = `UPDATE initial_keys SET injection = $1 WHERE bdk = $2 AND id = $3`

	confirmInitial = `UPDATE initial_keys SET confirmed = 1 WHERE bdk = $1 AND id = $2`

	takenIDs = `SELECT id FROM initial_keys WHERE bdk = $1 AND id >= $2 AND id <= $3 ORDER BY id LIMIT $4`

	rangeColumns = `bdk, prefix, first, next`

	getRange = `SELECT next FROM initial_key_ranges WHERE bdk = $1 AND prefix = $2 AND first = $3`

	addRange = `INSERT INTO initial_key_ranges (` + rangeColumns + `) VALUES ($1, $2, $3, $4)`

	setRange = addRange + ` ON CONFLICT (bdk, prefix, first) DO UPDATE SET next = excluded.next`
)

// allot makes initial keys a terminal's, within a transaction that is alone in writing.
func allot(ctx context.Context, tx *sql.Tx, terminal, injection string, wanted []Wanted) (keys []AllottedKey, err error) {
	for i := range wanted {
		w := &wanted[i]
		k := AllottedKey{Name: w.Name, BDK: w.BDK, ID: w.Own}
		if w.Own != nil {
			err = allotOwn(ctx, tx, terminal, injection, k)
		} else {
			k.ID, err = allotNext(ctx, tx, terminal, injection, w)
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// allotOwn takes an identifier that the terminal has itself.
func allotOwn(ctx context.Context, tx *sql.Tx, terminal, injection string, k AllottedKey) error {
	there, err := scanInitial(tx.QueryRowContext(ctx, getInitial, k.BDK, k.ID))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		_, err := tx.ExecContext(ctx, addInitial, k.BDK, k.ID, terminal, injection, 0)
		return err
	case err != nil:
		return err
	case there.Terminal != terminal || there.Confirmed:
		return fmt.Errorf("initial key of %s: %w", k.BDK, ErrTaken)
	}
	_, err = tx.ExecContext(ctx, moveInitial, injection, k.BDK, k.ID)
	return err
}

// allotNext takes the next free identifier of a range.
func allotNext(ctx context.Context, tx *sql.Tx, terminal, injection string, w *Wanted) ([]byte, error) {
	next := int64(w.Range.First)
	err := tx.QueryRowContext(ctx, getRange, w.BDK, w.Range.Prefix, int64(w.Range.First)).Scan(&next)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	last := int64(w.Range.Last)
	if skip := int64(w.Skip); next+skip <= last {
		next += skip
	} else if next <= last { // so that what is left of a range is still looked through
		next += (last - next + 1) / 2
	}
	if next, err = nextFree(ctx, tx, w, next); err != nil {
		return nil, err
	}
	if next > last {
		return nil, fmt.Errorf("range of %s: %w", w.BDK, ErrExhausted)
	}
	id := w.Range.ID(uint32(next))
	if _, err := tx.ExecContext(ctx, addInitial, w.BDK, id, terminal, injection, 0); err != nil {
		return nil, err
	}
	_, err = tx.ExecContext(ctx, setRange, w.BDK, w.Range.Prefix, int64(w.Range.First), next+1)
	return id, err
}

// nextFree returns the first number from next on that nobody has: ranges may overlap, and
// terminals bring identifiers of their own.
func nextFree(ctx context.Context, tx *sql.Tx, w *Wanted, next int64) (int64, error) {
	last := int64(w.Range.Last)
	for next <= last {
		rows, err := tx.QueryContext(ctx, takenIDs, w.BDK, w.Range.ID(uint32(next)), w.Range.ID(w.Range.Last), takenPage)
		if err != nil {
			return 0, err
		}
		seen, gap := 0, false
		if err := eachRow(rows, scanID, func(id []byte) error {
			seen++
			switch c := bytes.Compare(w.Range.ID(uint32(next)), id); {
			case gap || next > last:
			case c == 0:
				next++
			case c < 0: // and one behind is an identifier that is no number of the range
				gap = true
			}
			return nil
		}); err != nil {
			return 0, err
		}
		if gap || seen < takenPage {
			return next, nil
		}
	}
	return next, nil
}

func scanID(from scanner) ([]byte, error) {
	r, err := readRow(from, 1)
	if err != nil {
		return nil, err
	}
	id := r.bytes(0)
	return id, r.end(nil)
}

func scanInitial(from scanner) (InitialKey, error) {
	r, err := readRow(from, 5)
	if err != nil {
		return InitialKey{}, err
	}
	k := InitialKey{BDK: r.text(0), ID: r.bytes(1), Terminal: r.text(2), Injection: r.text(3), Confirmed: r.number(4) == 1}
	if err := r.end(k.Validate()); err != nil {
		return InitialKey{}, err
	}
	return k, nil
}

func scanRange(from scanner) (RangeCounter, error) {
	r, err := readRow(from, 4)
	if err != nil {
		return RangeCounter{}, err
	}
	c := RangeCounter{BDK: r.text(0), Prefix: r.bytes(1), First: r.small(2), Next: r.number(3)}
	if err := r.end(c.Validate()); err != nil {
		return RangeCounter{}, err
	}
	return c, nil
}

// validWanted returns [ErrInvalid] for what cannot be allotted.
func validWanted(wanted []Wanted) error {
	if len(wanted) > MaxInjectedKeys {
		return fmt.Errorf("%w: an injection has at most %d initial keys", ErrInvalid, MaxInjectedKeys)
	}
	for _, w := range wanted {
		if w.Own != nil {
			if err := (AllottedKey{w.Name, w.BDK, w.Own}).Validate(); err != nil {
				return err
			}
			continue
		}
		if err := w.Range.Validate(); err != nil {
			return err
		}
		if err := (AllottedKey{w.Name, w.BDK, w.Range.ID(w.Range.First)}).Validate(); err != nil {
			return err
		}
	}
	return nil
}

func validDigest(b []byte) bool { return len(b) == sha256.Size }
