package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

const (
	terminalColumns = `id, owner, model, serial, site, state, certificates, public_key, replaced_by, revision, registered_at, changed_at`

	addTerminal = `INSERT INTO terminals (` + terminalColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`

	updateTerminal = `UPDATE terminals SET site = $1, state = $2, certificates = $3, public_key = $4, replaced_by = $5, revision = $6, changed_at = $7
		WHERE id = $8`

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
			int64(e.Number), r.ChangedAt.UnixMicro(), r.ID); err != nil {
			return err
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
		r.ID, r.Owner, r.Model, r.Serial, r.Site, string(r.State), notNull(r.Certificates), notNull(r.PublicKey), r.ReplacedBy, int64(r.Revision),
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
	column, err := columns(row, 12)
	if err != nil {
		return TerminalRecord{}, err
	}
	id, ok0 := column[0].(string)
	owner, ok1 := column[1].(string)
	model, ok2 := column[2].(string)
	serial, ok3 := column[3].(string)
	site, ok4 := column[4].(string)
	state, ok5 := column[5].(string)
	certificates, ok6 := column[6].([]byte)
	publicKey, ok7 := column[7].([]byte)
	replacedBy, ok8 := column[8].(string)
	revision, ok9 := column[9].(int64)
	registeredAt, ok10 := column[10].(int64)
	changedAt, ok11 := column[11].(int64)
	if !ok0 || !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || !ok7 || !ok8 || !ok9 || !ok10 || !ok11 || revision < 0 {
		return TerminalRecord{}, ErrCorrupt
	}
	r := TerminalRecord{
		ID: id, Owner: owner, Model: model, Serial: serial, Site: site, State: TerminalState(state), Certificates: certificates, PublicKey: publicKey,
		ReplacedBy: replacedBy, Revision: uint64(revision), RegisteredAt: time.UnixMicro(registeredAt).UTC(), ChangedAt: time.UnixMicro(changedAt).UTC(),
	}
	if r.Validate() != nil {
		return TerminalRecord{}, ErrCorrupt
	}
	return r, nil
}

// scanEvent takes the columns as they come; see scan.
func scanEvent(row scanner) (TerminalEvent, error) {
	column, err := columns(row, 6)
	if err != nil {
		return TerminalEvent{}, err
	}
	terminal, ok0 := column[0].(string)
	number, ok1 := column[1].(int64)
	kind, ok2 := column[2].(string)
	actor, ok3 := column[3].(string)
	detail, ok4 := column[4].(string)
	at, ok5 := column[5].(int64)
	if !ok0 || !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || number < 0 {
		return TerminalEvent{}, ErrCorrupt
	}
	e := TerminalEvent{Terminal: terminal, Number: uint64(number), Kind: kind, Actor: actor, Detail: detail, At: time.UnixMicro(at).UTC()}
	if e.Validate() != nil {
		return TerminalEvent{}, ErrCorrupt
	}
	return e, nil
}
