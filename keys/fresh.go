package keys

import (
	"errors"
	"sync/atomic"
	"time"

	"keyd/fault"
)

// MaxAge is how old the view of a database that several nodes share may become. A node that
// has lost the database does not learn what officers stop elsewhere: after that time it uses
// no key.
const MaxAge = 10 * time.Second

// view is how fresh the view of a shared database is.
type view struct {
	shared   atomic.Bool
	restored atomic.Bool               // from a backup that officers have not accepted
	asked    atomic.Pointer[time.Time] // when the question was put that the database answered last
	wrote    atomic.Pointer[time.Time] // when something was written that it has acknowledged
}

// errOld is the cause of refusals by [Inventory.Fresh].
var errOld = errors.New("for " + MaxAge.String() + " this node has not taken up what the database says, and would not know of keys that were stopped: its log says why")

// errRestored is the cause of refusals by [Inventory.Fresh].
var errRestored = errors.New("the database was restored from a backup: no key is used until officers have its register taken over (a ceremony of kind adopt); keyd officer roster shows its digest")

// SetRestored says whether the database was restored from a backup that officers have not
// accepted.
func (v *Inventory) SetRestored(restored bool) { v.view.restored.Store(restored) }

// Share says that other nodes change the store too. From then on [Inventory.Refreshed] and
// [Inventory.Wrote] have to be called at least once in [MaxAge].
func (v *Inventory) Share() { v.view.shared.Store(true) }

// Refreshed says that all that the database had at that moment was taken up.
func (v *Inventory) Refreshed(at time.Time) { v.view.asked.Store(&at) }

// Wrote says that the database has acknowledged what was written at that moment: one that is
// cut off from its standby still answers, with what was true before.
func (v *Inventory) Wrote(at time.Time) { v.view.wrote.Store(&at) }

// Fresh refuses, with [fault.EpochStale], where the database was restored from a backup and
// officers have not accepted that; and with [fault.StoreUnavailable] where the store is shared
// and what is remembered of it is older than [MaxAge].
func (v *Inventory) Fresh() error {
	if v.view.restored.Load() {
		return fault.Wrap(fault.EpochStale, errRestored)
	}
	if !v.view.shared.Load() {
		return nil
	}
	now := v.clock()
	if old(now, v.view.asked.Load()) || old(now, v.view.wrote.Load()) {
		return fault.Wrap(fault.StoreUnavailable, errOld)
	}
	return nil
}

// old goes by the longer of the times that the monotonic clock and the calendar tell, since the
// first stands still while a machine sleeps.
func old(now time.Time, at *time.Time) bool {
	return at == nil || max(now.Sub(*at), now.Round(0).Sub(at.Round(0))) > MaxAge
}
