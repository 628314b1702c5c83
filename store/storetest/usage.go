package storetest

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"keyd/store"
)

// usageTests are the tests of [store.Uses].
var usageTests = []test{
	{"Usage", testUsage},
	{"UsageContest", testUsageContest},
	{"UsageLimits", testUsageLimits},
}

// Usage returns a usage whose time follows from its count.
func Usage(name string, version uint32, count uint64) store.Usage {
	at := time.Date(2026, 3, 14, 15, 9, 26, 535897000, time.UTC).Add(time.Duration(count%1000) * time.Second)
	return store.Usage{Name: name, Version: version, Count: count, LastUsed: at}
}

func testUsage(t *testing.T, s store.Store) {
	put(t, s, Record("zpk", 1), Record("zpk", 10), Record("zpk", 2), Record("bdk", 1))
	hasUsage(t, s, "zpk")
	addUsage(t, s)
	addUsage(t, s, Usage("zpk", 10, 5), Usage("bdk", 1, 1), Usage("zpk", 1, 2), Usage("none", 1, 9), Usage("zpk", 3, 9))
	hasUsage(t, s, "zpk", Usage("zpk", 1, 2), Usage("zpk", 10, 5))
	hasUsage(t, s, "none") // there is no such key
	// The sum, and the later time: one is earlier than what is kept, one later, and one
	// comes twice.
	addUsage(t, s, Usage("zpk", 10, 3), Usage("zpk", 1, 7), Usage("zpk", 2, 4), Usage("zpk", 2, 0))
	ten, one := Usage("zpk", 10, 5), Usage("zpk", 1, 7)
	ten.Count, one.Count = 8, 9
	hasUsage(t, s, "zpk", one, Usage("zpk", 2, 4), ten)
	hasUsage(t, s, "bdk", Usage("bdk", 1, 1))
	hasUsage(t, s, "ZPK")
}

func testUsageContest(t *testing.T, s store.Store) {
	put(t, s, Record("a", 1), Record("b", 1))
	var wait sync.WaitGroup
	for range 5 {
		wait.Go(func() {
			for range 20 {
				if err := s.AddUsage(t.Context(), []store.Usage{Usage("a", 1, 1), Usage("b", 1, 2)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	a, b := Usage("a", 1, 1), Usage("b", 1, 2)
	a.Count, b.Count = 100, 200
	hasUsage(t, s, "a", a)
	hasUsage(t, s, "b", b)
}

func testUsageLimits(t *testing.T, s store.Store) {
	name := strings.Repeat("n", store.MaxName)
	put(t, s, Record(name, math.MaxUint32))
	large := Usage(name, math.MaxUint32, math.MaxInt64)
	large.LastUsed = time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	for range 2 { // it stays at the largest
		addUsage(t, s, large)
		hasUsage(t, s, name, large)
	}
	var many, most []store.Usage
	for i := range store.MaxUsage + 1 {
		many = append(many, Usage(fmt.Sprint("key-", i), 1, 1))
	}
	most = many[:store.MaxUsage]
	addUsage(t, s, most...)
	timeless := Usage("zpk", 1, 1)
	timeless.LastUsed = time.Time{}
	for what, u := range map[string][]store.Usage{
		"no name": {Usage("", 1, 1)}, "name": {Usage("a b", 1, 1)}, "version 0": {Usage("zpk", 0, 1)}, "count": {Usage("zpk", 1, math.MaxInt64+1)},
		"no time": {timeless}, "many": many,
	} {
		if err := s.AddUsage(t.Context(), append([]store.Usage{large}, u...)); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", what, err)
		}
	}
}

func addUsage(t *testing.T, s store.Store, usage ...store.Usage) {
	t.Helper()
	if err := s.AddUsage(t.Context(), usage); err != nil {
		t.Fatalf("AddUsage: %v", err)
	}
}

func hasUsage(t *testing.T, s store.Store, name string, want ...store.Usage) {
	t.Helper()
	got, err := s.UsageOf(t.Context(), name)
	if err != nil || len(got) != len(want) {
		t.Fatalf("UsageOf(%.20s) = %v, %v, want %v", name, got, err, want)
	}
	for i, u := range got {
		if u.Name != want[i].Name || u.Version != want[i].Version || u.Count != want[i].Count || !u.LastUsed.Equal(want[i].LastUsed) || u.LastUsed.Location() != time.UTC {
			t.Fatalf("UsageOf(%.20s) = %v, want %v", name, got, want)
		}
	}
}
