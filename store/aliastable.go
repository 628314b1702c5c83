package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

const (
	getAlias = `SELECT target FROM aliases WHERE alias = $1`

	setAlias = `INSERT INTO aliases (alias, target) VALUES ($1, $2)
		ON CONFLICT (alias) DO UPDATE SET target = excluded.target`

	deleteAlias = `DELETE FROM aliases WHERE alias = $1`

	listAliases = `SELECT alias, target FROM aliases WHERE alias > $1 ORDER BY alias LIMIT $2`

	aliasesOf = `SELECT alias FROM aliases WHERE target = $1 ORDER BY alias LIMIT $2`

	countAliases = `SELECT count(*) FROM aliases WHERE target = $1 AND alias <> $2`

	hasKey = `SELECT 1 FROM keys WHERE name = $1`
)

// SetAlias implements [Aliases].
func (s *tables) SetAlias(ctx context.Context, alias, key, expected string) error {
	if err := (Alias{alias, key}).Validate(); err != nil {
		return err
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		if err := expect(ctx, tx, alias, expected); err != nil {
			return err
		}
		taken, err := exists(ctx, tx, hasKey, alias)
		if err != nil {
			return err
		}
		if !taken {
			if taken, err = isProposed(ctx, tx, alias); err != nil {
				return err
			}
		}
		if taken {
			return fmt.Errorf("alias %s: %w: a key has this name", alias, ErrExists)
		}
		there, err := exists(ctx, tx, hasKey, key)
		switch {
		case err != nil:
			return err
		case !there:
			return fmt.Errorf("key %s: %w", key, ErrNotFound)
		}
		var others int64
		if err := tx.QueryRowContext(ctx, countAliases, key, alias).Scan(&others); err != nil {
			return err
		}
		if others >= MaxAliasesOf {
			return fmt.Errorf("%w: key %s: a key has at most %d aliases", ErrInvalid, key, MaxAliasesOf)
		}
		_, err = tx.ExecContext(ctx, setAlias, alias, key)
		return err
	})
}

// DeleteAlias implements [Aliases].
func (s *tables) DeleteAlias(ctx context.Context, alias, expected string) error {
	if !validName(alias) {
		return s.none(ctx)
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		there, err := exists(ctx, tx, getAlias, alias)
		switch {
		case err != nil:
			return err
		case !there:
			return ErrNotFound
		}
		if err := expect(ctx, tx, alias, expected); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, deleteAlias, alias)
		return err
	})
}

// expect returns [ErrConflict] unless the alias stands for that key, "" for none.
func expect(ctx context.Context, tx *sql.Tx, alias, key string) error {
	present, err := scanText(tx.QueryRowContext(ctx, getAlias, alias))
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if present != key {
		return fmt.Errorf("alias %s: %w", alias, ErrConflict)
	}
	return nil
}

// Alias implements [Aliases].
func (s *tables) Alias(ctx context.Context, alias string) (string, error) {
	if !validName(alias) {
		return "", s.none(ctx)
	}
	key, err := one(ctx, s, scanText, getAlias, alias)
	if err == nil && (Alias{alias, key}).Validate() != nil {
		return "", s.fail(ErrCorrupt)
	}
	return key, err
}

// Aliases implements [Aliases].
func (s *tables) Aliases(ctx context.Context, after string, limit int) ([]Alias, error) {
	if err := validLimit(limit, MaxList); err != nil {
		return nil, err
	}
	return collect(ctx, s, scanAlias, listAliases, reachable(after), limit)
}

// AliasesOf implements [Aliases].
func (s *tables) AliasesOf(ctx context.Context, key string) ([]string, error) {
	return collect(ctx, s, scanName, aliasesOf, reachable(key), MaxAliasesOf)
}

// scanAlias takes the columns as they come; see scan.
func scanAlias(row scanner) (Alias, error) {
	column, err := columns(row, 2)
	if err != nil {
		return Alias{}, err
	}
	name, ok0 := column[0].(string)
	key, ok1 := column[1].(string)
	a := Alias{name, key}
	if !ok0 || !ok1 || a.Validate() != nil {
		return Alias{}, ErrCorrupt
	}
	return a, nil
}

func scanName(row scanner) (string, error) {
	name, err := scanText(row)
	if err == nil && !validName(name) {
		return "", ErrCorrupt
	}
	return name, err
}

func scanText(row scanner) (string, error) {
	column, err := columns(row, 1)
	if err != nil {
		return "", err
	}
	text, ok := column[0].(string)
	if !ok {
		return "", ErrCorrupt
	}
	return text, nil
}
