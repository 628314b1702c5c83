package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"keyd/store"
	"keyd/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Test(t, func(t *testing.T) store.Store {
		return open(t, filepath.Join(t.TempDir(), "keyd.db"))
	})
}

func TestConformanceReopened(t *testing.T) {
	storetest.TestReopen(t, func(t *testing.T) func() store.Store {
		path := filepath.Join(t.TempDir(), "keyd.db")
		return func() store.Store { return open(t, path) }
	})
}

func TestConformanceOfBackups(t *testing.T) {
	storetest.TestBackup(t, func(t *testing.T) store.Store {
		return open(t, filepath.Join(t.TempDir(), "keyd.db"))
	})
}

// Every kind of character that means something in a file: URI.
func TestPathIsNotAnURI(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?mode=memory&x#y%41;'.db")
	s := open(t, path)
	put(t, s, storetest.Record("zpk", 1))
	closeStore(t, s)
	mode(t, path, 0o600)
	s = open(t, path)
	if _, err := s.Get(t.Context(), "zpk"); err != nil {
		t.Error(err)
	}
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.db")
	for v := uint32(1); v <= 3; v++ {
		s := open(t, path)
		put(t, s, storetest.Record("zpk", v))
		closeStore(t, s)
	}
	r, err := open(t, path).Get(t.Context(), "zpk")
	if err != nil || r.Version != 3 {
		t.Errorf("Get = %v, %v, want version 3", r, err)
	}
}

func TestOneFileOpenedManyTimesAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.db")
	const openers = 6
	var wait sync.WaitGroup
	for i := range openers {
		wait.Go(func() {
			s, err := store.OpenSQLite(t.Context(), path)
			if err != nil {
				t.Error(err)
				return
			}
			for v := uint32(1); v <= 5; v++ {
				if err := s.Put(t.Context(), storetest.Record(fmt.Sprintf("key-%d", i), v)); err != nil {
					t.Error(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	l, err := open(t, path).List(t.Context(), "", store.MaxList)
	if err != nil || len(l) != openers {
		t.Fatalf("List = %d keys, %v, want %d", len(l), err, openers)
	}
	for _, r := range l {
		if r.Version != 5 {
			t.Errorf("%s: version %d is current, want 5", r.Name, r.Version)
		}
	}
}

func TestCloseDuringUse(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "keyd.db"))
	put(t, s, storetest.Record("zpk", 1))
	var wait sync.WaitGroup
	started := make(chan struct{}, 4)
	for range 4 {
		wait.Go(func() {
			for first := true; ; first = false {
				_, err := s.Get(t.Context(), "zpk")
				if first {
					started <- struct{}{}
				}
				if err != nil {
					if !errors.Is(err, store.ErrClosed) {
						t.Errorf("Get: %v, want ErrClosed", err)
					}
					return
				}
			}
		})
	}
	for range 4 {
		<-started
	}
	closeStore(t, s)
	wait.Wait()
}

func BenchmarkGet(b *testing.B) {
	for _, rows := range []int{10, 100_000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			s, names := filled(b, rows)
			b.Run("serial", func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if _, err := s.Get(b.Context(), names[i*7919%rows]); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("parallel", func(b *testing.B) {
				b.RunParallel(func(p *testing.PB) {
					for i := 0; p.Next(); i++ {
						if _, err := s.Get(b.Context(), names[i*7919%rows]); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		})
	}
}

func BenchmarkList(b *testing.B) {
	s, _ := filled(b, 100_000)
	for b.Loop() {
		if l, err := s.List(b.Context(), "key-050000", 100); err != nil || len(l) != 100 {
			b.Fatal(len(l), err)
		}
	}
}

func BenchmarkPut(b *testing.B) {
	s, _ := filled(b, 10)
	for i := 0; b.Loop(); i++ {
		if err := s.Put(b.Context(), storetest.Record(fmt.Sprintf("new-%d", i), 1)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen shows what the check of the whole file costs at a start.
func BenchmarkOpen(b *testing.B) {
	for _, rows := range []int{10, 100_000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "keyd.db")
			fill(b, path, rows)
			for b.Loop() {
				s, err := store.OpenSQLite(b.Context(), path)
				if err != nil {
					b.Fatal(err)
				}
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func filled(b *testing.B, rows int) (*store.SQLite, []string) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "keyd.db")
	names := fill(b, path, rows)
	return open(b, path), names
}

// fill writes rows of the size that a sealed key has.
func fill(b *testing.B, path string, rows int) []string {
	b.Helper()
	s := open(b, path)
	names := make([]string, rows)
	records := make([]store.KeyRecord, 0, 1000)
	for i := range rows {
		r := storetest.Record(fmt.Sprintf("key-%06d", i), 1)
		r.Sealed = make([]byte, 400)
		names[i] = r.Name
		if records = append(records, r); len(records) == cap(records) || i == rows-1 {
			put(b, s, records...)
			records = records[:0]
		}
	}
	closeStore(b, s)
	return names
}

func open(t testing.TB, path string) *store.SQLite {
	t.Helper()
	s, err := store.OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

func closeStore(t testing.TB, s store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func put(t testing.TB, s store.Store, records ...store.KeyRecord) {
	t.Helper()
	if err := s.Put(t.Context(), records...); err != nil {
		t.Fatalf("Put: %v", err)
	}
}
