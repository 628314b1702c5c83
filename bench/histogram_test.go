package main

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestEveryDurationHasItsBucket(t *testing.T) {
	for bucket := range buckets {
		end := upperEnd(bucket)
		if got := bucketOf(end); got != bucket {
			t.Fatalf("the end of bucket %d, %d ns, is in bucket %d", bucket, end, got)
		}
		if got := bucketOf(end + 1); bucket+1 < buckets && got != bucket+1 {
			t.Fatalf("%d ns, after the end of bucket %d, is in bucket %d", end+1, bucket, got)
		}
		if bucket > 0 {
			if width := end - upperEnd(bucket-1); width > 1 && float64(width) > float64(end)/64 {
				t.Fatalf("bucket %d ends at %d ns and is %d ns wide", bucket, end, width)
			}
		}
	}
	if got := bucketOf(math.MaxUint64); got != buckets-1 {
		t.Errorf("the longest duration is in bucket %d of %d", got, buckets)
	}
}

// Percentiles are those of the sorted durations, to the width of a bucket.
func TestPercentilesOfAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		durations := rapid.SliceOfN(rapid.Int64Range(0, longest), 1, 300).Draw(t, "durations")
		var h, half, other histogram
		for i, d := range durations {
			h.add(time.Duration(d))
			[]*histogram{&half, &other}[i%2].add(time.Duration(d))
		}
		half.merge(&other)
		slices.Sort(durations)
		p := rapid.SampledFrom([]float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 1}).Draw(t, "p")
		exact := float64(durations[max(0, int(math.Ceil(p*float64(len(durations))))-1)])
		got := h.percentile(p) * 1e6
		if got < exact-1e-3 || got > exact+exact/64+1e-3 {
			t.Fatalf("percentile %v of %d durations is %v ns, want %v", p, len(durations), got, exact)
		}
		if half.percentile(p) != h.percentile(p) || half.count() != uint64(len(durations)) {
			t.Fatalf("merged: %v of %d, want %v of %d", half.percentile(p), half.count(), h.percentile(p), len(durations))
		}
	})
}

func TestHistogramAtItsEnds(t *testing.T) {
	var h histogram
	if h.percentile(0.99) != 0 || h.count() != 0 {
		t.Error("an empty histogram has figures")
	}
	h.add(-time.Second)
	if h.percentile(1) != 0 {
		t.Errorf("a negative duration counts as %v ms", h.percentile(1))
	}
	h.add(time.Hour)
	if got := h.percentile(1); got != float64(longest)/1e6 {
		t.Errorf("an hour counts as %v ms", got)
	}
}
