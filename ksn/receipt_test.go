package ksn

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"keyd/store"
)

// fakeClock is a clock that only a test moves.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *fakeClock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// W is the default window.
const w = DefaultRetryWindow

func newClock() *fakeClock { return &fakeClock{now: time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)} }

func TestRetryWindow(t *testing.T) {
	for name, folded := range map[string]bool{"journal": false, "folded": true} {
		t.Run(name, func(t *testing.T) {
			clock := newClock()
			path := filepath.Join(t.TempDir(), "keyd.db")
			s := openStore(t, path)
			o := Options{clock: clock.read}
			l := openLedger(t, s, o)
			accept(t, l, "old", "a", benchUse(1, 1))
			clock.add(w - 1) // the key's last moment
			accept(t, l, "r", "a", benchUse(2, 1))
			if folded {
				if err := l.foldJournal(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			clock.add(w)
			l.tend(t.Context())
			accept(t, l, "r", "a", benchUse(2, 1)) // a whole window later, with a new key for new receipts
			accept(t, l, "old", "a", benchUse(1, 1))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = openLedger(t, s, o) // after a new start too
			accept(t, l, "r", "a", benchUse(2, 1))
			key := keyOf(t, s, clock.read().Add(1-2*w))
			if !inFiles(t, path, key.Key[:]) {
				t.Error("the receipt key is not found in the files: the check below proves nothing")
			}

			clock.add(1) // the time is up, even if nothing deletes the key
			refuse(t, l, "r", benchUse(2, 1))
			l.tend(t.Context())
			if err := l.Stats().Failing; err != nil {
				t.Error(err)
			}
			keys, err := s.ReceiptKeys(t.Context())
			if err != nil || len(keys) != 1 || keys[0].ID == key.ID {
				t.Errorf("%d receipt keys are left, %v, want the new one", len(keys), err)
			}
			if inFiles(t, path, key.Key[:]) {
				t.Error("the deleted receipt key is still in the files")
			}
			refuse(t, l, "r", benchUse(2, 1))
			refuse(t, l, "old", benchUse(1, 1))
			accept(t, l, "next", "a", benchUse(2, 2))
		})
	}
}

// A ledger that stood still for long deletes the old keys before anything else.
func TestOpenDeletesOldKeys(t *testing.T) {
	for name, d := range map[string]time.Duration{"old": 2 * w, "from the future": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			clock := newClock()
			f := newFlaky(t)
			l := openLedger(t, f, Options{clock: clock.read})
			accept(t, l, "r", "a", benchUse(1, 1))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			clock.add(d)
			f.beforeRead = func() error {
				keys, err := f.ReceiptKeys(t.Context())
				if err != nil || len(keys) != 0 {
					t.Errorf("%d receipt keys are left, %v", len(keys), err)
				}
				return err
			}
			l = openLedger(t, f, Options{clock: clock.read})
			refuse(t, l, "r", benchUse(1, 1))
			accept(t, l, "r", "a", benchUse(1, 2))
		})
	}
}

// A backup that reads delays the deletion, and does not stop the start.
func TestOpenBesideABackup(t *testing.T) {
	clock := newClock()
	f := newFlaky(t)
	l := openLedger(t, f, Options{clock: clock.read})
	accept(t, l, "r", "a", benchUse(1, 1))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	clock.add(2 * w)
	attempts := 0
	f.afterDeleteKeys = func() error { attempts++; return store.ErrLocked }
	l = openLedger(t, f, Options{clock: clock.read})
	if err := l.Stats().Failing; !errors.Is(err, store.ErrLocked) {
		t.Errorf("Stats: %v", err)
	}
	refuse(t, l, "r", benchUse(1, 1))
	// The row is gone, the key may still be in the files: it is deleted again.
	l.tend(t.Context())
	f.afterDeleteKeys = func() error { attempts++; return nil }
	l.tend(t.Context())
	l.tend(t.Context())
	if err := l.Stats().Failing; err != nil || attempts != 3 {
		t.Errorf("Stats: %v after %d attempts, want 3", err, attempts)
	}
}

// Nothing is written for a ledger that nobody uses; one that is used has a new key in
// time.
func TestKeysAreReplaced(t *testing.T) {
	clock := newClock()
	f := newFlaky(t)
	made := 0
	f.beforeAddKey = func() error { made++; return nil }
	l := openLedger(t, f, Options{clock: clock.read})
	for range 20 {
		clock.add(w / 4)
		l.tend(t.Context())
	}
	if made != 0 {
		t.Errorf("%d keys were made for nobody", made)
	}
	for c := uint32(1); c <= 20; c++ {
		accept(t, l, "r", "a", benchUse(1, c))
		clock.add(w / 4)
		l.tend(t.Context())
		if keys, err := f.ReceiptKeys(t.Context()); err != nil || len(keys) > 3 {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
	}
	if made < 6 || made > 8 {
		t.Errorf("%d keys were made in five windows", made)
	}
}

// No use is accepted under a key that is past its time.
func TestKeysCannotBeReplaced(t *testing.T) {
	clock := newClock()
	f := newFlaky(t)
	l := openLedger(t, f, Options{clock: clock.read})
	accept(t, l, "r1", "a", benchUse(1, 1))
	f.beforeAddKey = func() error { return errFlaky }
	clock.add(w - 1)
	l.tend(t.Context())
	if err := l.Stats().Failing; !errors.Is(err, errFlaky) {
		t.Errorf("Stats: %v", err)
	}
	accept(t, l, "r2", "a", benchUse(1, 2))
	clock.add(1)
	if got, _, err := l.Accept(t.Context(), []Use{benchUse(1, 3)}, []byte("r3"), []byte("a")); !errors.Is(err, isUnavailable) || !errors.Is(err, errFlaky) {
		t.Errorf("Accept = %q, %v", got, err)
	}
	accept(t, l, "r2", "a", benchUse(1, 2)) // retries are answered
	f.beforeAddKey = nil
	accept(t, l, "r3", "a", benchUse(1, 3))
	l.tend(t.Context())
	if err := l.Stats().Failing; err != nil {
		t.Errorf("Stats: %v", err)
	}
	// One that cannot be deleted opens nothing all the same, and goes later.
	f.beforeDeleteKeys = func() error { return errFlaky }
	clock.add(2 * w)
	refuse(t, l, "r3", benchUse(1, 3))
	l.tend(t.Context())
	if err := l.Stats().Failing; !errors.Is(err, errFlaky) {
		t.Errorf("Stats: %v", err)
	}
	f.beforeDeleteKeys = nil
	l.tend(t.Context())
	keyOf(t, f, clock.read()) // only the one that was made since
	if err := l.Stats().Failing; err != nil {
		t.Errorf("Stats: %v", err)
	}
	if keys, err := f.ReceiptKeys(t.Context()); err != nil || len(keys) != 1 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

// A ledger answers retries of what another accepted, or it itself before it started
// again.
func TestKeysOfOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.db")
	first := openLedger(t, openStore(t, path), Options{})
	accept(t, first, "r", "a", benchUse(1, 1))
	second := openLedger(t, openStore(t, path), Options{})
	accept(t, second, "r", "a", benchUse(1, 1))
	refuse(t, second, "another", benchUse(1, 1))
}

// The answer is nowhere in the files, and a receipt says nothing without the request.
func TestAnswersAreEnciphered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.db")
	s := openStore(t, path)
	clock := newClock()
	l := openLedger(t, s, Options{clock: clock.read})
	answer, request := strings.Repeat("ANSWER", 8), strings.Repeat("REQUEST", 8)
	accept(t, l, request, answer, benchUse(1, 1))
	if err := l.foldJournal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if inFiles(t, path, []byte("ANSWER")) || inFiles(t, path, []byte("REQUEST")) {
		t.Error("the answer or the request is in the files")
	}
	q, err := benchUse(1, 1).sequence()
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Counter(t.Context(), q[:])
	if err != nil {
		t.Fatal(err)
	}
	stored := keyOf(t, s, clock.read())
	key := newReceiptKey(&stored, false)
	here := []span{{q, 1, 1}}
	if got, ok := key.open(here, []byte(request), c.Receipt); !ok || string(got) != answer {
		t.Errorf("open = %q, %v", got, ok)
	}
	for name, opened := range map[string]func() ([]byte, bool){
		"other request": func() ([]byte, bool) { return key.open(here, []byte(request+"x"), c.Receipt) },
		"other counter": func() ([]byte, bool) { return key.open([]span{{q, 2, 2}}, []byte(request), c.Receipt) },
		"other class": func() ([]byte, bool) {
			p := q
			p[0] = 2
			return key.open([]span{{p, 1, 1}}, []byte(request), c.Receipt)
		},
		"two sequences": func() ([]byte, bool) {
			p := q
			p[0] = 2
			return key.open([]span{{q, 1, 1}, {p, 1, 1}}, []byte(request), c.Receipt)
		},
	} {
		if got, ok := opened(); ok || got != nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	for i := range c.Receipt {
		altered := bytes.Clone(c.Receipt)
		altered[i] ^= 0x10
		if got, ok := key.open(here, []byte(request), altered); ok || got != nil {
			t.Errorf("byte %d altered: %q", i, got)
		}
		if got, ok := key.open(here, []byte(request), c.Receipt[:i]); ok || got != nil {
			t.Errorf("%d bytes: %q", i, got)
		}
	}
}

// FuzzOpenReceipt: nothing but a receipt under the key for the request opens, and
// nothing panics.
func FuzzOpenReceipt(f *testing.F) {
	key := newReceiptKey(&store.ReceiptKey{ID: 7, Key: [32]byte{1, 2, 3}, CreatedAt: time.Unix(0, 0)}, true)
	spans := []span{{sequence{0: 1}, 1, 1}}
	for _, answer := range []string{"", "answer", strings.Repeat("a", MaxAnswer)} {
		receipt, err := key.seal(spans, []byte("request"), []byte(answer))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(receipt)
		f.Add(receipt[:len(receipt)-1])
		f.Add(append(receipt, 0))
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, receipt []byte) {
		answer, ok := key.open(spans, []byte("request"), receipt)
		if !ok {
			if answer != nil {
				t.Errorf("a part of an answer: %q", answer)
			}
			return
		}
		if id, ok := receiptKeyID(receipt); !ok || id != 7 || len(answer) != len(receipt)-minReceipt {
			t.Errorf("a receipt of key %d with %d bytes gave %d", id, len(receipt), len(answer))
		}
		if got, ok := key.open(spans, []byte("another"), receipt); ok || got != nil {
			t.Errorf("another request opens it: %q", got)
		}
	})
}

// keyOf returns the receipt key that was made at a time.
func keyOf(t *testing.T, s store.Counters, created time.Time) store.ReceiptKey {
	t.Helper()
	keys, err := s.ReceiptKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if k.CreatedAt.Equal(created) {
			return k
		}
	}
	t.Fatalf("of %d receipt keys none is of %v", len(keys), created)
	return store.ReceiptKey{}
}

// inFiles looks for bytes in the database and what belongs to it.
func inFiles(t *testing.T, path string, b []byte) bool {
	t.Helper()
	names, err := filepath.Glob(path + "*")
	if err != nil || len(names) < 2 {
		t.Fatalf("files %v, %v", names, err)
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(content, b) {
			return true
		}
	}
	return false
}
