package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
)

const (
	terminalColumns = `id, owner, model, serial, site, state, certificates, public_key, key_set, replaced_by, revision, registered_at, changed_at`

	addTerminal = `INSERT INTO terminals (` + terminalColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`

	updateTerminal = `UPDATE terminals SET site = $1, state = $2, certificates = $3, public_key = $4, replaced_by = $5, revision = $6, changed_at = $7, key_set = $8
		WHERE id = $9`

	getTerminal = `SELECT ` + terminalColumns + ` FROM terminals WHERE id = $1`

	// The empty text is nobody's key, and is not in the index.
	getTerminalOfKey = `SELECT ` + terminalColumns + ` FROM terminals WHERE public_key = $1 AND length(public_key) > 0`

	hasTerminalKey = `SELECT 1 FROM terminals WHERE public_key = $1 AND length(public_key) > 0 AND id <> $2`

	canReplace = `SELECT 1 FROM terminals WHERE id = $1 AND owner = $2 AND state = 'REGISTERED'`

	listTerminals = `SELECT ` + terminalColumns + ` FROM terminals WHERE id > $1`

	eventColumns = `terminal, number, kind, actor, detail, at`

	addEvent = `INSERT INTO terminal_events (` + eventColumns + `) VALUES ($1, $2, $3, $4, $5, $6)`

	listEvents = `SELECT ` + eventColumns + ` FROM terminal_events WHERE terminal = $1 AND number > $2 ORDER BY number LIMIT $3`

	hasEvents = `SELECT 1 FROM terminals WHERE id = $1 AND revision >= $2`
)

// AddTerminal implements [Terminals].
func (s *tables) AddTerminal(ctx context.Context, r TerminalRecord, e TerminalEvent) error {
	r.Revision, e.Number, e.Terminal = 1, 1, r.ID
	if err := errors.Join(r.Validate(), e.Validate()); err != nil {
		return err
	}
	if r.State.Final() {
		return fmt.Errorf("%w: terminal %s: no terminal begins in a final state", ErrInvalid, r.ID)
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		there, err := exists(ctx, tx, getTerminal, r.ID)
		switch {
		case err != nil:
			return err
		case there:
			return fmt.Errorf("terminal %s: %w", r.ID, ErrExists)
		}
		if err := keyIsFree(ctx, tx, &r); err != nil {
			return err
		}
		if err := insertTerminal(ctx, tx, &r); err != nil {
			return err
		}
		return insertEvent(ctx, tx, &e)
	})
}

// UpdateTerminal implements [Terminals].
func (s *tables) UpdateTerminal(ctx context.Context, r TerminalRecord, e TerminalEvent) error {
	e.Number, e.Terminal = r.Revision+1, r.ID
	if err := errors.Join(r.Validate(), e.Validate()); err != nil {
		return err
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		stored, err := scanTerminal(tx.QueryRowContext(ctx, getTerminal, r.ID))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("terminal %s: %w", r.ID, ErrNotFound)
		case err != nil:
			return err
		case !stored.precedes(&r):
			return fmt.Errorf("terminal %s: %w", r.ID, ErrConflict)
		}
		if err := keyIsFree(ctx, tx, &r); err != nil {
			return err
		}
		if r.ReplacedBy != "" {
			can, err := exists(ctx, tx, canReplace, r.ReplacedBy, r.Owner)
			switch {
			case err != nil:
				return err
			case !can:
				return fmt.Errorf("terminal %s: %w: no registered terminal %s of its owner", r.ID, ErrConflict, r.ReplacedBy)
			}
		}
		if _, err := tx.ExecContext(ctx, updateTerminal, r.Site, string(r.State), notNull(r.Certificates), notNull(r.PublicKey), r.ReplacedBy,
			int64(e.Number), r.ChangedAt.UnixMicro(), r.KeySet, r.ID); err != nil {
			return err
		}
		if r.State.Final() {
			if err := endInjections(ctx, tx, r.ID); err != nil {
				return err
			}
		}
		return insertEvent(ctx, tx, &e)
	})
}

// precedes reports whether r may take the place of what is stored.
func (r *TerminalRecord) precedes(next *TerminalRecord) bool {
	return r.Revision == next.Revision && !r.State.Final() && r.Owner == next.Owner && r.Model == next.Model && r.Serial == next.Serial &&
		r.RegisteredAt.UnixMicro() == next.RegisteredAt.UnixMicro() && (len(r.PublicKey) == 0 || bytes.Equal(r.PublicKey, next.PublicKey))
}

// keyIsFree returns [ErrConflict] where another terminal has the public key.
func keyIsFree(ctx context.Context, tx *sql.Tx, r *TerminalRecord) error {
	if len(r.PublicKey) == 0 {
		return nil
	}
	taken, err := exists(ctx, tx, hasTerminalKey, r.PublicKey, r.ID)
	if err == nil && taken {
		err = fmt.Errorf("terminal %s: %w: another terminal has its public key", r.ID, ErrConflict)
	}
	return err
}

func insertTerminal(ctx context.Context, tx *sql.Tx, r *TerminalRecord) error {
	_, err := tx.ExecContext(ctx, addTerminal, terminalValues(r)...)
	return err
}

func terminalValues(r *TerminalRecord) []any {
	return []any{
		r.ID, r.Owner, r.Model, r.Serial, r.Site, string(r.State), notNull(r.Certificates), notNull(r.PublicKey), r.KeySet, r.ReplacedBy, int64(r.Revision),
		r.RegisteredAt.UnixMicro(), r.ChangedAt.UnixMicro(),
	}
}

func insertEvent(ctx context.Context, tx *sql.Tx, e *TerminalEvent) error {
	_, err := tx.ExecContext(ctx, addEvent, eventValues(e)...)
	return err
}

func eventValues(e *TerminalEvent) []any {
	return []any{e.Terminal, int64(e.Number), e.Kind, e.Actor, e.Detail, e.At.UnixMicro()}
}

// Terminal implements [Terminals].
func (s *tables) Terminal(ctx context.Context, id string) (TerminalRecord, error) {
	if !validTerminalName(id) {
		return TerminalRecord{}, s.none(ctx)
	}
	return one(ctx, s, scanTerminal, getTerminal, id)
}

// TerminalOfKey implements [Terminals].
func (s *tables) TerminalOfKey(ctx context.Context, publicKey []byte) (TerminalRecord, error) {
	if len(publicKey) != sha256.Size {
		return TerminalRecord{}, s.none(ctx)
	}
	return one(ctx, s, scanTerminal, getTerminalOfKey, publicKey)
}

// Terminals implements [Terminals].
func (s *tables) Terminals(ctx context.Context, f TerminalFilter, after string, limit int) ([]TerminalRecord, error) {
	if err := validLimit(limit, MaxList); err != nil {
		return nil, err
	}
	if err := f.Validate(); err != nil {
		return nil, err
	}
	query, args := f.query(reachable(after), limit)
	return collect(ctx, s, scanTerminal, query, args...)
}

// query returns the query of a page. An owner has few of all terminals, so where there is one
// the owners' index is the one to use: what else is asked is written so that no other fits.
func (f TerminalFilter) query(after string, limit int) (query string, args []any) {
	query, args = listTerminals, []any{after}
	and := func(column, value string) {
		if value != "" {
			args = append(args, value)
			query += fmt.Sprintf(" AND %s = $%d", column, len(args))
		}
	}
	model, state := "model", "state"
	if f.Owner != "" {
		model, state = "(model || '')", "(state || '')"
	}
	and("owner", f.Owner)
	and(model, f.Model)
	and(state, string(f.State))
	args = append(args, limit)
	return query + fmt.Sprintf(" ORDER BY id LIMIT $%d", len(args)), args
}

// TerminalEvents implements [Terminals].
func (s *tables) TerminalEvents(ctx context.Context, id string, after uint64, limit int) ([]TerminalEvent, error) {
	if err := validLimit(limit, MaxList); err != nil {
		return nil, err
	}
	return collect(ctx, s, scanEvent, listEvents, reachable(id), int64(min(after, MaxTerminalEvents)), limit)
}

// scanTerminal takes the columns as they come; see scan.
func scanTerminal(row scanner) (TerminalRecord, error) {
	c, err := readRow(row, 13)
	if err != nil {
		return TerminalRecord{}, err
	}
	r := TerminalRecord{
		ID: c.text(0), Owner: c.text(1), Model: c.text(2), Serial: c.text(3), Site: c.text(4), State: TerminalState(c.text(5)), Certificates: c.bytes(6), PublicKey: c.bytes(7),
		KeySet: c.text(8), ReplacedBy: c.text(9), Revision: c.number(10), RegisteredAt: c.time(11), ChangedAt: c.time(12),
	}
	if err := c.end(r.Validate()); err != nil {
		return TerminalRecord{}, err
	}
	return r, nil
}

// scanEvent takes the columns as they come; see scan.
func scanEvent(row scanner) (TerminalEvent, error) {
	c, err := readRow(row, 6)
	if err != nil {
		return TerminalEvent{}, err
	}
	e := TerminalEvent{Terminal: c.text(0), Number: c.number(1), Kind: c.text(2), Actor: c.text(3), Detail: c.text(4), At: c.time(5)}
	if err := c.end(e.Validate()); err != nil {
		return TerminalEvent{}, err
	}
	return e, nil
}
