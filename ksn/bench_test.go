package ksn

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"keyd/dukpt"
	"keyd/fault"
	"keyd/store"
)

// BenchmarkAccept is the whole cost of a use, with callers who come again as soon as
// they have their answer. With one sequence most of 128 callers come too late for their
// counters and are refused: that is measured too.
func BenchmarkAccept(b *testing.B) {
	for _, p := range []struct{ callers, sequences int }{
		{1, 1000}, {16, 1000}, {128, 1}, {128, 1000}, {128, 100_000}, {128, 1_000_000},
	} {
		b.Run(fmt.Sprintf("callers=%d/sequences=%d", p.callers, p.sequences), func(b *testing.B) {
			l := openLedger(b, openStore(b, filepath.Join(b.TempDir(), "keyd.db")), Options{})
			acceptAll(b, []*Ledger{l}, p.callers, p.sequences)
		})
	}
}

// acceptAll has callers accept at ledgers in turn.
func acceptAll(b *testing.B, ledgers []*Ledger, callers, sequences int) {
	b.Helper()
	counters := validCounters(b.N/sequences + 1)
	b.ReportAllocs()
	b.ResetTimer()
	cpu := processorTime(b)
	var next, refused atomic.Int64
	var wait sync.WaitGroup
	for range callers {
		wait.Go(func() {
			for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
				u := benchUse(i%sequences, counters[i/sequences])
				_, _, err := ledgers[i%len(ledgers)].Accept(b.Context(), []Use{u}, u.KSN.Bytes(), make([]byte, 16))
				if errors.Is(err, fault.New(fault.KSNReplayed, "")) && sequences < callers {
					refused.Add(1)
				} else if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	report(b, ledgers[0], Stats{}, cpu)
	b.ReportMetric(float64(refused.Load())/float64(b.N), "refused/op")
}

// BenchmarkPaced has uses come at a given rate, whether those before them were answered
// or not, as from many terminals.
func BenchmarkPaced(b *testing.B) {
	const sequences = 20_000
	for _, rate := range []int{1000, 5000, 20_000} {
		for _, gather := range []time.Duration{0, defaultLimits.gather, 3 * time.Millisecond} {
			b.Run(fmt.Sprintf("rate=%d/gather=%v", rate, gather), func(b *testing.B) {
				o := Options{limits: defaultLimits}
				o.limits.gather = gather
				l := openLedger(b, openStore(b, filepath.Join(b.TempDir(), "keyd.db")), o)
				took := make([]time.Duration, b.N)
				counters := validCounters(b.N/sequences + 2)
				var wait sync.WaitGroup
				for n := range sequences { // so that none is read from the store below
					wait.Go(func() {
						if _, _, err := l.Accept(b.Context(), []Use{benchUse(n, 1)}, nil, nil); err != nil {
							b.Error(err)
						}
					})
				}
				wait.Wait()
				before := l.Stats()
				b.ResetTimer()
				cpu := processorTime(b)
				begin := time.Now()
				for i := 0; i < b.N; {
					due := min(b.N, int(time.Since(begin).Seconds()*float64(rate)))
					for ; i < due; i++ {
						n := i
						wait.Go(func() {
							u := benchUse(n%sequences, counters[n/sequences+1])
							start := time.Now()
							defer l.Begin()()
							if _, _, err := l.Accept(b.Context(), []Use{u}, u.KSN.Bytes(), make([]byte, 16)); err != nil {
								b.Error(err)
							}
							took[n] = time.Since(start)
						})
					}
					time.Sleep(200 * time.Microsecond)
				}
				wait.Wait()
				report(b, l, before, cpu)
				slices.Sort(took)
				for _, q := range []int{50, 99, 999} {
					at := float64(q) / 100
					if q > 100 {
						at = float64(q) / 1000
					}
					b.ReportMetric(float64(took[int(at*float64(b.N-1))].Microseconds()), fmt.Sprintf("p%d-µs", q))
				}
			})
		}
	}
}

// BenchmarkFold is the background's work for one use, with that many sequences in the
// store of which each use is another.
func BenchmarkFold(b *testing.B) {
	for _, sequences := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("sequences=%d", sequences), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "keyd.db")
			s := openStore(b, path)
			fillCounters(b, s, sequences)
			l := openLedger(b, s, Options{})
			q := benchSequences(b, sequences)
			at := time.Now()
			for i := 0; i < b.N; {
				b.StopTimer()
				l.mu.Lock()
				for range min(defaultLimits.foldSequences, b.N-i) {
					l.memory.recent[q[i%sequences]] = state{counter: uint32(i/sequences + 2), receipt: make([]byte, minReceipt+16), at: at}
					i++
				}
				l.mu.Unlock()
				cpu := processorTime(b)
				b.StartTimer()
				if err := l.foldJournal(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(processorTime(b)-cpu)/float64(min(defaultLimits.foldSequences, b.N))/1e3, "cpu-µs/op")
			}
		})
	}
}

// BenchmarkCold is a look at a sequence that is not in memory.
func BenchmarkCold(b *testing.B) {
	for _, sequences := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("sequences=%d", sequences), func(b *testing.B) {
			s := openStore(b, filepath.Join(b.TempDir(), "keyd.db"))
			fillCounters(b, s, sequences)
			l := openLedger(b, s, Options{})
			i := 0
			for b.Loop() {
				l.mu.Lock()
				l.memory.young = map[sequence]uint32{}
				l.mu.Unlock()
				if _, err := l.Look(b.Context(), []Use{benchUse(i*7919%sequences, 2)}, nil); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

// BenchmarkOpen is a start: the check of the whole file by the store, and the journal.
func BenchmarkOpen(b *testing.B) {
	for _, p := range []struct{ folded, unfolded int }{{100_000, 0}, {1_000_000, 0}, {0, 100_000}, {0, defaultLimits.maxSequences}} {
		b.Run(fmt.Sprintf("folded=%d/unfolded=%d", p.folded, p.unfolded), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "keyd.db")
			s := openStore(b, path)
			fillCounters(b, s, p.folded)
			fillJournal(b, s, p.unfolded)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			o := Options{limits: defaultLimits}
			o.limits.foldSequences = 1 << 30 // the fold comes after the start
			var ledger time.Duration
			for b.Loop() {
				s, err := store.OpenSQLite(b.Context(), path)
				if err != nil {
					b.Fatal(err)
				}
				begin := time.Now()
				l, err := Open(b.Context(), s, o)
				if err != nil {
					b.Fatal(err)
				}
				ledger += time.Since(begin)
				if err := errors.Join(l.Close(), s.Close()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(ledger.Milliseconds())/float64(b.N), "ms-of-ledger/op")
		})
	}
}

func benchSequences(b *testing.B, n int) []sequence {
	out := make([]sequence, n)
	for i := range out {
		var err error
		if out[i], err = benchUse(i, 1).sequence(); err != nil {
			b.Fatal(err)
		}
	}
	return out
}

func fillCounters(b *testing.B, s *store.SQLite, n int) {
	q := benchSequences(b, n)
	slices.SortFunc(q, compare)
	counters := make([]store.Counter, 0, store.MaxFold)
	for chunk := range slices.Chunk(q, store.MaxFold) {
		counters = counters[:0]
		for i := range chunk {
			counters = append(counters, store.Counter{Sequence: chunk[i][:], Counter: 1, Receipt: make([]byte, minReceipt+16), AcceptedAt: time.Now()})
		}
		if err := s.Fold(b.Context(), counters...); err != nil {
			b.Fatal(err)
		}
	}
}

func fillJournal(b *testing.B, s *store.SQLite, n int) {
	number := uint64(0)
	for chunk := range slices.Chunk(benchSequences(b, n), 32) {
		batch := newBatch(nil, time.Now(), 0)
		for _, q := range chunk {
			batch = appendEntry(batch, []span{{q, 1, 1}}, make([]byte, minReceipt+16))
		}
		number++
		err := s.ExtendJournal(b.Context(), number-1, nil, func(uint64, []byte) error { return errBatch },
			func(number uint64) ([]byte, error) { return finishBatch(batch, len(chunk), number), nil })
		if err != nil {
			b.Fatal(err)
		}
	}
}

func report(b *testing.B, l *Ledger, before Stats, cpu time.Duration) {
	stats := l.Stats()
	b.ReportMetric(float64(processorTime(b)-cpu)/float64(b.N)/1e3, "cpu-µs/op")
	b.ReportMetric(float64(stats.Requests-before.Requests)/float64(stats.Batches-before.Batches), "uses/commit")
	b.ReportMetric(float64(stats.Folds), "folds")
}

// validCounters returns the first counters of AES DUKPT.
func validCounters(n int) []uint32 {
	k := benchUse(0, 1).KSN
	counters := make([]uint32, n)
	for i := range counters {
		counters[i] = k.Counter()
		var err error
		if k, err = k.Next(); err != nil {
			panic(err)
		}
	}
	return counters
}

func processorTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// benchUse spreads its sequences evenly, as digests are.
func benchUse(n int, counter uint32) Use {
	var id [8]byte
	binary.BigEndian.PutUint64(id[:], uint64(n))
	sum := sha256.Sum256(id[:])
	k, err := dukpt.ParseInitialKSN(append(sum[:8:8], 0, 0, 0, 0))
	if err != nil {
		panic(err)
	}
	k, err = k.WithCounter(counter)
	if err != nil {
		panic(err)
	}
	return Use{Fingerprint: hex.EncodeToString(make([]byte, 16)), KSN: k, Class: PINIncoming}
}

func openStore(t testing.TB, path string) *store.SQLite {
	t.Helper()
	s, err := store.OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func openLedger(t testing.TB, s store.Counters, o Options) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}
