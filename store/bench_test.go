package store_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"keyd/store"
	"keyd/store/storetest"
)

// BenchmarkBoth compares the databases: commits of the journal, and what is read on the way of
// a request.
func BenchmarkBoth(b *testing.B) {
	for name, opened := range map[string]func(b *testing.B) store.Store{
		"SQLite":   func(b *testing.B) store.Store { return open(b, filepath.Join(b.TempDir(), "keyd.db")) },
		"Postgres": func(b *testing.B) store.Store { return openPostgres(b, newDatabase(b, sharedServer(b))) },
	} {
		b.Run(name, func(b *testing.B) {
			s := opened(b)
			const rows = 1000
			records := make([]store.KeyRecord, rows)
			counters := make([]store.Counter, rows)
			for i := range rows {
				records[i] = storetest.Record(fmt.Sprintf("key-%06d", i), 1)
				records[i].Sealed = make([]byte, 400)
				counters[i] = storetest.Counter(fmt.Sprintf("q%06d", i), 1)
			}
			put(b, s, records...)
			if err := s.Fold(b.Context(), counters...); err != nil {
				b.Fatal(err)
			}
			known := uint64(0)
			for _, size := range []int{100, 10_000} {
				b.Run(fmt.Sprintf("ExtendJournal/bytes=%d", size), func(b *testing.B) {
					batch := make([]byte, size)
					for b.Loop() {
						err := s.ExtendJournal(b.Context(), known, nil, func(n uint64, _ []byte) error { known = n; return nil },
							func(n uint64) ([]byte, error) { return batch, nil })
						if err != nil {
							b.Fatal(err)
						}
						known++
					}
					b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
				})
			}
			b.Run("Get", func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					if _, err := s.Get(b.Context(), records[i*7919%rows].Name); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("Counter", func(b *testing.B) {
				for i := 0; b.Loop(); i++ {
					if _, err := s.Counter(b.Context(), counters[i*7919%rows].Sequence); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("Fold", func(b *testing.B) {
				for n := uint32(2); b.Loop(); n++ {
					for i := range counters {
						counters[i].Counter = n
					}
					if err := s.Fold(b.Context(), counters[:256]...); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
