package main

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// histogram counts durations in buckets whose width is at most 1/64 of their value, from
// a nanosecond to two minutes. Its size is fixed, and adding to it costs one atomic
// addition, so that what a measurement costs does not grow with its length. The zero
// value is empty. It is safe for concurrent use.
type histogram struct {
	buckets [buckets]atomic.Uint32
}

const (
	subBits = 6
	longest = 1<<37 - 1 // nanoseconds; what takes longer counts as this
	buckets = (37-subBits-1)<<subBits + 2<<subBits
)

// bucketOf returns the bucket of a number of nanoseconds. Up to 127 each has its own;
// above, a bucket is the seven leading bits and how many follow.
func bucketOf(ns uint64) int {
	ns = min(ns, longest)
	follow := max(0, bits.Len64(ns)-subBits-1)
	return follow<<subBits + int(ns>>follow)
}

// upperEnd returns the largest number of nanoseconds in a bucket.
func upperEnd(bucket int) uint64 {
	if bucket < 2<<subBits {
		return uint64(bucket)
	}
	follow := bucket>>subBits - 1
	leading := uint64(bucket&(1<<subBits-1) | 1<<subBits)
	return (leading+1)<<follow - 1
}

// add counts a duration. A negative one, which no clock that runs forwards gives, is 0.
func (h *histogram) add(d time.Duration) { h.buckets[bucketOf(uint64(max(0, d)))].Add(1) }

// count returns how many durations were added.
func (h *histogram) count() (n uint64) {
	for i := range h.buckets {
		n += uint64(h.buckets[i].Load())
	}
	return n
}

// percentile returns the smallest bucket end that the share p of all durations does not
// exceed, in milliseconds; 0 for an empty histogram. p = 1 is the longest.
func (h *histogram) percentile(p float64) float64 {
	n := h.count()
	if n == 0 {
		return 0
	}
	rank := min(n, max(1, uint64(math.Ceil(p*float64(n)))))
	for i := range h.buckets {
		here := uint64(h.buckets[i].Load())
		if here >= rank {
			return float64(upperEnd(i)) / 1e6
		}
		rank -= here
	}
	return float64(longest) / 1e6
}

// merge adds what another histogram holds.
func (h *histogram) merge(other *histogram) {
	for i := range h.buckets {
		h.buckets[i].Add(other.buckets[i].Load())
	}
}
