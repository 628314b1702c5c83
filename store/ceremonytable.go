package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"
)

const (
	ceremonyColumns = `id, kind, node, subject, state, revision, papers, record, opened_at, expires_at`

	addCeremony = `INSERT INTO ceremonies (` + ceremonyColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`

	updateCeremony = `UPDATE ceremonies
		SET subject = $1, state = $2, revision = $3, papers = $4, record = $5, expires_at = $6 WHERE id = $7`

	ceremonyIdentity = `SELECT revision, kind, node, opened_at FROM ceremonies WHERE id = $1`

	ceremonyIsProposed = `SELECT 1 FROM epochs WHERE state = 'PROPOSED' AND ceremony = $1`

	getCeremony = `SELECT ` + ceremonyColumns + ` FROM ceremonies WHERE id = $1`

	listCeremonies = `SELECT ` + ceremonyColumns + ` FROM ceremonies
		WHERE (opened_at, id) < ($1, $2) ORDER BY opened_at DESC, id DESC LIMIT $3`

	listCeremoniesIn = `SELECT ` + ceremonyColumns + ` FROM ceremonies
		WHERE state = $1 AND (opened_at, id) < ($2, $3) ORDER BY opened_at DESC, id DESC LIMIT $4`
)

// AddCeremony implements [Ceremonies].
func (s *tables) AddCeremony(ctx context.Context, r CeremonyRecord) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if r.Revision != 0 {
		return fmt.Errorf("%w: ceremony %s: a new one has the revision 0", ErrInvalid, r.ID)
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		return insertCeremony(ctx, tx, &r)
	})
}

func insertCeremony(ctx context.Context, tx *sql.Tx, r *CeremonyRecord) error {
	_, err := tx.ExecContext(ctx, addCeremony, r.ID, r.Kind, r.Node, r.Subject, string(r.State), int64(r.Revision),
		notNull(r.Papers), notNull(r.Record), r.OpenedAt.UnixMicro(), r.ExpiresAt.UnixMicro())
	return err
}

// UpdateCeremony implements [Ceremonies].
func (s *tables) UpdateCeremony(ctx context.Context, r CeremonyRecord) error {
	if err := r.Validate(); err != nil {
		return err
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		proposed, err := exists(ctx, tx, ceremonyIsProposed, r.ID)
		switch {
		case err != nil:
			return err
		case proposed:
			return fmt.Errorf("ceremony %s: %w: it is part of a proposed epoch", r.ID, ErrConflict)
		}
		return putCeremony(ctx, tx, &r)
	})
}

// putCeremony carries out an update in a transaction.
func putCeremony(ctx context.Context, tx *sql.Tx, r *CeremonyRecord) error {
	if err := checkCeremony(ctx, tx, r); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, updateCeremony, r.Subject, string(r.State), int64(r.Revision)+1,
		notNull(r.Papers), notNull(r.Record), r.ExpiresAt.UnixMicro(), r.ID)
	return err
}

// checkCeremony returns [ErrNotFound] or [ErrConflict] where r cannot take the place of
// what is stored.
func checkCeremony(ctx context.Context, tx *sql.Tx, r *CeremonyRecord) error {
	column, err := columns(tx.QueryRowContext(ctx, ceremonyIdentity, r.ID), 4)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("ceremony %s: %w", r.ID, ErrNotFound)
	case err != nil:
		return err
	case column[0] != int64(r.Revision) || column[1] != r.Kind || column[2] != r.Node || column[3] != r.OpenedAt.UnixMicro():
		return fmt.Errorf("ceremony %s: %w", r.ID, ErrConflict)
	}
	return nil
}

// Ceremony implements [Ceremonies].
func (s *tables) Ceremony(ctx context.Context, id string) (CeremonyRecord, error) {
	if !validCeremonyID(id) {
		return CeremonyRecord{}, s.none(ctx)
	}
	return one(ctx, s, scanCeremony, getCeremony, id)
}

// Ceremonies implements [Ceremonies].
func (s *tables) Ceremonies(ctx context.Context, state CeremonyState, before time.Time, beforeID string, limit int) ([]CeremonyRecord, error) {
	if err := validLimit(limit, MaxCeremonyList); err != nil {
		return nil, err
	}
	beforeID = reachable(beforeID)
	at := int64(math.MaxInt64)
	if !before.IsZero() {
		at = before.UnixMicro()
	}
	switch {
	case state == "":
		return collect(ctx, s, scanCeremony, listCeremonies, at, beforeID, limit)
	case !state.valid():
		return nil, fmt.Errorf("%w: the state is none of a ceremony", ErrInvalid)
	}
	return collect(ctx, s, scanCeremony, listCeremoniesIn, string(state), at, beforeID, limit)
}

// scanCeremony takes the columns as they come; see scan.
func scanCeremony(row scanner) (CeremonyRecord, error) {
	column, err := columns(row, 10)
	if err != nil {
		return CeremonyRecord{}, err
	}
	id, ok0 := column[0].(string)
	kind, ok1 := column[1].(string)
	node, ok2 := column[2].(string)
	subject, ok3 := column[3].(string)
	state, ok4 := column[4].(string)
	revision, ok5 := column[5].(int64)
	papers, ok6 := column[6].([]byte)
	record, ok7 := column[7].([]byte)
	openedAt, ok8 := column[8].(int64)
	expiresAt, ok9 := column[9].(int64)
	if !ok0 || !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || !ok7 || !ok8 || !ok9 || revision < 0 {
		return CeremonyRecord{}, ErrCorrupt
	}
	r := CeremonyRecord{
		ID: id, Kind: kind, Node: node, Subject: subject, State: CeremonyState(state), Revision: uint64(revision), Papers: papers, Record: record,
		OpenedAt: time.UnixMicro(openedAt).UTC(), ExpiresAt: time.UnixMicro(expiresAt).UTC(),
	}
	if r.Validate() != nil {
		return CeremonyRecord{}, ErrCorrupt
	}
	return r, nil
}
