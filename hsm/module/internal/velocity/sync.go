package velocity

import (
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// In ticks.
const (
	syncEvery  = 3 // after the last write to the disk began, the next one is due
	syncTurn   = 2 // for how long others wait for the module whose turn it is
	staleAfter = 5 // the last tick after it in which anything is allowed
)

// Sync writes the table to the disk. The table does so itself, often enough.
func (t *Table) Sync() error {
	h := t.header
	tick := t.now()
	t.advance(&h.begun, tick) // before the write, so that it is part of it
	if err := unix.Msync(t.mem, unix.MS_SYNC); err != nil {
		err = fmt.Errorf("write the velocity file to the disk: %w: while this fails for longer than a minute, no PIN operation is allowed; look at the disk and the kernel's log", err)
		t.failure.Store(&err)
		return err
	}
	t.advance(&h.synced, tick)
	t.failure.Store(nil)
	return nil
}

// advance makes a word at least tick. What is later than the latest time is no time.
func (t *Table) advance(word *atomic.Uint64, tick uint64) {
	for {
		old := word.Load()
		if old >= tick && old <= t.header.latest.Load() || word.CompareAndSwap(old, tick) {
			return
		}
	}
}

// stale reports whether the disk is so far behind that a loss of power could hide more
// than a minute's counts.
func (t *Table) stale(tick uint64) bool { return tick > t.header.synced.Load()+staleAfter }

// syncRegularly writes the table to the disk whenever it is due and this module's turn.
func (t *Table) syncRegularly() {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-ticker.C:
			_ = t.syncIfDue() // Stats has the error
		}
	}
}

// syncIfDue writes the table to the disk if the last write is long ago and no other
// module is about to do it. One that dies in its turn is waited for no longer than the
// turn lasts.
func (t *Table) syncIfDue() error {
	tick := t.now()
	synced, turn := t.header.synced.Load(), t.header.turn.Load()
	if tick < synced+syncEvery && tick >= synced || turn > tick && turn <= tick+syncTurn {
		return nil
	}
	if !t.header.turn.CompareAndSwap(turn, tick+syncTurn) {
		return nil
	}
	return t.Sync()
}
