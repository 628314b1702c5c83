package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
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
		{"secure_delete", int64(2)},
	} {
		for name, db := range map[string]*sql.DB{"writer": s.writer, "reader": s.readers} {
			var got any
			if err := db.QueryRowContext(t.Context(), "PRAGMA "+p.pragma).Scan(&got); err != nil || got != p.want {
				t.Errorf("%s: %s = %v, %v, want %v", name, p.pragma, got, err, p.want)
			}
		}
	}
	var wait int64
	if err := s.checkpointer.QueryRowContext(t.Context(), "PRAGMA busy_timeout").Scan(&wait); err != nil || wait != checkpointWait.Milliseconds() {
		t.Errorf("checkpointer: busy_timeout = %d, %v", wait, err)
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
		{getVersion, []any{"zpk", 1}, []string{"SEARCH keys USING INDEX sqlite_autoindex_keys_1 (name=? AND version=?)"}},
		{newestVersions, []any{"zpk", 10}, []string{"SEARCH keys USING INDEX sqlite_autoindex_keys_1 (name=?)"}},
		{listVersions, []any{"zpk", 1, 10}, []string{"SEARCH keys USING INDEX sqlite_autoindex_keys_1 ((name,version)>(?,?))"}},
		{listPrefix, []any{"a", "b", 10}, []string{
			"SEARCH k USING INDEX sqlite_autoindex_keys_1 (name>? AND name<?)",
			"CORRELATED SCALAR SUBQUERY 1",
			"SEARCH keys USING COVERING INDEX sqlite_autoindex_keys_1 (name=?)",
		}},
		{listTagged, []any{"a", "b", 10, "t"}, []string{
			"SEARCH t USING COVERING INDEX key_tags_by_tag (tag=? AND name>? AND name<?)",
			"SEARCH k USING INDEX sqlite_autoindex_keys_1 (name=? AND version=?)",
			"CORRELATED SCALAR SUBQUERY 1",
			"SEARCH keys USING COVERING INDEX sqlite_autoindex_keys_1 (name=?)",
		}},
		{listTaggedWith, []any{"a", "b", 10, "t", "v"}, []string{
			"SEARCH t USING COVERING INDEX key_tags_by_value (tag=? AND value=? AND name>? AND name<?)",
			"SEARCH k USING INDEX sqlite_autoindex_keys_1 (name=? AND version=?)",
			"CORRELATED SCALAR SUBQUERY 1",
			"SEARCH keys USING COVERING INDEX sqlite_autoindex_keys_1 (name=?)",
		}},
		{listCeremonies, []any{1, "a", 10}, []string{"SEARCH ceremonies USING INDEX ceremonies_by_time ((opened_at,id)<(?,?))"}},
		{listCeremoniesIn, []any{"OPEN", 1, "a", 10}, []string{"SEARCH ceremonies USING INDEX ceremonies_by_state (state=? AND (opened_at,id)<(?,?))"}},
		{getAlias, []any{"a"}, []string{"SEARCH aliases USING PRIMARY KEY (alias=?)"}},
		{aliasesOf, []any{"zpk", 10}, []string{"SEARCH aliases USING COVERING INDEX aliases_by_target (target=?)"}},
		{listTags, []any{"zpk", 10}, []string{"SEARCH key_tags USING PRIMARY KEY (name=?)"}},
		{usageOf, []any{"zpk", 10}, []string{"SEARCH key_usage USING PRIMARY KEY (name=?)"}},
		{getCounter, []any{[]byte{1}}, []string{"SEARCH counters USING PRIMARY KEY (sequence=?)"}},
		{readJournal, nil, []string{"SCAN counter_journal"}},
		{trimJournal, []any{7}, []string{"SEARCH counter_journal USING INTEGER PRIMARY KEY (rowid<?)", "SCALAR SUBQUERY 1", "SEARCH counter_journal"}},
		{extendRows, []any{7}, []string{"SEARCH counter_journal USING INTEGER PRIMARY KEY (rowid>?)"}},
		{extendNext, []any{7, []byte{1}, []byte{1, 2, 3, 4}}, []string{"SCAN CONSTANT ROW", "SCALAR SUBQUERY 1", "SEARCH counter_journal", "SCALAR SUBQUERY 2", "SEARCH counter_journal USING INTEGER PRIMARY KEY (rowid=?)"}},
		{listLinks, []any{7, 10}, []string{"SEARCH epoch_links USING INTEGER PRIMARY KEY (rowid>?)"}},
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
	if err := s.ReplaceSealed(ctx, "small", 1, small.Sealed, large.Sealed); !errors.Is(err, ErrFull) {
		t.Errorf("ReplaceSealed: %v, want ErrFull", err)
	}
	if err := s.AdoptEpoch(ctx, 1, bytes.Repeat([]byte{1}, MaxEpoch)); !errors.Is(err, ErrFull) {
		t.Errorf("AdoptEpoch: %v, want ErrFull", err)
	}
	batch := bytes.Repeat([]byte{1}, MaxBatch)
	extend := func() error {
		return s.ExtendJournal(ctx, 0, nil, func(uint64, []byte) error { return nil }, func(uint64) ([]byte, error) { return batch, nil })
	}
	if err := extend(); !errors.Is(err, ErrFull) {
		t.Errorf("ExtendJournal: %v, want ErrFull", err)
	}
	counters := make([]Counter, MaxFold)
	for i := range counters {
		counters[i] = Counter{Sequence: fmt.Appendf(nil, "q%d", i), Receipt: make([]byte, MaxReceipt), AcceptedAt: time.Unix(0, 0)}
	}
	if err := s.Fold(ctx, counters...); !errors.Is(err, ErrFull) {
		t.Errorf("Fold: %v, want ErrFull", err)
	}
	if _, err := s.Counter(ctx, []byte("q0")); !errors.Is(err, ErrNotFound) {
		t.Errorf("Counter: %v, want ErrNotFound", err)
	}
	if _, err := s.writer.ExecContext(ctx, "PRAGMA max_page_count = 1000000"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Put(ctx, large), extend(), s.Fold(ctx, counters...)); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

// A backup that reads keeps the write-ahead log from being emptied: that is said, and
// done when it has ended.
func TestDeletedReceiptKeysLeaveTheLog(t *testing.T) {
	s := openTest(t)
	ctx := t.Context()
	key := ReceiptKey{ID: 1, CreatedAt: time.Unix(0, 0)}
	copy(key.Key[:], "a key that has to leave all files")
	if err := s.AddReceiptKey(ctx, key); err != nil {
		t.Fatal(err)
	}
	inFiles := func() bool {
		t.Helper()
		for _, suffix := range []string{"", "-wal"} {
			content, err := os.ReadFile(s.path + suffix)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(content, key.Key[:]) {
				return true
			}
		}
		return false
	}
	if !inFiles() {
		t.Error("the key is not in the files: the checks below prove nothing")
	}
	tx, err := s.readers.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM receipt_keys").Scan(&n); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if err := s.DeleteReceiptKeys(ctx, 1); !errors.Is(err, ErrLocked) {
		t.Errorf("DeleteReceiptKeys beside a reader: %v, want ErrLocked", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteReceiptKeys(ctx, 1); err != nil {
		t.Errorf("DeleteReceiptKeys again: %v", err)
	}
	if inFiles() {
		t.Error("the deleted key is still in the files")
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
	if err := s.SetAlias(t.Context(), "a", "zpk", ""); !errors.Is(err, ErrLocked) {
		t.Errorf("SetAlias: %v, want ErrLocked", err)
	}
	if err := s.AdvanceEpoch(t.Context(), 1, nil, nil); !errors.Is(err, ErrLocked) {
		t.Errorf("AdvanceEpoch: %v, want ErrLocked", err)
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
