package ksn

import (
	"database/sql"
	"errors"
	"fmt"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"keyd/store"
)

var smallLimits = limits{
	foldSequences: 8, foldRows: 1000, foldBytes: 1 << 20, maxSequences: 20, maxRows: 1000, maxBytes: 1 << 20,
	foldChunk: 4, trimChunk: 4, foldRetry: 1,
}

// A journal that cannot be folded does not grow for ever, and what was accepted stays
// so; when folding works again, so does the rest.
func TestFoldingFails(t *testing.T) {
	for name, prepare := range map[string]func(*flaky, func() error){
		"states": func(f *flaky, fail func() error) { f.beforeFold = fail },
		"rows":   func(f *flaky, fail func() error) { f.beforeTrim = fail },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFlaky(t)
			var working atomic.Bool
			prepare(f, func() error {
				if working.Load() {
					return nil
				}
				return errFlaky
			})
			l := openLedger(t, f, Options{limits: smallLimits})
			accepted := 0
			for ; accepted < 100; accepted++ {
				if _, _, err := l.Accept(t.Context(), []Use{benchUse(accepted, 1)}, []byte("r"), []byte("a")); err != nil {
					if !errors.Is(err, isUnavailable) || !errors.Is(err, errJournalFull) {
						t.Fatalf("a full journal: %v, %v", err, errors.Unwrap(err))
					}
					break
				}
			}
			if accepted != smallLimits.maxSequences {
				t.Errorf("%d sequences were accepted, the limit is %d", accepted, smallLimits.maxSequences)
			}
			eventually(t, "the failure shows", func() bool { return errors.Is(l.Stats().Failing, errFlaky) })
			accept(t, l, "r", "a", benchUse(1, 1)) // retries are answered
			refuse(t, l, "another", benchUse(1, 1))
			working.Store(true)
			eventually(t, "uses are accepted", func() bool {
				_, _, err := l.Accept(t.Context(), []Use{benchUse(100, 1)}, []byte("r"), []byte("a"))
				return err == nil
			})
			eventually(t, "the failure is gone", func() bool { return l.Stats().Failing == nil && l.Stats().Folds > 0 })
			for n := range accepted {
				refuse(t, l, "another", benchUse(n, 1))
				accept(t, l, "r", "a", benchUse(n, 1))
			}
		})
	}
}

func TestFoldMovesAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.db")
	s := openStore(t, path)
	l := openLedger(t, s, Options{})
	const sequences = 1000
	for n := range sequences {
		accept(t, l, fmt.Sprint("r", n), fmt.Sprint("a", n), benchUse(n, 7))
	}
	if err := l.foldJournal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if stats := l.Stats(); stats.Unfolded != 0 || stats.JournalRows != 1 || stats.Sequences != sequences || stats.Folds != 1 {
		t.Errorf("after folding: %+v", stats)
	}
	check := func(l *Ledger) {
		t.Helper()
		for n := range sequences {
			accept(t, l, fmt.Sprint("r", n), fmt.Sprint("a", n), benchUse(n, 7))
			refuse(t, l, "another", benchUse(n, 7))
		}
	}
	check(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLedger(t, s, Options{})
	check(l)
	accept(t, l, "next", "a", benchUse(0, 8))
}

// A sequence is read from the store, then another request for it is accepted, folded
// and driven out of the cache, before the first one is judged.
func TestStaleReadingIsNotBelieved(t *testing.T) {
	f := newFlaky(t)
	l := openLedger(t, f, Options{})
	interfered := false
	f.afterCounter = func() error {
		f.afterCounter = nil
		interfered = true
		accept(t, l, "another", "a", benchUse(1, 1))
		if err := l.foldJournal(t.Context()); err != nil {
			t.Error(err)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		for n := uint32(0); l.memory.size() > 0 && n < 2*maxClean; n++ {
			l.memory.keep(sequence{0: byte(DataResponse), 1: byte(n), 2: byte(n >> 8), 3: byte(n >> 16)}, 1)
		}
		q, err := benchUse(1, 1).sequence()
		if _, ok := l.memory.get(q); ok || err != nil {
			t.Errorf("it is still in memory, %v", err)
		}
		return nil
	}
	refuse(t, l, "r", benchUse(1, 1))
	if !interfered {
		t.Error("nothing was read from the store")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := newMemory(0)
	for n := range uint64(3 * maxClean) {
		m.keep(sequence{0: 1, 1: byte(n), 2: byte(n >> 8), 3: byte(n >> 16)}, uint32(n))
		if n > maxClean && m.size() > maxClean {
			t.Fatalf("%d sequences are kept", m.size())
		}
	}
	if m.epoch == 0 {
		t.Error("sequences were dropped and the epoch stayed the same")
	}
}

// The disk takes nothing more: what was accepted stays so, uses are refused, and
// accepted again when there is space.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.db")
	l := openLedger(t, openStore(t, path), Options{})
	accept(t, l, "before", "a", benchUse(1, 1))
	allow := limitFiles(t)
	allow(1) // no file may grow beyond its first byte
	for n := range 3 {
		if _, _, err := l.Accept(t.Context(), []Use{benchUse(2+n, 1)}, []byte("r"), []byte("a")); !errors.Is(err, isUnavailable) {
			t.Fatalf("Accept: %v, %v", err, errors.Unwrap(err))
		}
	}
	if l.Stats().Failing == nil {
		t.Error("the failure does not show")
	}
	accept(t, l, "before", "a", benchUse(1, 1))
	refuse(t, l, "another", benchUse(1, 1))
	if err := l.foldJournal(t.Context()); err == nil {
		t.Error("the journal was folded")
	}
	allow(unix.RLIM_INFINITY)
	for n := range 3 {
		accept(t, l, "r", "a", benchUse(2+n, 1))
	}
	if err := l.foldJournal(t.Context()); err != nil {
		t.Error(err)
	}
	if err := l.Stats().Failing; err != nil {
		t.Errorf("Stats: %v", err)
	}
	refuse(t, l, "another", benchUse(1, 1))
}

// limitFiles returns a function that sets how large this process's files may become;
// writing more fails.
func limitFiles(t *testing.T) (allow func(bytes uint64)) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(unix.SIGXFSZ)
	allow = func(bytes uint64) {
		t.Helper()
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: min(bytes, before.Max), Max: before.Max}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &before); err != nil {
			t.Error(err)
		}
		signal.Reset(unix.SIGXFSZ)
	})
	return allow
}

// Rows that are not what was written stop the start, with an error that says so.
func TestDamagedJournal(t *testing.T) {
	for name, statement := range map[string]string{
		"altered":     `UPDATE counter_journal SET batch = CAST(substr(batch, 1, 20) || x'ff' || substr(batch, 22) AS BLOB) WHERE number = 2`,
		"cut off":     `UPDATE counter_journal SET batch = CAST(substr(batch, 1, length(batch) - 1) AS BLOB) WHERE number = 3`,
		"missing":     `DELETE FROM counter_journal WHERE number = 2`,
		"renumbered":  `UPDATE counter_journal SET number = 4 WHERE number = 3`,
		"moved":       `UPDATE counter_journal SET batch = (SELECT batch FROM counter_journal WHERE number = 1) WHERE number = 2`,
		"rubbish":     `UPDATE counter_journal SET batch = randomblob(500)`,
		"other table": `DROP TABLE counter_journal; CREATE TABLE counter_journal (number, batch); INSERT INTO counter_journal VALUES ('canary', 'canary')`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keyd.db")
			s := openStore(t, path)
			l := openLedger(t, s, Options{})
			for n := range 3 {
				accept(t, l, "r", "a", benchUse(n, 1))
			}
			if err := errors.Join(l.Close(), s.Close()); err != nil {
				t.Fatal(err)
			}
			execute(t, path, statement)
			if l, err := Open(t.Context(), openStore(t, path), Options{}); !errors.Is(err, store.ErrCorrupt) || l != nil {
				t.Errorf("Open: %v, want ErrCorrupt", err)
			}
		})
	}
}

// A state that was tampered with neither answers nor panics.
func TestDamagedStates(t *testing.T) {
	for name, c := range map[string]struct {
		statement string
		want      error
	}{
		"altered receipt": {`UPDATE counters SET receipt = CAST(substr(receipt, 1, 40) || x'ffff' || substr(receipt, 43) AS BLOB)`, isReplay},
		"altered tag":     {`UPDATE counters SET receipt = CAST(substr(receipt, 1, 10) || x'ffff' || substr(receipt, 13) AS BLOB)`, isReplay},
		"other key":       {`UPDATE counters SET receipt = CAST(x'01ffffffffffffffff' || substr(receipt, 10) AS BLOB)`, isReplay},
		"version":         {`UPDATE counters SET receipt = CAST(x'02' || substr(receipt, 2) AS BLOB)`, isReplay},
		"cut off":         {`UPDATE counters SET receipt = CAST(substr(receipt, 1, length(receipt) - 1) AS BLOB)`, isReplay},
		"no receipt":      {`UPDATE counters SET receipt = x''`, isReplay},
		"no key":          {`DELETE FROM receipt_keys`, isReplay},
		"altered key":     {`UPDATE receipt_keys SET key = randomblob(32)`, isReplay},
		"bad state":       {`DROP TABLE counters; CREATE TABLE counters (sequence PRIMARY KEY, counter, receipt, accepted_at); INSERT INTO counters SELECT x'` + sequenceHex(t, 1) + `', 'canary', x'', 0`, store.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keyd.db")
			s := openStore(t, path)
			l := openLedger(t, s, Options{})
			accept(t, l, "r", "a", benchUse(1, 1))
			if err := l.foldJournal(t.Context()); err != nil {
				t.Fatal(err)
			}
			accept(t, l, "r", "a", benchUse(2, 1)) // the newest row, which stays
			if err := l.foldJournal(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(l.Close(), s.Close()); err != nil {
				t.Fatal(err)
			}
			execute(t, path, c.statement)
			l = openLedger(t, openStore(t, path), Options{})
			got, _, err := l.Accept(t.Context(), []Use{benchUse(1, 1)}, []byte("r"), []byte("b"))
			if !errors.Is(err, c.want) || c.want != nil && got != nil {
				t.Errorf("the retry: %q, %v (%v), want %v", got, err, errors.Unwrap(err), c.want)
			}
		})
	}
}

func sequenceHex(t *testing.T, n int) string {
	q, err := benchUse(n, 1).sequence()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", q[:])
}

func execute(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
