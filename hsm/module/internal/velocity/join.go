package velocity

import (
	"encoding/binary"
	"errors"
)

// An era is a use of the file between two starts of the machine: 16 bits of the boot
// ID, and the base of time in milliseconds. The whole boot ID is in a word of its own.
const (
	baseBits = 48
	baseMask = 1<<baseBits - 1
)

var errDamaged = errors.New("the velocity file is damaged: move it away while keyd is stopped, and start again; all counts then begin again")

// join makes this boot the file's, unless another module did already.
//
// The era is changed last, at once. Everything before that may be done twice, by a
// module after one that died or by two at the same time, and the result is the same.
// Only when the era is this boot's does anybody count or write to the disk, so what
// the steps read does not change before that; and each step is done only while the era
// is the one that was read.
func (t *Table) join(boot [16]byte) error {
	h := t.header
	id := fold(boot)
	for {
		era, clean := h.era.Load(), h.clean.Load()
		if era != 0 && era>>baseBits == id>>baseBits && h.boot.Load() == id {
			t.base = era & baseMask
			break
		}
		latest, begun := h.latest.Load(), h.begun.Load()
		if h.era.Load() != era {
			continue // the words may be of the next era
		}
		wall := uint64(max(t.clock.Wall().UnixMilli(), 0))
		if wall > maxTick*tickMillis {
			return errors.New("the clock is centuries ahead: set it, and start again")
		}
		if latest > maxTick {
			return errDamaged
		}
		if era != 0 && clean != 1 {
			// The latest time is written before begun is.
			if err := t.lose(era, min(begun, latest+1)); err != nil {
				return err
			}
		}
		// The time that has passed since the last use is only known if the clock is
		// right; in doubt it is none.
		now := max(wall, latest*tickMillis)
		var base uint64
		if up := millis(t.clock.SinceBoot()); up < now {
			base = now - up
		}
		h.boot.Store(id)
		h.era.CompareAndSwap(era, id&^baseMask|base)
	}
	// Not before the era: else the end of the last one, which was clean, would look
	// like a loss.
	h.clean.Store(0)
	return nil
}

// fold makes 64 bits of a boot ID, which is random. One of the upper 16 is set, so that
// no era is 0.
func fold(boot [16]byte) uint64 {
	id := binary.BigEndian.Uint64(boot[:8]) ^ binary.BigEndian.Uint64(boot[8:])
	return id | 1<<baseBits
}

// lose notes that counts of an era may be lost, and takes back its permits: one that was
// redeemed may be there again.
func (t *Table) lose(era, begun uint64) error {
	h := t.header
	// Of the last write that was completed begun says the same or more, as it is
	// written before. Up to staleAfter ticks later something was allowed.
	last := begun + staleAfter
	if last > lossMask {
		return errDamaged
	}
	loss := (era^era>>32)<<32 | last
	for {
		// Each word is read once: whoever notes the same loss meanwhile has chosen the same
		// place, since that held the oldest for both.
		oldest, old := -1, uint64(0)
		for i := range h.losses {
			word := h.losses[i].Load()
			if word == loss {
				t.dropPermits(era)
				return nil
			}
			if oldest < 0 || word&lossMask < old&lossMask {
				oldest, old = i, word
			}
		}
		// The oldest goes. If it is not over yet, all in the list are later, and a full
		// list means that nothing is allowed, see lossesAt.
		if h.era.Load() != era {
			return nil // somebody else has done it
		}
		h.losses[oldest].CompareAndSwap(old, loss)
	}
}

func (t *Table) dropPermits(era uint64) {
	for i := range t.header.permits {
		p := &t.header.permits[i]
		state := p.state.Load()
		if t.header.era.Load() != era {
			return
		}
		p.state.CompareAndSwap(state, nextPermit(state, 0, permitFree))
	}
}
