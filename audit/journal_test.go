package audit

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestLastJournal: the highest row that the newest entries name, since the database was
// restored, wherever in the segments they lie.
func TestLastJournal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l, err := Open(dir, Options{SegmentSize: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	entry := func(e Entry) {
		t.Helper()
		if e.Decision == "" {
			e.Decision = Allowed
		}
		if err := l.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, row uint64) {
		t.Helper()
		if got, err := LastJournal(dir); err != nil || got != row {
			t.Errorf("%s: row %d, %v, want %d", what, got, err, row)
		}
	}
	want("none", 0)
	entry(Entry{Detail: `a text that says "journal":99 and ,"journal":98`})
	want("a text", 0)
	for row := range uint64(20) {
		entry(Entry{Journal: row + 1})
	}
	entry(Entry{Journal: 18}) // of a request that was slower
	want("out of order", 20)
	for i := range 400 { // more than a segment without one
		entry(Entry{Method: fmt.Sprintf("Some/Method%d", i), Detail: strings.Repeat("text ", 80)})
	}
	if list, err := segments(dir); err != nil || len(list) < 3 {
		t.Fatalf("%d segments, %v", len(list), err)
	}
	want("in an older segment", 20)
	entry(Entry{Method: MethodRestored, Decision: Event})
	want("restored", 0)
	entry(Entry{Journal: 7})
	want("after that", 7)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	want("closed", 7)
	if _, err := LastJournal(filepath.Join(dir, "nothing")); err == nil {
		t.Error("no log has an answer")
	}
}
