package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"
)

const (
	voidColumns = `id, merchant, terminal, reference, amount, currency, fee, state, version, content, token,
		code, payload, slip, code_expires_at, burnt_at, request, due_at, created_at, changed_at, paid_at`

	addVoid = `INSERT INTO voids (` + voidColumns + `)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)`

	getVoid = `SELECT ` + voidColumns + ` FROM voids WHERE id = $1`

	getVoidOfCode = `SELECT ` + voidColumns + ` FROM voids WHERE code = $1`

	getVoidOfRequest = `SELECT ` + voidColumns + ` FROM voids WHERE request = $1`

	listVoids = `SELECT ` + voidColumns + ` FROM voids
		WHERE merchant = $1 AND ($2 = '' OR state = $2) AND (created_at < $3 OR created_at = $3 AND id < $4) ORDER BY created_at DESC, id DESC LIMIT $5`

	dueVoids = `SELECT ` + voidColumns + ` FROM voids WHERE state IN ('CREATED', 'SCANNED', 'AUTHORIZED') AND due_at <= $1 ORDER BY due_at LIMIT $2`

	// getStanding is about a payment of which there is no void yet.
	getStanding = `SELECT EXISTS (SELECT 1 FROM voids WHERE merchant = $1 AND reference = $2 AND state IN ('CREATED', 'SCANNED', 'AUTHORIZED')),
		(SELECT count(*) FROM voids WHERE merchant = $1 AND created_at >= $3 AND state IN ('CREATED', 'SCANNED', 'AUTHORIZED', 'CONFIRMED'))`

	// getVoidStanding is getVoid with how the void stands besides others, of one moment.
	getVoidStanding = `SELECT ` + voidColumns + `,
		EXISTS (SELECT 1 FROM voids AS o WHERE o.merchant = v.merchant AND o.reference = v.reference AND o.state IN ('CREATED', 'SCANNED', 'AUTHORIZED') AND o.id <> v.id),
		(SELECT count(*) FROM voids AS o WHERE o.merchant = v.merchant AND o.created_at >= $2 AND o.state IN ('CREATED', 'SCANNED', 'AUTHORIZED', 'CONFIRMED') AND o.id <> v.id)
		FROM voids AS v WHERE v.id = $1`

	changeVoid = `UPDATE voids SET state = $1, version = $2, content = $3, token = $4, burnt_at = $5, due_at = $6, changed_at = $7
		WHERE id = $8 AND version = $9`
)

func voidValues(r *VoidRecord) []any {
	return []any{
		r.ID, r.Merchant, r.Terminal, r.Reference, r.Amount, int64(r.Currency), r.Fee, string(r.State), int64(r.Version), r.Content, r.Token,
		r.Code, r.Payload, notNull(r.Slip), r.CodeExpires.UnixMicro(), micros(r.Burnt), r.Request, r.Due.UnixMicro(), r.Created.UnixMicro(), r.Changed.UnixMicro(),
		micros(r.PaidAt),
	}
}

// scanVoid takes the columns as they come; see scan.
func scanVoid(from scanner) (VoidRecord, error) {
	r, err := readRow(from, voidWidth)
	if err != nil {
		return VoidRecord{}, err
	}
	return voidIn(r)
}

// voidWidth is how many columns a void has.
const voidWidth = 21

// voidIn reads the columns of a void.
func voidIn(r *row) (VoidRecord, error) {
	currency := r.number(5)
	v := VoidRecord{
		ID: r.text(0), Merchant: r.text(1), Terminal: r.text(2), Reference: r.text(3), Amount: column[int64](r, 4), Currency: uint16(min(currency, maxCurrency+1)), Fee: column[int64](r, 6),
		State: VoidState(r.text(7)), Version: r.number(8), Content: r.bytes(9), Token: r.text(10),
		Code: r.bytes(11), Payload: r.bytes(12), Slip: r.bytes(13), CodeExpires: r.time(14), Burnt: r.timeOrNone(15), Request: r.bytes(16),
		Due: r.time(17), Created: r.time(18), Changed: r.time(19), PaidAt: r.timeOrNone(20),
	}
	if err := r.end(v.Validate()); err != nil {
		return VoidRecord{}, err
	}
	return v, nil
}

// stood is a void with its standing.
type stood struct {
	void     VoidRecord
	standing Standing
}

// scanStood takes the columns as they come; see scan.
func scanStood(from scanner) (s stood, err error) {
	r, err := readRow(from, voidWidth+2)
	if err != nil {
		return s, err
	}
	if s.standing, err = standingIn(r, voidWidth); err != nil {
		return s, err
	}
	s.void, err = voidIn(r)
	return s, err
}

// scanStanding takes the columns as they come; see scan.
func scanStanding(from scanner) (Standing, error) {
	r, err := readRow(from, 2)
	if err != nil {
		return Standing{}, err
	}
	return standingIn(r, 0)
}

// standingIn reads the two columns of a standing. The answer to EXISTS is a number in SQLite.
func standingIn(r *row, at int) (s Standing, err error) {
	switch live := r.values[at].(type) {
	case bool:
		s.Live = live
	case int64:
		s.Live = live != 0
	default:
		return s, ErrCorrupt
	}
	s.Today = int(min(r.number(at+1), math.MaxInt32))
	return s, r.end(nil)
}

// AddVoid implements [Voids].
func (s *tables) AddVoid(ctx context.Context, q VoidQuestion, create func(Standing) (VoidRecord, error)) (r VoidRecord, added bool, err error) {
	if !q.valid() {
		return VoidRecord{}, false, fmt.Errorf("%w: a void is created by a request, for a payment of a merchant", ErrInvalid)
	}
	var stopped error
	err = s.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		stopped, added = nil, false
		found, err := scanVoid(s.row(ctx, tx, getVoidOfRequest, q.Request))
		if err == nil {
			r = found
			return errUnchanged
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		standing, err := scanStanding(s.row(ctx, tx, getStanding, q.Merchant, q.Reference, q.Since.UnixMicro()))
		if err != nil {
			return err
		}
		if r, stopped = create(standing); stopped != nil {
			return errUnchanged
		}
		if err := r.Validate(); err != nil {
			return err
		}
		if r.Version != 1 || !bytes.Equal(r.Request, q.Request) || r.Merchant != q.Merchant || r.Reference != q.Reference {
			return fmt.Errorf("%w: void %s: it is another than was asked for", ErrInvalid, r.ID)
		}
		added = true
		_, err = s.exec(ctx, tx, addVoid, voidValues(&r)...)
		return err
	})
	if err = first(stopped, err); err != nil {
		return VoidRecord{}, false, err
	}
	return r, added, nil
}

// first returns the first error that is one.
func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// ChangeVoid implements [Voids].
func (s *tables) ChangeVoid(ctx context.Context, id string, since time.Time, change func(VoidRecord, Standing) (VoidRecord, error)) (r VoidRecord, err error) {
	if !validVoidID(id) {
		return VoidRecord{}, s.none(ctx)
	}
	if !validTime(since) {
		return VoidRecord{}, fmt.Errorf("%w: a time is not within the years 1970 to 9999", ErrInvalid)
	}
	var stopped error
	err = s.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		stopped = nil
		found, err := scanStood(s.row(ctx, tx, getVoidStanding, id, since.UnixMicro()))
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("void %s: %w", id, ErrNotFound)
		}
		if err != nil {
			return err
		}
		before := found.void
		if r, stopped = change(before, found.standing); stopped != nil {
			return errUnchanged
		}
		if r.Version == before.Version {
			r = before
			return errUnchanged
		}
		if err := r.follows(&before); err != nil {
			return err
		}
		result, err := s.exec(ctx, tx, changeVoid,
			string(r.State), int64(r.Version), r.Content, r.Token, micros(r.Burnt), r.Due.UnixMicro(), r.Changed.UnixMicro(), id, int64(before.Version))
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, fmt.Errorf("void %s: %w", id, ErrConflict))
		}
		return nil
	})
	if err = first(stopped, err); err != nil {
		return VoidRecord{}, err
	}
	return r, nil
}

// follows refuses what cannot become of a void.
func (r *VoidRecord) follows(before *VoidRecord) error {
	if err := r.Validate(); err != nil {
		return err
	}
	same := r.ID == before.ID && r.Merchant == before.Merchant && r.Terminal == before.Terminal && r.Reference == before.Reference && r.Amount == before.Amount &&
		r.Currency == before.Currency && r.Fee == before.Fee && bytes.Equal(r.Code, before.Code) && bytes.Equal(r.Payload, before.Payload) && bytes.Equal(r.Slip, before.Slip) &&
		bytes.Equal(r.Request, before.Request) && r.Created.Equal(before.Created) && r.CodeExpires.Equal(before.CodeExpires) && r.PaidAt.Equal(before.PaidAt)
	burnt := before.Burnt.IsZero() || r.Burnt.Equal(before.Burnt)
	if !same || !burnt || r.Version < before.Version || !before.State.Live() || before.Token != "" && r.Token != before.Token {
		return fmt.Errorf("%w: void %s: what never changes has changed", ErrInvalid, r.ID)
	}
	return nil
}

// VoidStanding implements [Voids].
func (s *tables) VoidStanding(ctx context.Context, id string, since time.Time) (VoidRecord, Standing, error) {
	if !validVoidID(id) {
		return VoidRecord{}, Standing{}, s.none(ctx)
	}
	if !validTime(since) {
		return VoidRecord{}, Standing{}, fmt.Errorf("%w: a time is not within the years 1970 to 9999", ErrInvalid)
	}
	found, err := one(ctx, s, scanStood, getVoidStanding, id, since.UnixMicro())
	return found.void, found.standing, err
}

// Void implements [Voids].
func (s *tables) Void(ctx context.Context, id string) (VoidRecord, error) {
	if !validVoidID(id) {
		return VoidRecord{}, s.none(ctx)
	}
	return one(ctx, s, scanVoid, getVoid, id)
}

// VoidOfCode implements [Voids].
func (s *tables) VoidOfCode(ctx context.Context, code []byte) (VoidRecord, error) {
	if !validCode(code) {
		return VoidRecord{}, s.none(ctx)
	}
	return one(ctx, s, scanVoid, getVoidOfCode, code)
}

// VoidOfRequest implements [Voids].
func (s *tables) VoidOfRequest(ctx context.Context, request []byte) (VoidRecord, error) {
	if !validDigest(request) {
		return VoidRecord{}, s.none(ctx)
	}
	return one(ctx, s, scanVoid, getVoidOfRequest, request)
}

// ListVoids implements [Voids].
func (s *tables) ListVoids(ctx context.Context, merchant string, state VoidState, before time.Time, beforeID string, limit int) ([]VoidRecord, error) {
	if err := validLimit(limit, MaxList); err != nil {
		return nil, err
	}
	if state != "" && !state.valid() || !before.IsZero() && !validTime(before) {
		return nil, fmt.Errorf("%w: a list of voids is of one state or of any, and begins within the years 1970 to 9999", ErrInvalid)
	}
	last := int64(math.MaxInt64)
	if !before.IsZero() {
		last = before.UnixMicro()
	}
	return collect(ctx, s, scanVoid, listVoids, reachable(merchant), string(state), last, reachable(beforeID), limit)
}

// DueVoids implements [Voids].
func (s *tables) DueVoids(ctx context.Context, now time.Time, limit int) ([]VoidRecord, error) {
	if err := validLimit(limit, MaxList); err != nil {
		return nil, err
	}
	return collect(ctx, s, scanVoid, dueVoids, now.UnixMicro(), limit)
}
