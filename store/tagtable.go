package store

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
)

const (
	setTag = `INSERT INTO key_tags (name, tag, value) VALUES ($1, $2, $3)
		ON CONFLICT (name, tag) DO UPDATE SET value = excluded.value`

	deleteTag = `DELETE FROM key_tags WHERE name = $1 AND tag = $2`

	listTags = `SELECT tag, value FROM key_tags WHERE name = $1 ORDER BY tag LIMIT $2`

	countTags = `SELECT count(*) FROM key_tags WHERE name = $1`

	// ?1 is before the first name, ?2 after the last.
	listPrefix = `SELECT name, version, state, sealed, created_at FROM keys AS k
		WHERE name >= $1 AND name < $2 AND version = (SELECT max(version) FROM keys WHERE name = k.name)
		ORDER BY name LIMIT $3`

	// The tag's index gives the names in their order: CROSS keeps SQLite from beginning
	// with the keys.
	listTagged = `SELECT k.name, version, state, sealed, created_at FROM key_tags AS t CROSS JOIN keys AS k
		WHERE k.name = t.name AND t.tag = $4 AND t.name >= $1 AND t.name < $2 AND version = (SELECT max(version) FROM keys WHERE name = t.name)
		ORDER BY t.name LIMIT $3`

	listTaggedWith = `SELECT k.name, version, state, sealed, created_at FROM key_tags AS t CROSS JOIN keys AS k
		WHERE k.name = t.name AND t.tag = $4 AND t.value = $5 AND t.name >= $1 AND t.name < $2 AND version = (SELECT max(version) FROM keys WHERE name = t.name)
		ORDER BY t.name LIMIT $3`
)

// SetTags implements [Tags].
func (s *tables) SetTags(ctx context.Context, key string, tags map[string]string) error {
	if err := ValidateTags(tags); err != nil {
		return err
	}
	if !validName(key) {
		return s.none(ctx)
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		there, err := exists(ctx, tx, hasKey, key)
		switch {
		case err != nil:
			return err
		case !there:
			return ErrNotFound
		}
		for _, tag := range slices.Sorted(maps.Keys(tags)) {
			if _, err := tx.ExecContext(ctx, setTag, key, tag, tags[tag]); err != nil {
				return err
			}
		}
		var count int64
		if err := tx.QueryRowContext(ctx, countTags, key).Scan(&count); err != nil {
			return err
		}
		if count > MaxTags {
			return fmt.Errorf("%w: key %s: a key has at most %d tags", ErrInvalid, key, MaxTags)
		}
		return nil
	})
}

// DeleteTags implements [Tags].
func (s *tables) DeleteTags(ctx context.Context, key string, tags []string) error {
	if len(tags) > MaxTags {
		return fmt.Errorf("%w: a key has at most %d tags", ErrInvalid, MaxTags)
	}
	return s.change(ctx, func(tx *sql.Tx) error {
		for _, tag := range tags {
			if !validName(key) || validTag(tag, "") != nil {
				continue // none is kept under it
			}
			if _, err := tx.ExecContext(ctx, deleteTag, key, tag); err != nil {
				return err
			}
		}
		return nil
	})
}

// Tags implements [Tags].
func (s *tables) Tags(ctx context.Context, key string) (map[string]string, error) {
	found, err := collect(ctx, s, scanTag, listTags, reachable(key), MaxTags)
	if err != nil {
		return nil, err
	}
	tags := make(map[string]string, len(found))
	for _, t := range found {
		tags[t[0]] = t[1]
	}
	return tags, nil
}

// ListKeys implements [Tags].
func (s *tables) ListKeys(ctx context.Context, f Filter, after string, limit int) ([]KeyRecord, error) {
	if err := validLimit(limit, MaxList); err != nil {
		return nil, err
	}
	if err := f.Validate(); err != nil {
		return nil, err
	}
	// No name has a character below "!" or above "~": what follows a name comes after
	// the name with a space behind it, and what begins with a prefix comes before the
	// prefix with a DEL behind it.
	first, end := f.NamePrefix, f.NamePrefix+"\x7f"
	if after = reachable(after); after != "" {
		first = max(first, after+" ")
	}
	switch {
	case f.Tag == "":
		return collect(ctx, s, scan, listPrefix, first, end, limit)
	case f.TagValue == "":
		return collect(ctx, s, scan, listTagged, first, end, limit, f.Tag)
	}
	return collect(ctx, s, scan, listTaggedWith, first, end, limit, f.Tag, f.TagValue)
}

// scanTag takes the columns as they come; see scan.
func scanTag(row scanner) ([2]string, error) {
	column, err := columns(row, 2)
	if err != nil {
		return [2]string{}, err
	}
	tag, ok0 := column[0].(string)
	value, ok1 := column[1].(string)
	if !ok0 || !ok1 || validTag(tag, value) != nil {
		return [2]string{}, ErrCorrupt
	}
	return [2]string{tag, value}, nil
}
