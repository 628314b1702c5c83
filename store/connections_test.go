package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// These tests change or read settings of the connections.

func TestConnectionSettings(t *testing.T) {
	s := openTest(t)
	for _, p := range []struct {
		pragma string
		want   any
	}{
		{"journal_mode", "wal"}, {"synchronous", int64(2)}, {"foreign_keys", int64(1)}, {"trusted_schema", int64(0)},
		{"cell_size_check", int64(1)}, {"busy_timeout", int64(5000)}, {"application_id", int64(applicationID)},
	} {
		for name, db := range map[string]*sql.DB{"writer": s.writer, "reader": s.readers} {
			var got any
			if err := db.QueryRowContext(t.Context(), "PRAGMA "+p.pragma).Scan(&got); err != nil || got != p.want {
				t.Errorf("%s: %s = %v, %v, want %v", name, p.pragma, got, err, p.want)
			}
		}
	}
	_, err := s.readers.ExecContext(t.Context(), "DELETE FROM keys")
	if err := classify(t.Context(), err); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a reader's write: %v, want ErrReadOnly", err)
	}
}

// The plan must not read the table or sort: a lookup costs the same with any number
// of keys.
func TestLookupsUseTheIndex(t *testing.T) {
	s := openTest(t)
	for _, query := range []struct {
		sql  string
		args []any
		want []string
	}{
		{getKey, []any{"zpk"}, []string{"SEARCH keys USING INDEX sqlite_autoindex_keys_1 (name=?)"}},
		{listKeys, []any{"zpk", 10}, []string{
			"SEARCH k USING INDEX sqlite_autoindex_keys_1 (name>?)",
			"CORRELATED SCALAR SUBQUERY 1",
			"SEARCH keys USING COVERING INDEX sqlite_autoindex_keys_1 (name=?)",
		}},
	} {
		rows, err := s.readers.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query.sql, query.args...)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			got = append(got, detail)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(query.want) {
			t.Errorf("plan of %s: %q, want %q", query.sql, got, query.want)
		}
	}
}

func TestFull(t *testing.T) {
	s := openTest(t)
	ctx := t.Context()
	small := KeyRecord{Name: "small", Version: 1, State: Enabled, Sealed: []byte{1}, CreatedAt: time.Unix(0, 0)}
	large := small
	large.Name, large.Sealed = "large", bytes.Repeat([]byte{1}, MaxSealed)
	if err := s.Put(ctx, small); err != nil {
		t.Fatal(err)
	}
	// The file may not grow: SQLite answers as it does on a full disk.
	if _, err := s.writer.ExecContext(ctx, "PRAGMA max_page_count = 1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(ctx, large); !errors.Is(err, ErrFull) {
		t.Errorf("Put: %v, want ErrFull", err)
	}
	if _, err := s.Get(ctx, "large"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get: %v, want ErrNotFound", err)
	}
	if _, err := s.writer.ExecContext(ctx, "PRAGMA max_page_count = 1000000"); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(ctx, large); err != nil {
		t.Errorf("Put with space again: %v", err)
	}
}

func TestLocked(t *testing.T) {
	s := openTest(t)
	r := KeyRecord{Name: "zpk", Version: 1, State: Enabled, Sealed: []byte{1}, CreatedAt: time.Unix(0, 0)}
	// Another process's write transaction, as far as SQLite can tell.
	other, err := pool(s.path, false, 1)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := other.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	// The wait ends with the context.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Put(ctx, r); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Put: %v, want DeadlineExceeded", err)
	}
	if _, err := s.writer.ExecContext(t.Context(), "PRAGMA busy_timeout = 1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), r); !errors.Is(err, ErrLocked) {
		t.Errorf("Put: %v, want ErrLocked", err)
	}
	if _, err := s.Get(t.Context(), "zpk"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a reader is kept out: %v", err)
	}
	if err := errors.Join(tx.Rollback(), other.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), r); err != nil {
		t.Errorf("Put after the other's end: %v", err)
	}
}

func openTest(t *testing.T) *SQLite {
	t.Helper()
	s, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "keyd.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
