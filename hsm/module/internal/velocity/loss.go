package velocity

import "time"

// presumption is how many losses of power each window must allow for. Each may have
// hidden as many tries at any subject as the smallest limit allows.
type presumption [3]uint32

// A loss is the era in 32 bits and the last tick in which a count can have been made
// that is lost. No two eras have the same base.
const lossMask = 1<<32 - 1

// everything is more losses than any limit allows for.
const everything = MaxLimit + 1

// presumed returns the presumption in a tick. Losses are only noted before a module of
// the boot has joined, so that it is computed once in a tick.
func (t *Table) presumed(tick uint64) (p presumption) {
	const bits, most = 8, 1<<8 - 1
	known := t.known.Load()
	if known>>(3*bits) != tick+1 { // 0 is not known yet
		known = (tick + 1) << (3 * bits)
		for ring, n := range t.lossesAt(tick) {
			known |= uint64(n) << (ring * bits)
		}
		t.known.Store(known)
	}
	for ring := range p {
		if p[ring] = uint32(known>>(ring*bits)) & most; p[ring] == most {
			p[ring] = everything
		}
	}
	return p
}

// lossesAt counts the losses in each window. Where the list is full, one may have been
// forgotten while it still counted, and the day has 255.
func (t *Table) lossesAt(tick uint64) (n [3]uint8) {
	for i := range t.header.losses {
		last := t.header.losses[i].Load() & lossMask
		for ring := range n {
			if last != 0 && last <= tick+2*staleAfter && last/widths[ring]+window >= tick/widths[ring] {
				n[ring]++
			}
		}
	}
	if int(n[day]) == len(t.header.losses) {
		n[day] = 255
	}
	return n
}

// presumedUntil returns when the last presumption ends that is in force, as the time
// of day; zero when there is none.
func (t *Table) presumedUntil(tick uint64) time.Time {
	var until uint64
	for i := range t.header.losses {
		last := t.header.losses[i].Load() & lossMask
		if last != 0 && last <= tick+2*staleAfter && last/widths[day]+window >= tick/widths[day] {
			until = max(until, (last/widths[day]+window+1)*widths[day])
		}
	}
	if spent := t.header.spent.Load(); spent != 0 && spent <= tick && spent/widths[day]+window >= tick/widths[day] {
		until = max(until, (spent/widths[day]+window+1)*widths[day])
	}
	if until == 0 {
		return time.Time{}
	}
	return t.clock.Wall().Add(time.Duration(until-tick) * tickTime)
}
