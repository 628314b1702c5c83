package dukpt

import "math/bits"

// Advance returns the counter that a terminal of the scheme has so many transactions after
// one with counter c, of 0 for none yet: counters with too many one-bits are skipped, as
// [KSN.Next] does. It reports false where the scheme has no counter left by then, and for a
// counter that the scheme does not have. Host side.
func (s Scheme) Advance(c uint32, transactions uint64) (uint32, bool) {
	if s.CounterBits() == 0 || c != 0 && checkCounter(s, c) != nil {
		return 0, false
	}
	number := s.before(c)
	if transactions >= 1<<33 {
		return 0, false
	}
	return s.numbered(number + transactions)
}

// before returns how many counters below c the scheme has, 0 among them.
func (s Scheme) before(c uint32) (n uint64) {
	left := s.MaxOneBits()
	for bit := s.CounterBits() - 1; bit >= 0; bit-- {
		if c>>bit&1 == 1 {
			n += light(bit, left)
			left--
		}
	}
	return n
}

// numbered is the inverse of before.
func (s Scheme) numbered(n uint64) (c uint32, ok bool) {
	left := s.MaxOneBits()
	for bit := s.CounterBits() - 1; bit >= 0; bit-- {
		below := light(bit, left)
		if n < below {
			continue
		}
		if left == 0 {
			return 0, false
		}
		n -= below
		c |= 1 << bit
		left--
	}
	return c, n == 0
}

// light returns how many numbers of so many bits have at most some one-bits.
func light(width, ones int) (n uint64) {
	if ones < 0 {
		return 0
	}
	if ones >= width {
		return 1 << width
	}
	binomial := uint64(1)
	for k := 0; k <= ones; k++ {
		n += binomial
		hi, lo := bits.Mul64(binomial, uint64(width-k))
		binomial, _ = bits.Div64(hi, lo, uint64(k+1))
	}
	return n
}
