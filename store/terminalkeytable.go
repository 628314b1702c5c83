package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

const (
	terminalKeyColumns = `terminal, name, version, injection, sealed, not_after, created_at`

	addTerminalKey = `INSERT INTO terminal_keys (` + terminalKeyColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7)`

	newestTerminalKey = `SELECT coalesce(max(version), 0) FROM terminal_keys WHERE terminal = $1 AND name = $2`

	trimTerminalKeys = `DELETE FROM terminal_keys WHERE terminal = $1 AND name = $2 AND version < $3`

	dropInjectionKeys = `DELETE FROM terminal_keys WHERE terminal = $1 AND injection = $2 AND name IN ('master', 'receipt')`

	dropReceiptKey = `DELETE FROM terminal_keys WHERE terminal = $1 AND injection = $2 AND name = 'receipt'`

	dropTerminalKeys = `DELETE FROM terminal_keys WHERE terminal = $1`

	sessionColumns = `k.terminal, k.name, k.version, k.injection, k.sealed, k.not_after, k.created_at, t.state`

	newestSession = `SELECT ` + sessionColumns + ` FROM terminal_keys AS k JOIN terminals AS t ON t.id = k.terminal JOIN injections AS i ON i.id = k.injection AND i.state = 'CONFIRMED'
		WHERE k.terminal = $1 AND k.name = $2 ORDER BY k.version DESC LIMIT 1`

	sessionVersion = `SELECT ` + sessionColumns + ` FROM terminal_keys AS k JOIN terminals AS t ON t.id = k.terminal JOIN injections AS i ON i.id = k.injection AND i.state = 'CONFIRMED'
		WHERE k.terminal = $1 AND k.name = $2 AND k.version = $3 LIMIT 1`

	keysOfTerminal = `SELECT ` + terminalKeyColumns + ` FROM terminal_keys WHERE terminal = $1 ORDER BY terminal, name, version, injection`

	listTerminalKeys = `SELECT ` + terminalKeyColumns + ` FROM terminal_keys
		WHERE (terminal, name, version, injection) > ($1, $2, $3, $4) ORDER BY terminal, name, version, injection LIMIT $5`

	replaceTerminalKey = `UPDATE terminal_keys SET sealed = $1 WHERE terminal = $2 AND name = $3 AND version = $4 AND injection = $5 AND sealed = $6`

	hasTerminalKeyRow = `SELECT 1 FROM terminal_keys WHERE terminal = $1 AND name = $2 AND version = $3 AND injection = $4`

	isConfirmed = `SELECT 1 FROM injections WHERE terminal = $1 AND id = $2 AND state = 'CONFIRMED'`
)

// AddSessionKeys implements [TerminalKeys].
func (s *tables) AddSessionKeys(ctx context.Context, terminal, injection string, keys []TerminalKey) error {
	for i := range keys {
		k := &keys[i]
		if err := k.Validate(); err != nil {
			return err
		}
		if k.Terminal != terminal || k.Injection != injection || !session(k.Name) {
			return fmt.Errorf("%w: session keys are of one terminal and one injection", ErrInvalid)
		}
	}
	return s.engine.transaction(ctx, func(tx *sql.Tx) error {
		if err := isRegistered(ctx, tx, terminal); err != nil {
			return err
		}
		confirmed, err := exists(ctx, tx, isConfirmed, terminal, injection)
		switch {
		case err != nil:
			return err
		case !confirmed:
			return fmt.Errorf("injection %s: %w", injection, ErrConflict)
		}
		for i := range keys {
			k := &keys[i]
			var newest int64
			if err := tx.QueryRowContext(ctx, newestTerminalKey, k.Terminal, k.Name).Scan(&newest); err != nil {
				return err
			}
			if newest+1 != int64(k.Version) {
				return fmt.Errorf("session key %s of terminal %s: %w", k.Name, terminal, ErrConflict)
			}
			if _, err := tx.ExecContext(ctx, addTerminalKey, terminalKeyValues(k)...); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, trimTerminalKeys, k.Terminal, k.Name, newest); err != nil {
				return err
			}
		}
		return nil
	})
}

func terminalKeyValues(k *TerminalKey) []any {
	return []any{k.Terminal, k.Name, int64(k.Version), k.Injection, k.Sealed, k.NotAfter.UnixMicro(), k.CreatedAt.UnixMicro()}
}

// SessionKey implements [TerminalKeys].
func (s *tables) SessionKey(ctx context.Context, terminal, name string, version uint32) (TerminalKey, TerminalState, error) {
	if !validTerminalName(terminal) || !visible(name, MaxKeyPart) || !session(name) {
		return TerminalKey{}, "", s.none(ctx)
	}
	query, args := newestSession, []any{terminal, name}
	if version != 0 {
		query, args = sessionVersion, append(args, int64(version))
	}
	type found struct {
		key   TerminalKey
		state TerminalState
	}
	f, err := one(ctx, s, func(from scanner) (found, error) {
		r, err := readRow(from, 8)
		if err != nil {
			return found{}, err
		}
		f := found{terminalKeyOf(r), TerminalState(r.text(7))}
		invalid := f.key.Validate()
		if !f.state.valid() {
			invalid = ErrCorrupt
		}
		return f, r.end(invalid)
	}, query, args...)
	return f.key, f.state, err
}

// KeysOfTerminal implements [TerminalKeys].
func (s *tables) KeysOfTerminal(ctx context.Context, terminal string) ([]TerminalKey, error) {
	return collect(ctx, s, scanTerminalKey, keysOfTerminal, reachable(terminal))
}

// ListTerminalKeys implements [TerminalKeys].
func (s *tables) ListTerminalKeys(ctx context.Context, after TerminalKey, limit int) ([]TerminalKey, error) {
	if err := validLimit(limit, MaxList); err != nil {
		return nil, err
	}
	return collect(ctx, s, scanTerminalKey, listTerminalKeys, reachable(after.Terminal), reachable(after.Name), int64(after.Version), reachable(after.Injection), limit)
}

// ReplaceTerminalKey implements [TerminalKeys].
func (s *tables) ReplaceTerminalKey(ctx context.Context, k TerminalKey, sealed []byte) error {
	if len(sealed) == 0 || len(sealed) > MaxSealed {
		return fmt.Errorf("%w: a sealed key has 1 to %d bytes", ErrInvalid, MaxSealed)
	}
	if k.Validate() != nil {
		return s.none(ctx)
	}
	return s.engine.transaction(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, replaceTerminalKey, sealed, k.Terminal, k.Name, int64(k.Version), k.Injection, k.Sealed)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 1 {
			return err
		}
		there, err := exists(ctx, tx, hasTerminalKeyRow, k.Terminal, k.Name, int64(k.Version), k.Injection)
		switch {
		case err != nil:
			return err
		case !there:
			return ErrNotFound
		}
		return fmt.Errorf("key %s of terminal %s: %w", k.Name, k.Terminal, ErrConflict)
	})
}

func scanTerminalKey(from scanner) (TerminalKey, error) {
	r, err := readRow(from, 7)
	if err != nil {
		return TerminalKey{}, err
	}
	k := terminalKeyOf(r)
	if err := r.end(k.Validate()); err != nil {
		return TerminalKey{}, err
	}
	return k, nil
}

func terminalKeyOf(r *row) TerminalKey {
	return TerminalKey{Terminal: r.text(0), Name: r.text(1), Version: r.small(2), Injection: r.text(3), Sealed: r.bytes(4), NotAfter: r.time(5), CreatedAt: r.time(6)}
}

// isRegistered returns [ErrNotFound] where there is no such terminal, and [ErrConflict] where it
// is in another state.
func isRegistered(ctx context.Context, tx *sql.Tx, terminal string) error {
	t, err := scanTerminal(tx.QueryRowContext(ctx, getTerminal, terminal))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("terminal %s: %w", terminal, ErrNotFound)
	case err != nil:
		return err
	case t.State != TerminalRegistered:
		return fmt.Errorf("terminal %s: %w: it is not registered", terminal, ErrConflict)
	}
	return nil
}
