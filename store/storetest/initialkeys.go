package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"keyd/store"
)

// aesRange is a range of four-byte numbers.
func aesRange(first, last uint32) store.Range {
	return store.Range{Prefix: []byte{1, 2, 3, 4}, First: first, Last: last}
}

func testInitialKeysOwn(t *testing.T, s store.Store) {
	r, other := keyed(t, s, 1), keyed(t, s, 2)
	own := store.Wanted{Name: "pin", BDK: "bdk", Own: []byte{1, 2, 3, 4, 0, 0, 0, 5}}
	first := answered(t, s, begun(t, s, begin(r, 1, own)))
	if _, err := s.BeginInjection(t.Context(), begin(other, 1, own)); !errors.Is(err, store.ErrTaken) {
		t.Errorf("another terminal: %v, want ErrTaken", err)
	}
	// Until it is confirmed the terminal may have it again.
	second := answered(t, s, begun(t, s, begin(r, 2, own)))
	inState(t, s, first, store.InjectionSuperseded)
	confirmed(t, s, second)
	for n, of := range []store.TerminalRecord{r, other} {
		if _, err := s.BeginInjection(t.Context(), begin(of, 10+n, own)); !errors.Is(err, store.ErrTaken) {
			t.Errorf("%s, once it is confirmed: %v, want ErrTaken", of.ID, err)
		}
	}
	// Under another base derivation key it is another key.
	own.BDK = "bdk-2"
	begun(t, s, begin(other, 20, own))
	// Ranges leave it out.
	for want := range []byte{0, 1, 2} {
		i := begun(t, s, begin(r, 30+want, store.Wanted{Name: "pin", BDK: "bdk", Range: aesRange(4, 10)}))
		if got := i.Keys[0].ID[7]; got != []byte{4, 6, 7}[want] {
			t.Errorf("allotted %d", got)
		}
	}
}

func testInitialKeyRanges(t *testing.T, s store.Store) {
	tdes := store.Range{Prefix: []byte{0xff, 0xff, 0x98, 0x76, 0x54}, First: 1<<19 - 2, Last: 1<<19 - 1}
	if got := fmt.Sprintf("%X %X", tdes.ID(0), tdes.ID(tdes.Last)); got != "FFFF9876540000000000 FFFF987654FFFFE00000" {
		t.Errorf("identifiers %s", got)
	}
	n := 0
	next := func(r store.Range, want error) string {
		t.Helper()
		n++
		i, err := s.BeginInjection(t.Context(), begin(keyed(t, s, n), 1, store.Wanted{Name: "pin", BDK: "bdk", Range: r}))
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		if err != nil {
			return ""
		}
		return fmt.Sprintf("%X", i.Keys[0].ID)
	}
	for _, want := range []string{"FFFF987654FFFFC00000", "FFFF987654FFFFE00000"} {
		if got := next(tdes, nil); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	next(tdes, store.ErrExhausted)
	next(tdes, store.ErrExhausted)
	// Ranges that overlap, and one to the end of its numbers.
	for _, want := range []string{"01020304FFFFFFFD", "01020304FFFFFFFE"} {
		if got := next(aesRange(1<<32-3, 1<<32-1), nil); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := next(aesRange(1<<32-4, 1<<32-1), nil); got != "01020304FFFFFFFC" {
		t.Error(got)
	}
	if got := next(aesRange(1<<32-4, 1<<32-1), nil); got != "01020304FFFFFFFF" {
		t.Error(got)
	}
	next(aesRange(1<<32-4, 1<<32-1), store.ErrExhausted)
	next(aesRange(1<<32-3, 1<<32-1), store.ErrExhausted)
}

// Whoever asks at the same time, no number is given twice, and none is lost.
func testInitialKeyContest(t *testing.T, s store.Store) {
	const callers, each = 8, 6
	var all []store.TerminalRecord
	for n := range callers {
		all = append(all, keyed(t, s, n))
	}
	var mu sync.Mutex
	seen := map[string]int{}
	var wait sync.WaitGroup
	for n, r := range all {
		wait.Go(func() {
			for k := range each {
				i, err := s.BeginInjection(context.Background(), begin(r, k, store.Wanted{Name: "pin", BDK: "bdk", Range: aesRange(0, callers*each-1)}))
				if err != nil {
					t.Errorf("caller %d: %v", n, err)
					return
				}
				mu.Lock()
				seen[fmt.Sprintf("%x", i.Keys[0].ID)]++
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	for id, times := range seen {
		if times != 1 {
			t.Errorf("%s was allotted %d times", id, times)
		}
	}
	if len(seen) != callers*each {
		t.Errorf("%d numbers of %d", len(seen), callers*each)
	}
}
