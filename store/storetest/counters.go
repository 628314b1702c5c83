package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"keyd/store"
)

// counterTests are the tests of [store.Counters].
var counterTests = []test{
	{"CountersEmpty", testCountersEmpty},
	{"JournalNumbers", testJournalNumbers},
	{"JournalContest", testJournalContest},
	{"JournalTrim", testJournalTrim},
	{"JournalIsReadAsOfOneMoment", testJournalSnapshot},
	{"Fold", testFold},
	{"FoldIsAllOrNothing", testFoldAllOrNothing},
	{"FoldMany", testFoldMany},
	{"ReceiptKeys", testReceiptKeys},
	{"CounterLimits", testCounterLimits},
	{"CountersInvalid", testCountersInvalid},
	{"CountersEndedContext", testCountersEndedContext},
	{"CountersClosed", testCountersClosed},
}

// Counter returns a valid state, which follows from its arguments.
func Counter(sequence string, counter uint32) store.Counter {
	return store.Counter{
		Sequence: []byte(sequence), Counter: counter, Receipt: fmt.Appendf(nil, "receipt %s %d", sequence, counter),
		AcceptedAt: time.Date(2026, 3, 14, 15, 9, 26, 535897000, time.UTC),
	}
}

// ReceiptKey returns a valid receipt key, which follows from its ID.
func ReceiptKey(id uint64) store.ReceiptKey {
	k := store.ReceiptKey{ID: id, CreatedAt: time.Date(2026, 3, 14, 15, 9, 26, 535897000, time.UTC)}
	copy(k.Key[:], fmt.Sprintf("key %028d", id))
	return k
}

func testCountersEmpty(t *testing.T, s store.Store) {
	journal(t, s)
	if c, err := s.Counter(t.Context(), []byte("q")); !errors.Is(err, store.ErrNotFound) || c.Sequence != nil {
		t.Errorf("Counter = %v, %v, want ErrNotFound", c, err)
	}
	if keys, err := s.ReceiptKeys(t.Context()); err != nil || len(keys) != 0 {
		t.Errorf("ReceiptKeys = %d keys, %v", len(keys), err)
	}
	for name, err := range map[string]error{
		"Fold": s.Fold(t.Context()), "TrimJournal": s.TrimJournal(t.Context(), 7),
		"DeleteReceiptKeys": s.DeleteReceiptKeys(t.Context()), "of one that is not there": s.DeleteReceiptKeys(t.Context(), 0, 7, math.MaxUint64),
	} {
		if err != nil {
			t.Errorf("%s of nothing: %v", name, err)
		}
	}
}

func testJournalNumbers(t *testing.T, s store.Store) {
	if err := s.ExtendJournal(t.Context(), 1, nil, noRow, batch("early")); !errors.Is(err, store.ErrRolledBack) {
		t.Errorf("an empty journal after row 1: %v, want ErrRolledBack", err)
	}
	appendRow(t, s, 1, "first")
	own := []byte("second")
	if err := s.ExtendJournal(t.Context(), 1, nil, noRow, func(uint64) ([]byte, error) { return own, nil }); err != nil {
		t.Fatal(err)
	}
	clear(own) // it was the caller's
	journal(t, s, "1 first", "2 second")
	for _, known := range []uint64{3, math.MaxInt64} {
		if err := s.ExtendJournal(t.Context(), known, nil, noRow, batch("early")); !errors.Is(err, store.ErrRolledBack) {
			t.Errorf("row 2 after row %d: %v, want ErrRolledBack", known, err)
		}
	}
	// Another row where the one that is known was: it was set back, and has grown again.
	for known, ending := range map[uint64]string{1: "IRST", 2: "CONd"} {
		if err := s.ExtendJournal(t.Context(), known, []byte(ending), noRow, batch("early")); !errors.Is(err, store.ErrRolledBack) {
			t.Errorf("after row %d with another ending: %v, want ErrRolledBack", known, err)
		}
	}
	for known, ending := range map[uint64]string{1: "irst", 2: "cond"} {
		if err := s.ExtendJournal(t.Context(), known, []byte(ending), func(uint64, []byte) error { return nil }, func(uint64) ([]byte, error) { return nil, nil }); err != nil {
			t.Errorf("after row %d with its ending: %v", known, err)
		}
	}
	// What others have written is read first.
	for known, want := range [][]string{{"1 first", "2 second"}, {"2 second"}, nil} {
		var read []string
		var number uint64
		err := s.ExtendJournal(t.Context(), uint64(known), nil, func(n uint64, batch []byte) error {
			read = append(read, fmt.Sprintf("%d %s", n, batch))
			return nil
		}, func(n uint64) ([]byte, error) { number = n; return nil, nil })
		if err != nil || number != 3 || !slices.Equal(read, want) {
			t.Errorf("after row %d: read %q, the next is %d, %v, want %q and 3", known, read, number, err, want)
		}
	}
	failed := errors.New("enough")
	seen := 0
	fail := func(uint64, []byte) error { seen++; return failed }
	if err := s.ReadJournal(t.Context(), fail); err != failed || seen != 1 { //nolint:errorlint // as it is
		t.Errorf("ReadJournal with a failing reader: %v after %d rows", err, seen)
	}
	if err := s.ExtendJournal(t.Context(), 0, nil, fail, batch("late")); err != failed || seen != 2 { //nolint:errorlint // as it is
		t.Errorf("ExtendJournal with a failing reader: %v after %d rows", err, seen)
	}
	err := s.ExtendJournal(t.Context(), 2, nil, noRow, func(uint64) ([]byte, error) { return []byte("late"), failed })
	if err != failed { //nolint:errorlint // as it is
		t.Errorf("ExtendJournal with a failing writer: %v", err)
	}
	if err := s.ExtendJournal(t.Context(), 2, []byte("cond"), noRow, batch("third")); err != nil { // the store goes on
		t.Fatal(err)
	}
	journal(t, s, "1 first", "2 second", "3 third")
}

// Several write at once: every one sees all rows before its own, in their order.
func testJournalContest(t *testing.T, s store.Store) {
	const writers, rounds = 8, 20
	histories := make([][]string, writers)
	var wait sync.WaitGroup
	for w := range writers {
		wait.Go(func() {
			known := uint64(0)
			for round := range rounds {
				err := s.ExtendJournal(t.Context(), known, nil, func(n uint64, batch []byte) error {
					if n != known+1 {
						t.Errorf("row %d follows row %d", n, known)
					}
					known = n
					histories[w] = append(histories[w], string(batch))
					return nil
				}, func(n uint64) ([]byte, error) {
					if n != known+1 {
						t.Errorf("row %d is written after row %d", n, known)
					}
					return fmt.Appendf(nil, "%d of writer %d", round, w), nil
				})
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				known++
				histories[w] = append(histories[w], fmt.Sprintf("%d of writer %d", round, w))
			}
		})
	}
	wait.Wait()
	var all []string
	if err := s.ReadJournal(t.Context(), func(_ uint64, batch []byte) error { all = append(all, string(batch)); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(all) != writers*rounds {
		t.Errorf("%d rows, want %d", len(all), writers*rounds)
	}
	for w, h := range histories {
		if !slices.Equal(h, all[:min(len(h), len(all))]) {
			t.Errorf("writer %d saw %q of %q", w, h, all)
		}
	}
}

func testJournalTrim(t *testing.T, s store.Store) {
	for n := range uint64(5) {
		appendRow(t, s, n+1, "row")
	}
	for _, c := range []struct {
		through uint64
		want    []string
	}{
		{0, []string{"1 row", "2 row", "3 row", "4 row", "5 row"}},
		{2, []string{"3 row", "4 row", "5 row"}},
		{1, []string{"3 row", "4 row", "5 row"}},
		{math.MaxUint64, []string{"5 row"}}, // the next number hangs on the newest
		{5, []string{"5 row"}},
	} {
		if err := s.TrimJournal(t.Context(), c.through); err != nil {
			t.Fatalf("TrimJournal(%d): %v", c.through, err)
		}
		journal(t, s, c.want...)
	}
	for known := range uint64(4) {
		if err := s.ExtendJournal(t.Context(), known, nil, noRow, batch("again")); !errors.Is(err, store.ErrTrimmed) {
			t.Errorf("rows after row %d are gone: %v, want ErrTrimmed", known, err)
		}
	}
	if err := s.ExtendJournal(t.Context(), 6, nil, noRow, batch("again")); !errors.Is(err, store.ErrRolledBack) {
		t.Errorf("row 5 after row 6: %v, want ErrRolledBack", err)
	}
	read := ""
	each := func(n uint64, batch []byte) error { read += fmt.Sprintf("%d %s", n, batch); return nil }
	if err := s.ExtendJournal(t.Context(), 4, nil, each, batch("row")); err != nil || read != "5 row" {
		t.Errorf("after a row that was trimmed: %q, %v", read, err)
	}
	journal(t, s, "5 row", "6 row")
}

// Rows are added and deleted while the journal is read: what is read has no gap, and
// begins with the oldest row and ends with the newest of one moment.
func testJournalSnapshot(t *testing.T, s store.Store) {
	appendRow(t, s, 1, "row")
	done := make(chan struct{})
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			for {
				var before uint64
				err := s.ReadJournal(t.Context(), func(n uint64, _ []byte) error {
					if before != 0 && n != before+1 {
						return fmt.Errorf("row %d follows row %d", n, before)
					}
					before = n
					return nil
				})
				if err != nil || before == 0 {
					t.Errorf("the last row is %d, %v", before, err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for n := uint64(2); n <= 200; n++ {
		appendRow(t, s, n, "row")
		if n%7 == 0 {
			if err := s.TrimJournal(t.Context(), n-3); err != nil {
				t.Errorf("TrimJournal: %v", err)
			}
		}
	}
	close(done)
	wait.Wait()
}

func testFold(t *testing.T, s store.Store) {
	fold(t, s, Counter("a", 5), Counter("b", 7))
	sameCounter(t, s, Counter("a", 5))
	fold(t, s, Counter("a", 6), Counter("b", 6)) // a rises, b stays
	sameCounter(t, s, Counter("a", 6))
	sameCounter(t, s, Counter("b", 7))
	again := Counter("a", 6)
	again.Receipt = nil // it cannot be read any more
	fold(t, s, again)
	sameCounter(t, s, again)
	if _, err := s.Counter(t.Context(), []byte("A")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("sequences are bytes, not text: %v", err)
	}
	// The result is the caller's.
	got, err := s.Counter(t.Context(), []byte("b"))
	if err != nil {
		t.Fatal(err)
	}
	clear(got.Receipt)
	clear(got.Sequence)
	sameCounter(t, s, Counter("b", 7))
	// In UTC, cut to the microsecond.
	tokyo := Counter("c", 1)
	tokyo.AcceptedAt = time.Date(2026, 2, 3, 12, 34, 56, 123456789, time.FixedZone("JST", 9*3600))
	fold(t, s, tokyo)
	tokyo.AcceptedAt = time.Date(2026, 2, 3, 3, 34, 56, 123456000, time.UTC)
	sameCounter(t, s, tokyo)
}

func testFoldAllOrNothing(t *testing.T, s store.Store) {
	bad := Counter("z", 1)
	bad.Receipt = make([]byte, store.MaxReceipt+1)
	if err := s.Fold(t.Context(), Counter("a", 1), bad); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("Fold: %v, want ErrInvalid", err)
	}
	if _, err := s.Counter(t.Context(), []byte("a")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a part was folded: %v", err)
	}
}

func testFoldMany(t *testing.T, s store.Store) {
	for _, n := range []int{1, 2, 31, 32, 33, 64, 100, store.MaxFold} {
		counters := make([]store.Counter, n)
		for i := range counters {
			counters[i] = Counter(fmt.Sprintf("q%06d", i*7919%n), uint32(n))
		}
		fold(t, s, counters...)
		for _, c := range counters {
			sameCounter(t, s, c)
		}
	}
}

func testReceiptKeys(t *testing.T, s store.Store) {
	for _, id := range []uint64{9, 1, math.MaxInt64, 5} {
		if err := s.AddReceiptKey(t.Context(), ReceiptKey(id)); err != nil {
			t.Fatalf("AddReceiptKey(%d): %v", id, err)
		}
	}
	if err := s.AddReceiptKey(t.Context(), ReceiptKey(5)); !errors.Is(err, store.ErrExists) {
		t.Errorf("an ID that is taken: %v, want ErrExists", err)
	}
	want := func(ids ...uint64) {
		t.Helper()
		keys, err := s.ReceiptKeys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := make([]uint64, len(keys))
		for i, k := range keys {
			got[i] = k.ID
			if w := ReceiptKey(k.ID); k.Key != w.Key || !k.CreatedAt.Equal(w.CreatedAt) || k.CreatedAt.Location() != time.UTC {
				t.Errorf("key %d is not what was kept", k.ID)
			}
		}
		if !slices.Equal(got, ids) {
			t.Errorf("kept are %d, want %d", got, ids)
		}
	}
	want(1, 5, 9, math.MaxInt64)
	for range 2 { // the second time there is nothing left to do
		if err := s.DeleteReceiptKeys(t.Context(), 9, 1, 77, 9); err != nil {
			t.Fatalf("DeleteReceiptKeys: %v", err)
		}
		want(5, math.MaxInt64)
	}
}

func testCounterLimits(t *testing.T, s store.Store) {
	large, small := Counter("", math.MaxUint32), Counter("s", 0)
	large.Sequence = bytes.Repeat([]byte{0xff}, store.MaxSequence)
	large.Receipt = bytes.Repeat([]byte{0}, store.MaxReceipt)
	large.AcceptedAt = time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	small.Sequence, small.Receipt, small.AcceptedAt = []byte{0}, []byte{}, time.Unix(0, 0).UTC()
	fold(t, s, large, small)
	sameCounter(t, s, large)
	sameCounter(t, s, small)
	batch := string(bytes.Repeat([]byte{0xa5}, store.MaxBatch))
	appendRow(t, s, 1, batch)
	appendRow(t, s, 2, "\x00")
	journal(t, s, "1 "+batch, "2 \x00")
	for _, sequence := range [][]byte{nil, {}, make([]byte, store.MaxSequence+1)} {
		if _, err := s.Counter(t.Context(), sequence); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Counter of %d bytes: %v, want ErrNotFound", len(sequence), err)
		}
	}
}

func testCountersInvalid(t *testing.T, s store.Store) {
	change := func(f func(*store.Counter)) store.Counter {
		c := Counter("q", 1)
		f(&c)
		return c
	}
	for name, c := range map[string]store.Counter{
		"no sequence":   change(func(c *store.Counter) { c.Sequence = nil }),
		"long sequence": change(func(c *store.Counter) { c.Sequence = make([]byte, store.MaxSequence+1) }),
		"long receipt":  change(func(c *store.Counter) { c.Receipt = make([]byte, store.MaxReceipt+1) }),
		"no time":       change(func(c *store.Counter) { c.AcceptedAt = time.Time{} }),
		"year 10000":    change(func(c *store.Counter) { c.AcceptedAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }),
		"twice":         Counter("good", 2),
	} {
		if err := s.Fold(t.Context(), Counter("good", 1), c); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: Fold: %v, want ErrInvalid", name, err)
		}
	}
	many := make([]store.Counter, store.MaxFold+1)
	for i := range many {
		many[i] = Counter(fmt.Sprint("q", i), 1)
	}
	if err := s.Fold(t.Context(), many...); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("Fold of %d: %v, want ErrInvalid", len(many), err)
	}
	if _, err := s.Counter(t.Context(), []byte("good")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("something was folded: %v", err)
	}
	for name, err := range map[string]error{
		"large number": s.ExtendJournal(t.Context(), math.MaxInt64+1, nil, noRow, batch("b")),
		"empty batch":  s.ExtendJournal(t.Context(), 0, nil, noRow, batch("")),
		"long batch":   s.ExtendJournal(t.Context(), 0, nil, noRow, func(uint64) ([]byte, error) { return make([]byte, store.MaxBatch+1), nil }),
	} {
		if !errors.Is(err, store.ErrInvalid) {
			t.Errorf("ExtendJournal: %s: %v, want ErrInvalid", name, err)
		}
	}
	journal(t, s)
	timeless := ReceiptKey(1)
	timeless.CreatedAt = time.Time{}
	for name, k := range map[string]store.ReceiptKey{"ID 0": ReceiptKey(0), "large ID": ReceiptKey(math.MaxInt64 + 1), "no time": timeless} {
		if err := s.AddReceiptKey(t.Context(), k); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("AddReceiptKey: %s: %v, want ErrInvalid", name, err)
		}
	}
}

// counterCalls are all methods of Counters, with arguments that would work.
func counterCalls(ctx context.Context, s store.Store) map[string]error {
	_, counterErr := s.Counter(ctx, []byte("q"))
	_, keysErr := s.ReceiptKeys(ctx)
	return map[string]error{
		"ExtendJournal":     s.ExtendJournal(ctx, 1, nil, noRow, batch("late")),
		"ReadJournal":       s.ReadJournal(ctx, func(uint64, []byte) error { return errors.New("a row was read") }),
		"TrimJournal":       s.TrimJournal(ctx, 1),
		"Fold":              s.Fold(ctx, Counter("q", 2)),
		"Counter":           counterErr,
		"AddReceiptKey":     s.AddReceiptKey(ctx, ReceiptKey(2)),
		"ReceiptKeys":       keysErr,
		"DeleteReceiptKeys": s.DeleteReceiptKeys(ctx, 1),
	}
}

func testCountersEndedContext(t *testing.T, s store.Store) {
	appendRow(t, s, 1, "row")
	fold(t, s, Counter("q", 1))
	if err := s.AddReceiptKey(t.Context(), ReceiptKey(1)); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range counterCalls(ended, s) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", name, err)
		}
	}
	journal(t, s, "1 row")
	sameCounter(t, s, Counter("q", 1))
	if keys, err := s.ReceiptKeys(t.Context()); err != nil || len(keys) != 1 || keys[0].ID != 1 {
		t.Errorf("ReceiptKeys = %d keys, %v", len(keys), err)
	}
	appendRow(t, s, 2, "row") // the store goes on
}

func testCountersClosed(t *testing.T, s store.Store) {
	appendRow(t, s, 1, "row")
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	for name, err := range counterCalls(t.Context(), s) {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", name, err)
		}
	}
}

func appendRow(t *testing.T, s store.Store, number uint64, batch string) {
	t.Helper()
	err := s.ExtendJournal(t.Context(), number-1, nil, noRow, func(n uint64) ([]byte, error) {
		if n != number {
			return nil, fmt.Errorf("the next row is %d", n)
		}
		return []byte(batch), nil
	})
	if err != nil {
		t.Fatalf("ExtendJournal(%d): %v", number-1, err)
	}
}

// noRow is for who has read all rows.
func noRow(n uint64, _ []byte) error { return fmt.Errorf("row %d was read again", n) }

func batch(text string) func(uint64) ([]byte, error) {
	return func(uint64) ([]byte, error) { return []byte(text), nil }
}

// journal checks the rows, each written as its number and its batch.
func journal(t *testing.T, s store.Store, want ...string) {
	t.Helper()
	var got []string
	err := s.ReadJournal(t.Context(), func(n uint64, batch []byte) error {
		got = append(got, fmt.Sprintf("%d %s", n, batch))
		return nil
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("the journal is %.100q, %v, want %.100q", got, err, want)
	}
}

func fold(t *testing.T, s store.Store, counters ...store.Counter) {
	t.Helper()
	if err := s.Fold(t.Context(), counters...); err != nil {
		t.Fatalf("Fold: %v", err)
	}
}

func sameCounter(t *testing.T, s store.Store, want store.Counter) {
	t.Helper()
	got, err := s.Counter(t.Context(), want.Sequence)
	if err != nil || !bytes.Equal(got.Sequence, want.Sequence) || got.Counter != want.Counter || !bytes.Equal(got.Receipt, want.Receipt) ||
		!got.AcceptedAt.Equal(want.AcceptedAt) || got.AcceptedAt.Location() != time.UTC {
		t.Fatalf("Counter = %v, %v, want %v", got, err, want)
	}
}
