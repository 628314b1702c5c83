package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
)

// The states of a row.
const (
	currentEpoch  = "CURRENT"
	proposedEpoch = "PROPOSED"
)

const (
	getEpoch = `SELECT version, sealed, change FROM epochs WHERE state = ?`

	addEpoch = `INSERT INTO epochs (version, state, sealed, change, ceremony) VALUES (?, ?, ?, ?, ?)`

	epochVersion = `SELECT version FROM epochs WHERE state = ?`

	removeEpoch = `DELETE FROM epochs WHERE state = ?`

	advanceEpoch = `UPDATE epochs SET state = 'CURRENT', change = x'', ceremony = '' WHERE state = 'PROPOSED'`

	setState = `UPDATE keys SET state = ? WHERE name = ? AND version = ?`

	purgeKey = `DELETE FROM keys WHERE name = ? AND version = ?`

	purgeUsage = `DELETE FROM key_usage WHERE name = ? AND version = ?`

	purgeTags = `DELETE FROM key_tags WHERE name = ?1 AND NOT EXISTS (SELECT 1 FROM keys WHERE name = ?1)`
)

// AdoptEpoch implements [Epochs].
func (s *SQLite) AdoptEpoch(ctx context.Context, version uint64, sealed []byte) error {
	e := Epoch{version, sealed}
	if err := e.Validate(); err != nil {
		return err
	}
	return s.transaction(ctx, func(tx *sql.Tx) error {
		current, _, err := scanEpoch(tx.QueryRowContext(ctx, getEpoch, currentEpoch))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			_, err := tx.ExecContext(ctx, addEpoch, int64(version), currentEpoch, sealed, []byte{}, "")
			return err
		case err != nil:
			return err
		case current.Version != version || !bytes.Equal(current.Sealed, sealed):
			return fmt.Errorf("epoch %d: %w: epoch %d is current", version, ErrConflict, current.Version)
		}
		return nil
	})
}

// CurrentEpoch implements [Epochs].
func (s *SQLite) CurrentEpoch(ctx context.Context) (Epoch, error) {
	e, _, err := s.epoch(ctx, currentEpoch)
	return e, err
}

// ProposedEpoch implements [Epochs].
func (s *SQLite) ProposedEpoch(ctx context.Context) (Epoch, Change, error) {
	e, encoded, err := s.epoch(ctx, proposedEpoch)
	if err != nil {
		return Epoch{}, Change{}, err
	}
	change, err := DecodeChange(encoded)
	if err != nil {
		return Epoch{}, Change{}, s.fail(err)
	}
	return e, *change, nil
}

func (s *SQLite) epoch(ctx context.Context, state string) (Epoch, []byte, error) {
	if s.closed.Load() {
		return Epoch{}, nil, s.fail(ErrClosed)
	}
	e, change, err := scanEpoch(s.readers.QueryRowContext(ctx, getEpoch, state))
	if err != nil {
		return Epoch{}, nil, s.fail(classifyRead(ctx, err))
	}
	return e, change, nil
}

// ProposeEpoch implements [Epochs].
func (s *SQLite) ProposeEpoch(ctx context.Context, version uint64, sealed []byte, change Change) error {
	e := Epoch{version, sealed}
	if err := e.Validate(); err != nil {
		return err
	}
	encoded, err := EncodeChange(&change)
	if err != nil {
		return err
	}
	return s.transaction(ctx, func(tx *sql.Tx) error {
		current, err := versionIn(ctx, tx, currentEpoch)
		if err != nil {
			return err
		}
		proposed, err := versionIn(ctx, tx, proposedEpoch)
		switch {
		case err != nil:
			return err
		case current == 0 || version != current+1:
			return fmt.Errorf("epoch %d: %w: it does not follow epoch %d", version, ErrConflict, current)
		case proposed != 0:
			return fmt.Errorf("epoch %d: %w: epoch %d is proposed", version, ErrConflict, proposed)
		}
		for _, k := range change.Keys {
			taken, err := exists(ctx, tx, getAlias, k.Name)
			if err != nil {
				return err
			}
			if taken {
				return fmt.Errorf("key %s version %d: %w: an alias has this name", k.Name, k.Version, ErrExists)
			}
		}
		ceremony := ""
		if change.Ceremony != nil {
			ceremony = change.Ceremony.ID
			if err := checkCeremony(ctx, tx, change.Ceremony); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, addEpoch, int64(version), proposedEpoch, sealed, encoded, ceremony)
		return err
	})
}

// AdvanceEpoch implements [Epochs].
func (s *SQLite) AdvanceEpoch(ctx context.Context, version uint64) error {
	return s.transaction(ctx, func(tx *sql.Tx) error {
		current, err := versionIn(ctx, tx, currentEpoch)
		if err != nil {
			return err
		}
		if current != 0 && current == version {
			return nil
		}
		change, err := proposal(ctx, tx, version)
		if err != nil {
			return err
		}
		if err := apply(ctx, tx, change); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, removeEpoch, currentEpoch); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, advanceEpoch)
		return err
	})
}

// WithdrawEpoch implements [Epochs].
func (s *SQLite) WithdrawEpoch(ctx context.Context, version uint64) error {
	return s.transaction(ctx, func(tx *sql.Tx) error {
		// The change is not read: one that is damaged can be withdrawn.
		proposed, err := versionIn(ctx, tx, proposedEpoch)
		switch {
		case err != nil:
			return err
		case proposed == 0:
			return fmt.Errorf("epoch %d: %w", version, ErrNotFound)
		case proposed != version:
			return fmt.Errorf("epoch %d: %w: epoch %d is proposed", version, ErrConflict, proposed)
		}
		_, err = tx.ExecContext(ctx, removeEpoch, proposedEpoch)
		return err
	})
}

// apply carries out a change in a transaction.
func apply(ctx context.Context, tx *sql.Tx, c *Change) error {
	if err := writeKeys(ctx, tx, replaceKey, c.Keys); err != nil {
		return err
	}
	for _, change := range c.States {
		if _, err := tx.ExecContext(ctx, setState, string(change.State), change.Name, int64(change.Version)); err != nil {
			return err
		}
	}
	if err := purge(ctx, tx, c.Purge); err != nil {
		return err
	}
	if c.Ceremony != nil {
		return putCeremony(ctx, tx, c.Ceremony)
	}
	return nil
}

// proposal returns the change of the proposal with a version.
func proposal(ctx context.Context, tx *sql.Tx, version uint64) (*Change, error) {
	e, change, err := scanEpoch(tx.QueryRowContext(ctx, getEpoch, proposedEpoch))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, fmt.Errorf("epoch %d: %w", version, ErrNotFound)
	case err != nil:
		return nil, err
	case e.Version != version:
		return nil, fmt.Errorf("epoch %d: %w: epoch %d is proposed", version, ErrConflict, e.Version)
	}
	return DecodeChange(change)
}

// isProposed reports whether the proposal brings in a key of that name.
func isProposed(ctx context.Context, tx *sql.Tx, name string) (bool, error) {
	_, encoded, err := scanEpoch(tx.QueryRowContext(ctx, getEpoch, proposedEpoch))
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	change, err := DecodeChange(encoded)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(change.Keys, func(k KeyRecord) bool { return k.Name == name }), nil
}

// versionIn returns the version of the epoch in a state, 0 if there is none.
func versionIn(ctx context.Context, tx *sql.Tx, state string) (uint64, error) {
	column, err := columns(tx.QueryRowContext(ctx, epochVersion, state), 1)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	version, ok := column[0].(int64)
	if !ok || version < 1 {
		return 0, ErrCorrupt
	}
	return uint64(version), nil
}

// scanEpoch takes the columns as they come; see scan.
func scanEpoch(row scanner) (Epoch, []byte, error) {
	column, err := columns(row, 3)
	if err != nil {
		return Epoch{}, nil, err
	}
	version, ok0 := column[0].(int64)
	sealed, ok1 := column[1].([]byte)
	change, ok2 := column[2].([]byte)
	if !ok0 || !ok1 || !ok2 || version < 1 {
		return Epoch{}, nil, ErrCorrupt
	}
	e := Epoch{uint64(version), sealed}
	if e.Validate() != nil {
		return Epoch{}, nil, ErrCorrupt
	}
	return e, change, nil
}
