package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	pinColumns = `subject, kind, merchant, terminal, name, version, state, tries, tries_left, series, record, approval, pending, code, code_tries_left,
		code_expires_at, not_after, events, revision, created_at, changed_at`

	addPIN = `INSERT INTO pin_records (` + pinColumns + `)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)`

	// updatePIN changes what was read, or nothing.
	updatePIN = `UPDATE pin_records SET version = $1, state = $2, tries = $3, tries_left = $4, series = $5, record = $6, approval = $7, pending = $8, code = $9,
		code_tries_left = $10, code_expires_at = $11, not_after = $12, events = $13, revision = $14, changed_at = $15 WHERE subject = $16 AND revision = $17`

	getPIN = `SELECT ` + pinColumns + ` FROM pin_records WHERE subject = $1`

	getPINOfLink = `SELECT ` + pinColumns + ` FROM pin_records WHERE length(approval) > 0 AND approval BETWEEN $1 AND $2 ORDER BY approval LIMIT 1`

	listPINs = `SELECT ` + pinColumns + ` FROM pin_records WHERE merchant = $1 AND subject > $2 ORDER BY subject LIMIT $3`

	listAllPINs = `SELECT ` + pinColumns + ` FROM pin_records WHERE subject > $1 ORDER BY subject LIMIT $2`

	missPIN = `UPDATE pin_misses SET misses = misses + 1`

	pinEventColumns = `subject, number, kind, actor, detail, request, at`

	addPINEvent = `INSERT INTO pin_events (` + pinEventColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7)`

	listPINEvents = `SELECT ` + pinEventColumns + ` FROM pin_events WHERE subject = $1 AND number > $2 ORDER BY number LIMIT $3`

	getPINRequest = `SELECT ` + pinEventColumns + ` FROM pin_events WHERE request = $1 AND length(request) > 0`

	hasPINEvents = `SELECT 1 FROM pin_records WHERE subject = $1 AND events >= $2`
)

// AddPINRecord implements [PINRecords].
func (s *tables) AddPINRecord(ctx context.Context, r PINRecord, e PINEvent) error {
	r.Events, r.Revision, e.Subject, e.Number = 1, 1, r.Subject, 1
	if err := errors.Join(r.Validate(), e.Validate()); err != nil {
		return err
	}
	return s.engine.transaction(ctx, func(tx *sql.Tx) error {
		there, err := exists(ctx, tx, getPIN, r.Subject)
		switch {
		case err != nil:
			return err
		case there:
			return fmt.Errorf("a PIN record: %w", ErrExists)
		}
		if _, err := tx.ExecContext(ctx, addPIN, pinValues(&r)...); err != nil {
			return err
		}
		return insertPINEvent(ctx, tx, &e)
	})
}

// UpdatePINRecord implements [PINRecords].
func (s *tables) UpdatePINRecord(ctx context.Context, r PINRecord, e *PINEvent) (PINRecord, error) {
	if err := r.Validate(); err != nil {
		return PINRecord{}, err
	}
	var kept PINRecord
	err := s.engine.transaction(ctx, func(tx *sql.Tx) error {
		stored, err := s.storedPIN(ctx, tx, r.Subject)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("a PIN record: %w", ErrNotFound)
		case err != nil:
			return err
		case stored.Revision != r.Revision, stored.Kind != r.Kind, stored.Merchant != r.Merchant, stored.Terminal != r.Terminal, stored.Name != r.Name,
			stored.CreatedAt.UnixMicro() != r.CreatedAt.UnixMicro(), stored.Version > r.Version:
			return fmt.Errorf("a PIN record: %w", ErrConflict)
		}
		kept = r
		kept.Events = stored.Events
		return s.writePIN(ctx, tx, &kept, e)
	})
	if err != nil {
		return PINRecord{}, err
	}
	return kept, nil
}

// TakePINTry implements [PINRecords].
func (s *tables) TakePINTry(ctx context.Context, subject []byte, now time.Time, e PINEvent) (r PINRecord, taken bool, err error) {
	return s.takePIN(ctx, subject, func(r *PINRecord) (bool, *PINEvent) {
		if !r.Usable(now) {
			return false, nil
		}
		if r.TriesLeft--; r.TriesLeft > 0 {
			return true, nil
		}
		r.State = PINBlocked
		return true, &e
	})
}

// TakePINCode implements [PINRecords].
func (s *tables) TakePINCode(ctx context.Context, subject []byte, now time.Time) (r PINRecord, taken bool, err error) {
	return s.takePIN(ctx, subject, func(r *PINRecord) (bool, *PINEvent) {
		if !r.Settable(now) {
			return false, nil
		}
		r.CodeTriesLeft--
		return true, nil
	})
}

// takePIN takes a try in one transaction, which counts a miss where there is none to take.
func (s *tables) takePIN(ctx context.Context, subject []byte, take func(*PINRecord) (bool, *PINEvent)) (r PINRecord, taken bool, err error) {
	if len(subject) != sha256.Size {
		return PINRecord{}, false, fmt.Errorf("%w: a subject's digest has %d bytes", ErrInvalid, sha256.Size)
	}
	err = s.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		stored, err := s.storedPIN(ctx, tx, subject)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		var e *PINEvent
		if taken = false; err == nil {
			taken, e = take(&stored)
		}
		if !taken {
			_, err := s.exec(ctx, tx, missPIN)
			return err
		}
		r = stored
		return s.writePIN(ctx, tx, &r, e)
	})
	if err != nil || !taken {
		return PINRecord{}, false, err
	}
	return r, true, nil
}

// GivePINTry implements [PINRecords].
func (s *tables) GivePINTry(ctx context.Context, taken PINRecord, all bool, e PINEvent) error {
	return s.givePIN(ctx, &taken, func(r *PINRecord) (bool, *PINEvent) {
		if r.State != PINActive && r.State != PINBlocked || r.Series != taken.Series || r.TriesLeft >= r.Tries {
			return false, nil
		}
		blocked := r.State == PINBlocked
		r.State = PINActive
		if r.TriesLeft++; all && r.Revision == taken.Revision {
			r.TriesLeft = r.Tries
			r.Series++
		}
		if blocked {
			return true, &e
		}
		return true, nil
	})
}

// GivePINCode implements [PINRecords].
func (s *tables) GivePINCode(ctx context.Context, taken PINRecord) error {
	return s.givePIN(ctx, &taken, func(r *PINRecord) (bool, *PINEvent) {
		if !r.State.Pending() || !bytes.Equal(r.Approval, taken.Approval) || r.CodeTriesLeft >= MaxPINTries {
			return false, nil
		}
		r.CodeTriesLeft++
		return true, nil
	})
}

func (s *tables) givePIN(ctx context.Context, taken *PINRecord, give func(*PINRecord) (bool, *PINEvent)) error {
	if len(taken.Subject) != sha256.Size {
		return fmt.Errorf("%w: a subject's digest has %d bytes", ErrInvalid, sha256.Size)
	}
	return s.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		stored, err := s.storedPIN(ctx, tx, taken.Subject)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return errUnchanged
		case err != nil:
			return err
		}
		given, e := false, (*PINEvent)(nil)
		if stored.Version == taken.Version {
			given, e = give(&stored)
		}
		if !given {
			return errUnchanged
		}
		return s.writePIN(ctx, tx, &stored, e)
	})
}

// PINRecord implements [PINRecords].
func (s *tables) PINRecord(ctx context.Context, subject []byte) (PINRecord, error) {
	if len(subject) != sha256.Size {
		return PINRecord{}, s.none(ctx)
	}
	return one(ctx, s, scanPIN, getPIN, subject)
}

// PINRecordOfLink implements [PINRecords].
func (s *tables) PINRecordOfLink(ctx context.Context, link []byte) (PINRecord, error) {
	if len(link) != PINLink {
		return PINRecord{}, s.none(ctx)
	}
	rest := make([]byte, sha256.Size-PINLink)
	return one(ctx, s, scanPIN, getPINOfLink, slices.Concat(link, rest), slices.Concat(link, bytes.Repeat([]byte{0xff}, len(rest))))
}

// PINRecords implements [PINRecords].
func (s *tables) PINRecords(ctx context.Context, merchant string, after []byte, limit int) ([]PINRecord, error) {
	if err := validLimit(limit, MaxList); err != nil {
		return nil, err
	}
	if merchant != "" && !validPINName(merchant) {
		return nil, fmt.Errorf("%w: no PIN record can be of this merchant", ErrInvalid)
	}
	return collect(ctx, s, scanPIN, listPINs, merchant, notNull(after), limit)
}

// ListPINRecords implements [PINRecords].
func (s *tables) ListPINRecords(ctx context.Context, after []byte, limit int) ([]PINRecord, error) {
	if err := validLimit(limit, MaxList); err != nil {
		return nil, err
	}
	return collect(ctx, s, scanPIN, listAllPINs, notNull(after), limit)
}

// PINEvents implements [PINRecords].
func (s *tables) PINEvents(ctx context.Context, subject []byte, after uint64, limit int) ([]PINEvent, error) {
	if err := validLimit(limit, MaxList); err != nil {
		return nil, err
	}
	return collect(ctx, s, scanPINEvent, listPINEvents, notNull(subject), int64(min(after, MaxPINEvents)), limit)
}

// PINEventOfRequest implements [PINRecords].
func (s *tables) PINEventOfRequest(ctx context.Context, request []byte) (PINEvent, error) {
	if len(request) != sha256.Size {
		return PINEvent{}, s.none(ctx)
	}
	return one(ctx, s, scanPINEvent, getPINRequest, request)
}

// storedPIN reads a record within a transaction, [sql.ErrNoRows] where there is none.
func (s *tables) storedPIN(ctx context.Context, tx *sql.Tx, subject []byte) (PINRecord, error) {
	return scanPIN(s.row(ctx, tx, getPIN, subject))
}

// writePIN keeps what follows on what was read in the same transaction, with an event if there is one.
func (s *tables) writePIN(ctx context.Context, tx *sql.Tx, r *PINRecord, e *PINEvent) error {
	was := r.Revision
	r.Revision++
	if e != nil {
		r.Events++
		r.ChangedAt = e.At
		event := *e
		event.Subject, event.Number = r.Subject, r.Events
		if err := event.Validate(); err != nil {
			return err
		}
		if err := insertPINEvent(ctx, tx, &event); err != nil {
			return err
		}
	}
	if err := r.Validate(); err != nil {
		return err
	}
	result, err := s.exec(ctx, tx, updatePIN, int64(r.Version), string(r.State), int64(r.Tries), int64(r.TriesLeft), int64(r.Series), notNull(r.Record), notNull(r.Approval),
		notNull(r.Pending), notNull(r.Code), int64(r.CodeTriesLeft), micros(r.CodeExpires), micros(r.NotAfter), int64(r.Events), int64(r.Revision), r.ChangedAt.UnixMicro(),
		r.Subject, int64(was))
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, ErrConflict)
	}
	return nil
}

// insertPINEvent refuses one whose approval was used up ([ErrTaken]).
func insertPINEvent(ctx context.Context, tx *sql.Tx, e *PINEvent) error {
	if len(e.Request) > 0 {
		used, err := exists(ctx, tx, getPINRequest, e.Request)
		switch {
		case err != nil:
			return err
		case used:
			return fmt.Errorf("an approval: %w", ErrTaken)
		}
	}
	_, err := tx.ExecContext(ctx, addPINEvent, pinEventValues(e)...)
	return err
}

func pinValues(r *PINRecord) []any {
	return []any{
		r.Subject, r.Kind, r.Merchant, r.Terminal, r.Name, int64(r.Version), string(r.State), int64(r.Tries), int64(r.TriesLeft), int64(r.Series), notNull(r.Record),
		notNull(r.Approval), notNull(r.Pending), notNull(r.Code), int64(r.CodeTriesLeft), micros(r.CodeExpires), micros(r.NotAfter), int64(r.Events), int64(r.Revision),
		r.CreatedAt.UnixMicro(), r.ChangedAt.UnixMicro(),
	}
}

func pinEventValues(e *PINEvent) []any {
	return []any{e.Subject, int64(e.Number), e.Kind, e.Actor, e.Detail, notNull(e.Request), e.At.UnixMicro()}
}

// scanPIN takes the columns as they come; see scan.
func scanPIN(from scanner) (PINRecord, error) {
	c, err := readRow(from, 21)
	if err != nil {
		return PINRecord{}, err
	}
	r := PINRecord{
		Subject: c.bytes(0), Kind: c.text(1), Merchant: c.text(2), Terminal: c.text(3), Name: c.text(4), Version: c.small(5), State: PINState(c.text(6)), Tries: c.small(7),
		TriesLeft: c.small(8), Series: c.number(9), Record: c.bytes(10), Approval: c.bytes(11), Pending: c.bytes(12), Code: c.bytes(13), CodeTriesLeft: c.small(14),
		CodeExpires: c.timeOrNone(15), NotAfter: c.timeOrNone(16), Events: c.number(17), Revision: c.number(18), CreatedAt: c.time(19), ChangedAt: c.time(20),
	}
	if err := c.end(r.Validate()); err != nil {
		return PINRecord{}, err
	}
	return r, nil
}

// scanPINEvent takes the columns as they come; see scan.
func scanPINEvent(from scanner) (PINEvent, error) {
	c, err := readRow(from, 7)
	if err != nil {
		return PINEvent{}, err
	}
	e := PINEvent{Subject: c.bytes(0), Number: c.number(1), Kind: c.text(2), Actor: c.text(3), Detail: c.text(4), Request: c.bytes(5), At: c.time(6)}
	if err := c.end(e.Validate()); err != nil {
		return PINEvent{}, err
	}
	return e, nil
}
