package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
)

// The states of a row.
const (
	currentEpoch  = "CURRENT"
	proposedEpoch = "PROPOSED"
)

const (
	getEpoch = `SELECT version, sealed, change, node FROM epochs WHERE state = $1`

	addEpoch = `INSERT INTO epochs (version, state, sealed, change, ceremony, node) VALUES ($1, $2, $3, $4, $5, $6)`

	epochVersion = `SELECT version FROM epochs WHERE state = $1`

	epochDocument = `SELECT sealed FROM epochs WHERE state = $1`

	removeEpoch = `DELETE FROM epochs WHERE state = $1`

	advanceEpoch = `UPDATE epochs SET state = 'CURRENT', change = $1, ceremony = '', node = '' WHERE state = 'PROPOSED'`

	addLink = `INSERT INTO epoch_links (version, link) VALUES ($1, $2)`

	listLinks = `SELECT version, link FROM epoch_links WHERE version > $1 ORDER BY version LIMIT $2`

	acceptRestored = `UPDATE marks SET restored = 0 WHERE restored <> 0`

	setState = `UPDATE keys SET state = $1 WHERE name = $2 AND version = $3`

	purgeKey = `DELETE FROM keys WHERE name = $1 AND version = $2`

	purgeUsage = `DELETE FROM key_usage WHERE name = $1 AND version = $2`

	purgeTags = `DELETE FROM key_tags WHERE name = $1 AND NOT EXISTS (SELECT 1 FROM keys WHERE name = $1)`
)

// AdoptEpoch implements [Epochs].
func (s *tables) AdoptEpoch(ctx context.Context, version uint64, sealed []byte) error {
	e := Epoch{version, sealed}
	if err := e.Validate(); err != nil {
		return err
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		current, err := scanEpoch(tx.QueryRowContext(ctx, getEpoch, currentEpoch))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			_, err := tx.ExecContext(ctx, addEpoch, int64(version), currentEpoch, sealed, []byte{}, "", "")
			return err
		case err != nil:
			return err
		case current.Version != version || !bytes.Equal(current.Sealed, sealed):
			return fmt.Errorf("epoch %d: %w: epoch %d is current", version, ErrConflict, current.Version)
		}
		return errUnchanged
	})
}

// CurrentEpoch implements [Epochs].
func (s *tables) CurrentEpoch(ctx context.Context) (Epoch, error) {
	e, err := one(ctx, s, scanEpoch, getEpoch, currentEpoch)
	return e.Epoch, err
}

// ProposedEpoch implements [Epochs].
func (s *tables) ProposedEpoch(ctx context.Context) (Proposal, error) {
	e, err := one(ctx, s, scanEpoch, getEpoch, proposedEpoch)
	if err != nil {
		return Proposal{}, err
	}
	p, err := e.proposal()
	if err != nil {
		return Proposal{}, s.fail(err)
	}
	return p, nil
}

// ProposeEpoch implements [Epochs].
func (s *tables) ProposeEpoch(ctx context.Context, node string, version uint64, sealed []byte, change Change) error {
	p := Proposal{Epoch{version, sealed}, node, change}
	if err := p.Validate(); err != nil {
		return err
	}
	encoded, err := EncodeChange(&change)
	if err != nil {
		return err
	}
	return s.change(ctx, func(tx *sql.Tx) error { return propose(ctx, tx, &p, encoded) })
}

// propose keeps a proposal within a transaction.
func propose(ctx context.Context, tx *sql.Tx, p *Proposal, encoded []byte) error {
	current, err := versionIn(ctx, tx, currentEpoch)
	if err != nil {
		return err
	}
	proposed, err := versionIn(ctx, tx, proposedEpoch)
	switch {
	case err != nil:
		return err
	case current == 0 || p.Version != current+1:
		return fmt.Errorf("epoch %d: %w: it does not follow epoch %d", p.Version, ErrConflict, current)
	case proposed != 0:
		return fmt.Errorf("epoch %d: %w: epoch %d is proposed", p.Version, ErrConflict, proposed)
	}
	for _, k := range p.Change.Keys {
		taken, err := exists(ctx, tx, getAlias, k.Name)
		if err != nil {
			return err
		}
		if taken {
			return fmt.Errorf("key %s version %d: %w: an alias has this name", k.Name, k.Version, ErrExists)
		}
	}
	ceremony := ""
	if p.Change.Ceremony != nil {
		ceremony = p.Change.Ceremony.ID
		if err := checkCeremony(ctx, tx, p.Change.Ceremony); err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, addEpoch, int64(p.Version), proposedEpoch, p.Sealed, encoded, ceremony, p.Node)
	return err
}

// AdvanceEpoch implements [Epochs].
func (s *tables) AdvanceEpoch(ctx context.Context, version uint64, sealed, link []byte) error {
	if len(link) > MaxLink {
		return fmt.Errorf("%w: the link of an epoch has at most %d bytes", ErrInvalid, MaxLink)
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		current, err := versionIn(ctx, tx, currentEpoch)
		if err != nil {
			return err
		}
		if current != 0 && current == version {
			if err := sameDocument(ctx, tx, currentEpoch, sealed); err != nil {
				return err
			}
			return errUnchanged
		}
		change, err := proposal(ctx, tx, version)
		if err == nil {
			err = sameDocument(ctx, tx, proposedEpoch, sealed)
		}
		if err != nil {
			return err
		}
		if err := s.apply(ctx, tx, change); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, removeEpoch, currentEpoch); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, advanceEpoch, []byte{}); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, addLink, int64(version), notNull(link)); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, acceptRestored)
		return err
	})
}

// EpochLinks implements [Epochs].
func (s *tables) EpochLinks(ctx context.Context, after uint64, limit int) ([]EpochLink, error) {
	if err := validLimit(limit, MaxList); err != nil {
		return nil, err
	}
	return collect(ctx, s, scanLink, listLinks, int64(min(after, math.MaxInt64)), limit)
}

// WithdrawEpoch implements [Epochs].
func (s *tables) WithdrawEpoch(ctx context.Context, version uint64, sealed []byte) error {
	return s.change(ctx, func(tx *sql.Tx) error {
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
		if err := sameDocument(ctx, tx, proposedEpoch, sealed); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, removeEpoch, proposedEpoch)
		return err
	})
}

// PurgeDeleted implements [Epochs].
func (s *tables) PurgeDeleted(ctx context.Context, version uint64, versions ...KeyVersion) error {
	if err := validVersions(versions); err != nil {
		return err
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		current, err := versionIn(ctx, tx, currentEpoch)
		switch {
		case err != nil:
			return err
		case current != version:
			return fmt.Errorf("epoch %d: %w: epoch %d is current", version, ErrConflict, current)
		}
		return purge(ctx, tx, versions)
	})
}

// sameDocument returns [ErrConflict] where the epoch in a state has another document; any does
// where sealed is nil.
func sameDocument(ctx context.Context, tx *sql.Tx, state string, sealed []byte) error {
	if sealed == nil {
		return nil
	}
	column, err := columns(tx.QueryRowContext(ctx, epochDocument, state), 1)
	if err != nil {
		return err
	}
	if document, ok := column[0].([]byte); !ok || !bytes.Equal(document, sealed) {
		return fmt.Errorf("%w: the epoch has another document", ErrConflict)
	}
	return nil
}

// apply carries out a change in a transaction.
func (s *tables) apply(ctx context.Context, tx *sql.Tx, c *Change) error {
	if err := s.writeKeys(ctx, tx, replaceKey, c.Keys); err != nil {
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
	e, err := scanEpoch(tx.QueryRowContext(ctx, getEpoch, proposedEpoch))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, fmt.Errorf("epoch %d: %w", version, ErrNotFound)
	case err != nil:
		return nil, err
	case e.Version != version:
		return nil, fmt.Errorf("epoch %d: %w: epoch %d is proposed", version, ErrConflict, e.Version)
	}
	return DecodeChange(e.change)
}

// isProposed reports whether the proposal brings in a key of that name.
func isProposed(ctx context.Context, tx *sql.Tx, name string) (bool, error) {
	e, err := scanEpoch(tx.QueryRowContext(ctx, getEpoch, proposedEpoch))
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	change, err := DecodeChange(e.change)
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

// epochRow is a row of the epochs.
type epochRow struct {
	Epoch

	change []byte
	node   string
}

func (e *epochRow) proposal() (Proposal, error) {
	change, err := DecodeChange(e.change)
	if err != nil {
		return Proposal{}, err
	}
	return Proposal{e.Epoch, e.node, *change}, nil
}

// scanEpoch takes the columns as they come; see scan.
func scanEpoch(row scanner) (epochRow, error) {
	column, err := columns(row, 4)
	if err != nil {
		return epochRow{}, err
	}
	version, ok0 := column[0].(int64)
	sealed, ok1 := column[1].([]byte)
	change, ok2 := column[2].([]byte)
	node, ok3 := column[3].(string)
	if !ok0 || !ok1 || !ok2 || !ok3 || version < 1 || node != "" && !validNode(node) {
		return epochRow{}, ErrCorrupt
	}
	e := epochRow{Epoch{uint64(version), sealed}, change, node}
	if e.Validate() != nil {
		return epochRow{}, ErrCorrupt
	}
	return e, nil
}

// scanLink takes the columns as they come; see scan.
func scanLink(row scanner) (EpochLink, error) {
	column, err := columns(row, 2)
	if err != nil {
		return EpochLink{}, err
	}
	version, ok0 := column[0].(int64)
	link, ok1 := column[1].([]byte)
	if !ok0 || !ok1 || version < 1 {
		return EpochLink{}, ErrCorrupt
	}
	l := EpochLink{uint64(version), link}
	if l.Validate() != nil {
		return EpochLink{}, ErrCorrupt
	}
	return l, nil
}
