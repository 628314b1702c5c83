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
	hostColumns = `name, key, certificates, list, changed_at`

	addHost = `INSERT INTO key_hosts (` + hostColumns + `) VALUES ($1, $2, $3, $4, $5)`

	setHost = addHost + ` ON CONFLICT (name) DO UPDATE SET key = excluded.key, certificates = excluded.certificates, list = excluded.list, changed_at = excluded.changed_at`

	getHost    = `SELECT ` + hostColumns + ` FROM key_hosts WHERE name = $1`
	listHosts  = `SELECT ` + hostColumns + ` FROM key_hosts ORDER BY name`
	countHosts = `SELECT count(*) FROM key_hosts`

	setColumns = `name, version, content, created_at`

	addSet        = `INSERT INTO key_sets (` + setColumns + `) VALUES ($1, $2, $3, $4)`
	getSet        = `SELECT ` + setColumns + ` FROM key_sets WHERE name = $1 ORDER BY version DESC LIMIT 1`
	getSetVersion = `SELECT ` + setColumns + ` FROM key_sets WHERE name = $1 AND version = $2`
	listSets      = `SELECT ` + setColumns + ` FROM key_sets AS k WHERE version = (SELECT max(version) FROM key_sets WHERE name = k.name) ORDER BY name`
	newestSet     = `SELECT coalesce(max(version), 0) FROM key_sets WHERE name = $1`
	countSets     = `SELECT count(DISTINCT name) FROM key_sets`

	listColumns = `issuer_key, issuer, number, entries, this_update, next_update, digest, stored_at`

	addList = `INSERT INTO revocation_lists (` + listColumns + `, issuers, list) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`

	removeList = `DELETE FROM revocation_lists WHERE issuer_key = $1`
	getList    = `SELECT ` + listColumns + `, issuers, list FROM revocation_lists WHERE issuer_key = $1`
	digestOf   = `SELECT digest FROM revocation_lists WHERE issuer_key = $1`
	listLists  = `SELECT ` + listColumns + ` FROM revocation_lists ORDER BY issuer_key`
	countLists = `SELECT count(*) FROM revocation_lists`
)

// SetKeyHost implements [KeySets].
func (s *tables) SetKeyHost(ctx context.Context, h KeyHost) error {
	if err := h.Validate(); err != nil {
		return err
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, setHost, hostValues(&h)...); err != nil {
			return err
		}
		return atMost(ctx, tx, MaxKeyHosts, "key hosts", countHosts)
	})
}

func hostValues(h *KeyHost) []any {
	return []any{h.Name, h.Key, notNull(h.Certificates), notNull(h.List), h.ChangedAt.UnixMicro()}
}

// atMost refuses what would be one too many.
func atMost(ctx context.Context, tx *sql.Tx, most int64, what, query string) error {
	var n int64
	if err := tx.QueryRowContext(ctx, query).Scan(&n); err != nil {
		return err
	}
	if n > most {
		return fmt.Errorf("%w: there are at most %d %s", ErrInvalid, most, what)
	}
	return nil
}

// KeyHost implements [KeySets].
func (s *tables) KeyHost(ctx context.Context, name string) (KeyHost, error) {
	if !validTerminalName(name) {
		return KeyHost{}, s.none(ctx)
	}
	return one(ctx, s, scanHost, getHost, name)
}

// KeyHosts implements [KeySets].
func (s *tables) KeyHosts(ctx context.Context) ([]KeyHost, error) {
	return collect(ctx, s, scanHost, listHosts)
}

func scanHost(from scanner) (KeyHost, error) {
	r, err := readRow(from, 5)
	if err != nil {
		return KeyHost{}, err
	}
	h := KeyHost{Name: r.text(0), Key: r.text(1), Certificates: r.bytes(2), List: r.bytes(3), ChangedAt: r.time(4)}
	if err := r.end(h.Validate()); err != nil {
		return KeyHost{}, err
	}
	return h, nil
}

// AddKeySet implements [KeySets].
func (s *tables) AddKeySet(ctx context.Context, k KeySet) error {
	if err := k.Validate(); err != nil {
		return err
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		var newest int64
		if err := tx.QueryRowContext(ctx, newestSet, k.Name).Scan(&newest); err != nil {
			return err
		}
		if newest+1 != int64(k.Version) {
			return fmt.Errorf("key set %s: %w", k.Name, ErrConflict)
		}
		if _, err := tx.ExecContext(ctx, addSet, setValues(&k)...); err != nil {
			return err
		}
		return atMost(ctx, tx, MaxKeySets, "key sets", countSets)
	})
}

func setValues(k *KeySet) []any {
	return []any{k.Name, int64(k.Version), notNull(k.Content), k.CreatedAt.UnixMicro()}
}

// KeySet implements [KeySets].
func (s *tables) KeySet(ctx context.Context, name string) (KeySet, error) {
	if !validTerminalName(name) {
		return KeySet{}, s.none(ctx)
	}
	return one(ctx, s, scanSet, getSet, name)
}

// KeySetVersion implements [KeySets].
func (s *tables) KeySetVersion(ctx context.Context, name string, version uint32) (KeySet, error) {
	if !validTerminalName(name) {
		return KeySet{}, s.none(ctx)
	}
	return one(ctx, s, scanSet, getSetVersion, name, int64(version))
}

// KeySets implements [KeySets].
func (s *tables) KeySets(ctx context.Context) ([]KeySet, error) {
	return collect(ctx, s, scanSet, listSets)
}

func scanSet(from scanner) (KeySet, error) {
	r, err := readRow(from, 4)
	if err != nil {
		return KeySet{}, err
	}
	k := KeySet{Name: r.text(0), Version: r.small(1), Content: r.bytes(2), CreatedAt: r.time(3)}
	if err := r.end(k.Validate()); err != nil {
		return KeySet{}, err
	}
	return k, nil
}

// SetRevocationList implements [KeySets].
func (s *tables) SetRevocationList(ctx context.Context, l RevocationList, before []byte) error {
	if err := l.Validate(); err != nil {
		return err
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		var there []byte
		err := tx.QueryRowContext(ctx, digestOf, l.IssuerKey).Scan(&there)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if !bytes.Equal(there, before) {
			return fmt.Errorf("revocation list: %w", ErrConflict)
		}
		if _, err := tx.ExecContext(ctx, removeList, l.IssuerKey); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, addList, listValues(&l)...); err != nil {
			return err
		}
		return atMost(ctx, tx, MaxRevocationLists, "revocation lists", countLists)
	})
}

func listValues(l *RevocationList) []any {
	return []any{
		l.IssuerKey, l.Issuer, l.Number, int64(l.Entries), l.ThisUpdate.UnixMicro(), l.NextUpdate.UnixMicro(), l.Digest, l.StoredAt.UnixMicro(),
		notNull(l.Issuers), notNull(l.List),
	}
}

// RevocationList implements [KeySets].
func (s *tables) RevocationList(ctx context.Context, issuerKey []byte) (RevocationList, error) {
	if len(issuerKey) != sha256.Size {
		return RevocationList{}, s.none(ctx)
	}
	return one(ctx, s, scanList, getList, issuerKey)
}

// RevocationLists implements [KeySets].
func (s *tables) RevocationLists(ctx context.Context) ([]RevocationList, error) {
	return collect(ctx, s, func(from scanner) (RevocationList, error) {
		r, err := readRow(from, 8)
		if err != nil {
			return RevocationList{}, err
		}
		l := listOf(r)
		return l, r.end(l.validate())
	}, listLists)
}

func scanList(from scanner) (RevocationList, error) {
	r, err := readRow(from, 10)
	if err != nil {
		return RevocationList{}, err
	}
	l := listOf(r)
	l.Issuers, l.List = r.bytes(8), r.bytes(9)
	if err := r.end(l.Validate()); err != nil {
		return RevocationList{}, err
	}
	return l, nil
}

func listOf(r *row) RevocationList {
	return RevocationList{
		IssuerKey: r.bytes(0), Issuer: r.text(1), Number: r.text(2), Entries: r.small(3), ThisUpdate: r.time(4), NextUpdate: r.time(5), Digest: r.bytes(6), StoredAt: r.time(7),
	}
}
