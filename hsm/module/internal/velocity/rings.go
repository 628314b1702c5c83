package velocity

// The windows, in the order of rings.
const (
	minute = iota
	hour
	day
)

// widths are the sizes of the buckets in ticks.
var widths = [3]uint64{minute: 1, hour: 60, day: 1440}

// window is how many buckets before the present one are counted.
const window = 6

const maxCount = 1<<16 - 1

// tagOf returns the low bits of the number of the bucket that a tick is in.
func tagOf(ring int, tick uint64) uint16 { return uint16(tick / widths[ring]) }

// live reports whether a bucket is in the window that ends with the bucket of tag now.
// Buckets shortly after it are, too: another process may be ahead, and after a loss of
// power the latest time may be lost where counts are not.
func live(bucket uint32, now uint16) bool {
	age := int16(now - uint16(bucket>>16))
	return age <= window && age >= -window-1
}

// estimate is the counts of the three windows.
type estimate [3]uint32

// estimate returns at least what was counted in the windows that end with a tick.
func (r *rings) estimate(tick uint64) (e estimate) {
	for ring := range r {
		now := tagOf(ring, tick)
		for i := range r[ring] {
			if b := r[ring][i].Load(); live(b, now) {
				e[ring] += b & maxCount
			}
		}
	}
	return e.clipped()
}

// ofBoth is what a subject would begin with that inherits a and b.
func ofBoth(a, b *rings, tick uint64) (e estimate) {
	for ring := range a {
		now := tagOf(ring, tick)
		for i := range a[ring] {
			var count uint32
			for _, r := range [...]*rings{a, b} {
				if b := r[ring][i].Load(); live(b, now) {
					count = max(count, b&maxCount)
				}
			}
			e[ring] += count
		}
	}
	return e.clipped()
}

// clipped uses that what was counted in a minute was counted in its hour and day too,
// first in the day. So the tag of a bucket of the minute that was used a week ago, and
// has come round, does no harm.
func (e estimate) clipped() estimate {
	e[hour] = min(e[hour], e[day])
	e[minute] = min(e[minute], e[hour])
	return e
}

// add counts one. It returns false, perhaps with some rings counted, when the tick is
// over: what must be counted again is counted too often, never too seldom.
func (t *Table) add(r *rings, tick uint64) bool {
	for ring := day; ring >= minute; ring-- {
		number := tick / widths[ring]
		bucket, tag := &r[ring][number%8], uint32(uint16(number))<<16
		for {
			old := bucket.Load()
			next := tag | 1
			if old>>16 == tag>>16 {
				next = old
				if old&maxCount < maxCount {
					next++
				}
			} else if t.header.latest.Load() != tick {
				return false // the bucket may be a newer one
			}
			if old == next || bucket.CompareAndSwap(old, next) {
				break
			}
		}
	}
	return true
}

// raise makes dst at least what src is, bucket by bucket. It returns false when the
// tick is over, as add does: what seemed to have grown old may be new.
func (t *Table) raise(dst, src *rings, tick uint64) bool {
	for ring := range src {
		now := tagOf(ring, tick)
		for i := range src[ring] {
			from := src[ring][i].Load()
			if from&maxCount == 0 || !live(from, now) {
				continue
			}
			bucket := &dst[ring][i]
			for {
				old := bucket.Load()
				next := from
				switch {
				case old>>16 == from>>16:
					next = max(old, from)
				case t.header.latest.Load() != tick:
					return false
				case live(old, now): // one of the two is ahead: keep the later tag and the higher count
					tag := from >> 16
					if int16(uint16(old>>16)-uint16(from>>16)) > 0 {
						tag = old >> 16
					}
					next = tag<<16 | max(old&maxCount, from&maxCount)
				}
				if old == next || bucket.CompareAndSwap(old, next) {
					break
				}
			}
		}
	}
	return t.header.latest.Load() == tick
}
