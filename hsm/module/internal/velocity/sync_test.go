package velocity

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// One module writes to the disk when it is due; one that dies in its turn is not waited
// for beyond it.
func TestTurns(t *testing.T) {
	c := newTestClock()
	f := memoryFile(t)
	a, b := openTable(t, f, 1, threeFiveEight, c), openTable(t, f, 1, threeFiveEight, c)
	h := a.header
	due := func(table *Table) bool {
		t.Helper()
		before := h.synced.Load()
		if err := table.syncIfDue(); err != nil {
			t.Fatal(err)
		}
		return h.synced.Load() != before
	}
	c.advance(19 * time.Second)
	if due(a) || due(b) {
		t.Error("written too early")
	}
	c.advance(11 * time.Second)
	if !due(a) || due(b) {
		t.Error("not written once when it was due")
	}
	c.advance(30 * time.Second)
	h.turn.Store(a.now() + syncTurn) // a module takes its turn, and dies
	if due(a) || due(b) {
		t.Error("written in another's turn")
	}
	c.advance(20 * time.Second)
	if !a.Count(Verification, numbered(1)) {
		t.Error("refused before a minute was over")
	}
	if !due(b) {
		t.Error("the dead module is still waited for")
	}
	h.turn.Store(1 << 60) // damage
	c.advance(30 * time.Second)
	if !due(a) {
		t.Error("a turn that ends in the year 300,000,000,000 is waited for")
	}
}

// Nothing is allowed while the disk is further behind than a loss of power may be.
func TestStale(t *testing.T) {
	c := newTestClock()
	table := openTable(t, memoryFile(t), 1, Limits{Verification: Limit{Hour: 100}}, c)
	c.advance(70 * time.Second)
	if table.Count(Verification, numbered(1)) || !table.Stats().Stale {
		t.Error("allowed without a write for a minute")
	}
	whole := table.mem
	table.mem = whole[1:] // which the kernel refuses to write
	if err := table.Sync(); err == nil {
		t.Error("no error")
	}
	if s := table.Stats(); s.SyncError == nil || !s.Stale {
		t.Errorf("%+v", s)
	}
	table.mem = whole
	if err := table.Sync(); err != nil {
		t.Fatal(err)
	}
	if s := table.Stats(); s.SyncError != nil || s.Stale {
		t.Errorf("%+v", s)
	}
	if !table.Count(Verification, numbered(1)) {
		t.Error("refused after a write")
	}
}

// The table writes to the disk by itself, and leaves nothing running behind.
func TestWritesByItself(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	c := newTestClock()
	table := openTable(t, memoryFile(t), 1, threeFiveEight, c)
	before := table.header.synced.Load()
	c.up.Add(int64(40 * time.Second))
	deadline := time.After(time.Minute)
	for poll := time.NewTicker(10 * time.Millisecond); table.header.synced.Load() == before; {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatal("not written")
		}
	}
	closeTable(t, table)
}
