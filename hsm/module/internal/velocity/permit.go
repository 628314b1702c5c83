package velocity

import (
	"errors"
	"fmt"
	"time"
)

// A permit's state word is the tick of its last change, a serial number of 30 bits
// that every change increases, and what it is.
const (
	permitFree    = iota
	permitWriting // its other words are being written
	permitLive
)

// How long a permit may be valid.
const (
	MinPermit = time.Minute
	MaxPermit = 7 * 24 * time.Hour
)

// ErrPermitsTaken says that there is no room for another permit.
var ErrPermitsTaken = errors.New("all 64 permits are in use: wait until one is redeemed or expires")

// permitAbandoned is after how many ticks a permit that is being written belongs to
// nobody: its writer died, or else writes what an operator authorised, whichever
// permit it comes to be in.
const permitAbandoned = 6

func nextPermit(state, tick, kind uint64) uint64 {
	return tick<<32 | (state+4)&(1<<32-4) | kind
}

// Permit lets a subject be reset once, within a time of [MinPermit] to [MaxPermit],
// rounded down to 10 seconds. It is for an operator's process, at the machine. A permit
// that is not redeemed when the machine loses power is lost.
func (t *Table) Permit(kind Kind, subject []byte, valid time.Duration) error {
	if t.limits.of(kind) == nil {
		return fmt.Errorf("there is no kind %d of velocity counts", kind)
	}
	if valid < MinPermit || valid > MaxPermit {
		return fmt.Errorf("a permit is valid for %v to %v, not for %v", MinPermit, MaxPermit, valid)
	}
	id := t.identify(kind, subject)
	for i := range t.header.permits {
		p := &t.header.permits[i]
		tick := t.now()
		state := p.state.Load()
		switch state & 3 {
		case permitWriting:
			if since := state >> 32; since <= tick && tick <= since+permitAbandoned {
				continue
			}
		case permitLive:
			if p.valid(tick) {
				continue
			}
		}
		mine := nextPermit(state, tick, permitWriting)
		if !p.state.CompareAndSwap(state, mine) {
			continue
		}
		p.subject.Store(id.permit)
		p.expires.Store(tick + uint64(valid/tickTime))
		if !p.state.CompareAndSwap(mine, nextPermit(mine, tick, permitLive)) {
			return errors.New("the permit could not be written in time: try again")
		}
		return nil
	}
	return ErrPermitsTaken
}

// valid reports whether a live permit has not expired. Further ahead than any permit
// lasts there is none.
func (p *permit) valid(tick uint64) bool {
	expires := p.expires.Load()
	return tick < expires && expires <= tick+uint64(MaxPermit/tickTime)
}

// Redeem uses up a permit for the subject, and resets it. It returns false when there
// is none. Of all processes that try, one gets a permit. If that one dies before it has
// reset the subject, the permit is used up all the same: the operator gives another.
func (t *Table) Redeem(kind Kind, subject []byte) bool {
	if t.limits.of(kind) == nil {
		return false
	}
	id := t.identify(kind, subject)
	for i := range t.header.permits {
		p := &t.header.permits[i]
		tick := t.now()
		state := p.state.Load()
		if state&3 != permitLive || p.subject.Load() != id.permit || !p.valid(tick) {
			continue
		}
		// The state has not changed: so the other words were this permit's.
		if p.state.CompareAndSwap(state, nextPermit(state, tick, permitFree)) {
			t.reset(id)
			return true
		}
	}
	return false
}
