package ksn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"keyd/dukpt"
	"keyd/fault"
	"keyd/store"
)

var (
	isReplay      = fault.New(fault.KSNReplayed, "")
	isUnavailable = fault.New(fault.StoreUnavailable, "")
	isInternal    = fault.New(fault.Internal, "")
)

func TestAccept(t *testing.T) {
	l := newLedger(t, Options{})
	accept(t, l, "r1", "a1", benchUse(1, 5))
	accept(t, l, "r1", "a1", benchUse(1, 5)) // a retry
	refuse(t, l, "r2", benchUse(1, 5))
	refuse(t, l, "r1", benchUse(1, 4))
	refuse(t, l, "r3", benchUse(1, 1))
	accept(t, l, "r6", "a6", benchUse(1, 6))
	refuse(t, l, "r1", benchUse(1, 5)) // it is no longer the last
	accept(t, l, "r6", "a6", benchUse(1, 6))

	// Each class, key and initial key has counters of its own.
	for c := PINOutgoing; c <= DataResponse; c++ {
		u := benchUse(1, 2)
		u.Class = c
		accept(t, l, "r", "a", u)
	}
	other := benchUse(1, 2)
	other.Fingerprint = strings.Repeat("aB", 16)
	accept(t, l, "r", "a", other)
	other.Fingerprint = strings.Repeat("Ab", 16) // the same in another case
	accept(t, l, "r", "a", other)
	accept(t, l, "r", "a", benchUse(2, 2))
	accept(t, l, "empty", "", benchUse(3, 1))
	accept(t, l, "empty", "", benchUse(3, 1))
	accept(t, l, strings.Repeat("r", MaxRequest), strings.Repeat("a", MaxAnswer), benchUse(3, 2))
	accept(t, l, strings.Repeat("r", MaxRequest), strings.Repeat("a", MaxAnswer), benchUse(3, 2))
}

func TestTDESSequence(t *testing.T) {
	l := newLedger(t, Options{})
	use := func(ksn string) Use {
		k, err := dukpt.ParseKSN([]byte(ksn))
		if err != nil {
			t.Fatal(err)
		}
		return Use{Fingerprint: strings.Repeat("0", 32), KSN: k, Class: PINIncoming}
	}
	accept(t, l, "r1", "a", use("\xff\xff\x98\x76\x54\x32\x10\xe0\x00\x01"))
	refuse(t, l, "r2", use("\xff\xff\x98\x76\x54\x32\x10\xe0\x00\x01"))
	accept(t, l, "r2", "a", use("\xff\xff\x98\x76\x54\x32\x10\xe0\x00\x02"))
	accept(t, l, "r1", "a", use("\xff\xff\x98\x76\x54\x32\x11\x00\x00\x01")) // the next device
}

func TestJump(t *testing.T) {
	l := newLedger(t, Options{MaxJump: 100})
	accept(t, l, "first", "a", benchUse(1, 0xfff00000)) // any counter, to begin with
	if _, _, err := l.Accept(t.Context(), []Use{benchUse(1, 0xfff00000+101)}, []byte("r"), nil); !errors.Is(err, isReplay) || !strings.Contains(err.Error(), "more than 100 ahead") {
		t.Errorf("a jump of 101: %v", err)
	}
	refuse(t, l, "r", benchUse(1, 0xfff00000+101))
	accept(t, l, "r", "a", benchUse(1, 0xfff00000+100))

	// A terminal that counts as the standard says never jumps too far.
	l = newLedger(t, Options{})
	for _, c := range []uint32{1<<16 - 1, 1 << 16, 0xffff << 16} {
		k, err := benchUse(int(c), 1).KSN.WithCounter(c)
		if err != nil {
			t.Fatal(err)
		}
		use := benchUse(int(c), 1)
		for use.KSN = k; err == nil; use.KSN, err = use.KSN.Next() {
			accept(t, l, "r", "a", use)
			if use.KSN.Counter() > c+10 {
				break
			}
		}
	}
}

func TestSeveralUses(t *testing.T) {
	l := newLedger(t, Options{})
	pin, mac := benchUse(1, 5), benchUse(1, 5)
	mac.Class = MACRequest
	accept(t, l, "r", "a", pin, mac, pin)
	accept(t, l, "r", "a", mac, pin) // the order means nothing
	refuse(t, l, "r", pin)           // another request
	refuse(t, l, "r", mac)
	mac6, pin6 := mac, benchUse(1, 6)
	mac6.KSN = pin6.KSN
	refuse(t, l, "r", pin, mac6)
	refuse(t, l, "r", pin6, mac)   // all or none
	accept(t, l, "r6", "a6", pin6) // nothing was moved
	refuse(t, l, "r", pin, mac)    // a part was used again
	accept(t, l, "mac", "m", mac6) // nor here
	refuse(t, l, "r", pin6, mac6)  // both are the last, of different requests
	refuse(t, l, "r6", pin6, mac6)

	// The current and the new PIN of a change under KSNs of their own.
	accept(t, l, "change", "c", benchUse(9, 2), benchUse(9, 1))
	accept(t, l, "change", "c", benchUse(9, 1), benchUse(9, 2))
	refuse(t, l, "change", benchUse(9, 2))
	refuse(t, l, "change", benchUse(9, 1))
	refuse(t, l, "change", benchUse(9, 2), benchUse(9, 3))
	accept(t, l, "next", "n", benchUse(9, 3))
}

func TestLook(t *testing.T) {
	l := newLedger(t, Options{})
	look := func(request string, counter uint32) ([]byte, error) {
		return l.Look(t.Context(), []Use{benchUse(1, counter)}, []byte(request))
	}
	for range 2 { // it moves nothing
		if stored, err := look("r", 5); stored != nil || err != nil {
			t.Errorf("fresh: %q, %v", stored, err)
		}
	}
	accept(t, l, "r", "", benchUse(1, 5))
	if stored, err := look("r", 5); stored == nil || len(stored) != 0 || err != nil {
		t.Errorf("retry: %q, %v, want an empty answer", stored, err)
	}
	for name, counter := range map[string]uint32{"other request": 5, "earlier": 4, "jump": 5 + DefaultMaxJump + 1} {
		if stored, err := look("another", counter); stored != nil || !errors.Is(err, isReplay) {
			t.Errorf("%s: %q, %v", name, stored, err)
		}
	}
}

func TestInvalidArguments(t *testing.T) {
	l := newLedger(t, Options{})
	good := benchUse(1, 1)
	change := func(f func(*Use)) []Use {
		u := good
		f(&u)
		return []Use{good, u}
	}
	for name, uses := range map[string][]Use{
		"none":              nil,
		"five":              {good, good, good, good, good},
		"class 0":           change(func(u *Use) { u.Class = 0 }),
		"class 7":           change(func(u *Use) { u.Class = 7 }),
		"no KSN":            change(func(u *Use) { u.KSN = dukpt.KSN{} }),
		"initial KSN":       change(func(u *Use) { u.KSN = u.KSN.Initial() }),
		"no fingerprint":    change(func(u *Use) { u.Fingerprint = "" }),
		"short fingerprint": change(func(u *Use) { u.Fingerprint = u.Fingerprint[2:] }),
		"long fingerprint":  change(func(u *Use) { u.Fingerprint += "00" }),
		"not hex":           change(func(u *Use) { u.Fingerprint = strings.Repeat("0x", 16) }),
	} {
		if _, _, err := l.Accept(t.Context(), uses, nil, nil); !errors.Is(err, isInternal) {
			t.Errorf("%s: Accept: %v", name, err)
		}
		if _, err := l.Look(t.Context(), uses, nil); !errors.Is(err, isInternal) {
			t.Errorf("%s: Look: %v", name, err)
		}
	}
	if _, _, err := l.Accept(t.Context(), []Use{good}, make([]byte, MaxRequest+1), nil); !errors.Is(err, isInternal) {
		t.Errorf("long request: %v", err)
	}
	if _, _, err := l.Accept(t.Context(), []Use{good}, nil, make([]byte, MaxAnswer+1)); !errors.Is(err, isInternal) {
		t.Errorf("long answer: %v", err)
	}
	accept(t, l, "r", "a", good) // nothing was moved
}

func TestOneOfManyWins(t *testing.T) {
	l := newLedger(t, Options{})
	const callers = 64
	for round := uint32(1); round <= 20; round++ {
		var won atomic.Int32
		var wait sync.WaitGroup
		begin := make(chan struct{})
		for i := range callers {
			wait.Go(func() {
				<-begin
				request := fmt.Appendf(nil, "request %d", i)
				got, _, err := l.Accept(t.Context(), []Use{benchUse(1, round)}, request, request)
				switch {
				case err == nil && bytes.Equal(got, request):
					won.Add(1)
				case !errors.Is(err, isReplay):
					t.Errorf("caller %d: %q, %v", i, got, err)
				}
			})
		}
		close(begin)
		wait.Wait()
		if won.Load() != 1 {
			t.Errorf("round %d: %d callers won", round, won.Load())
		}
	}
}

func TestIdenticalRequestsGetOneAnswer(t *testing.T) {
	l := newLedger(t, Options{})
	const callers = 64
	for round := uint32(1); round <= 20; round++ {
		answers := make([][]byte, callers)
		var wait sync.WaitGroup
		begin := make(chan struct{})
		for i := range callers {
			wait.Go(func() {
				<-begin
				var err error
				answers[i], _, err = l.Accept(t.Context(), []Use{benchUse(1, round)}, []byte("request"), fmt.Appendf(nil, "answer %d", i))
				if err != nil {
					t.Error(err)
				}
			})
		}
		close(begin)
		wait.Wait()
		for i, a := range answers {
			if !bytes.Equal(a, answers[0]) {
				t.Errorf("round %d: caller %d got %q, another %q", round, i, a, answers[0])
			}
		}
	}
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyd.db")
	for round := uint32(1); round <= 5; round++ {
		s := openStore(t, path)
		l := openLedger(t, s, Options{limits: killLimits})
		if round > 1 {
			accept(t, l, fmt.Sprint("r", round-1), "a", benchUse(1, round-1))
			refuse(t, l, "other", benchUse(1, round-1))
		}
		accept(t, l, fmt.Sprint("r", round), "a", benchUse(1, round))
		for i := range 50 { // so that some journals are folded
			accept(t, l, "fill", "a", benchUse(100+i, round))
		}
		if err := errors.Join(l.Close(), l.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.Accept(t.Context(), []Use{benchUse(1, 100)}, nil, nil); !errors.Is(err, isUnavailable) {
			t.Errorf("Accept after Close: %v", err)
		}
		if _, err := l.Look(t.Context(), []Use{benchUse(1, 100)}, nil); !errors.Is(err, isUnavailable) {
			t.Errorf("Look after Close: %v", err)
		}
	}
}

// What is in the queue when the ledger is closed is finished.
func TestCloseFinishesTheQueue(t *testing.T) {
	f := newFlaky(t)
	l := openLedger(t, f, Options{})
	accept(t, l, "first", "a", benchUse(0, 1)) // makes the receipt key
	entered, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.beforeAppend = func() error {
		once.Do(func() { close(entered); <-goOn })
		return nil
	}
	const queued = 8
	errs := make(chan error, 1+queued)
	call := func(n int) {
		_, _, err := l.Accept(t.Context(), []Use{benchUse(n, 1)}, []byte("r"), []byte("a"))
		errs <- err
	}
	go call(1)
	<-entered
	for i := range queued {
		go call(2 + i)
	}
	eventually(t, "all are queued", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.queue) == queued
	})
	closed := make(chan error, 1)
	go func() { closed <- l.Close() }()
	<-l.closing
	close(goOn)
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	for range 1 + queued {
		if err := <-errs; err != nil {
			t.Errorf("Accept: %v", err)
		}
	}
}

func TestEndedContext(t *testing.T) {
	f := newFlaky(t)
	l := openLedger(t, f, Options{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := l.Accept(ended, []Use{benchUse(1, 1)}, []byte("r"), []byte("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("Accept: %v", err)
	}
	if _, err := l.Look(ended, []Use{benchUse(1, 1)}, []byte("r")); !errors.Is(err, context.Canceled) {
		t.Errorf("Look: %v", err)
	}
	accept(t, l, "other", "a", benchUse(1, 1))

	// It ends while the commit is under way: the retry gets the answer.
	waiting, cancel := context.WithCancel(t.Context())
	goOn := make(chan struct{})
	f.beforeAppend = func() error {
		cancel()
		<-goOn
		return nil
	}
	if got, _, err := l.Accept(waiting, []Use{benchUse(1, 2)}, []byte("r"), []byte("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("Accept: %q, %v", got, err)
	}
	close(goOn)
	accept(t, l, "r", "a", benchUse(1, 2))
	if got, _, err := l.Accept(t.Context(), []Use{benchUse(1, 2)}, []byte("r"), []byte("b")); err != nil || string(got) != "a" {
		t.Errorf("the retry got %q, %v", got, err)
	}
}

func newLedger(t *testing.T, o Options) *Ledger {
	t.Helper()
	return openLedger(t, openStore(t, filepath.Join(t.TempDir(), "keyd.db")), o)
}

// accept expects the request to get that answer, now or again.
func accept(t *testing.T, l *Ledger, request, answer string, uses ...Use) {
	t.Helper()
	got, _, err := l.Accept(t.Context(), uses, []byte(request), []byte(answer))
	if err != nil || string(got) != answer {
		t.Fatalf("Accept(%.20s) = %q, %v (%v), want %q", request, got, err, errors.Unwrap(err), answer)
	}
}

func refuse(t *testing.T, l *Ledger, request string, uses ...Use) {
	t.Helper()
	got, _, err := l.Accept(t.Context(), uses, []byte(request), []byte("must not be stored"))
	if !errors.Is(err, isReplay) || got != nil {
		t.Fatalf("Accept(%.20s) = %q, %v, want a replay", request, got, err)
	}
}

// flaky is a store that fails, or does what it is told and then fails.
type flaky struct {
	store.Counters
	beforeAppend, afterAppend, beforeRead, beforeFold, beforeTrim, beforeAddKey, beforeDeleteKeys, afterDeleteKeys, afterCounter func() error
}

func newFlaky(t testing.TB) *flaky {
	t.Helper()
	return &flaky{Counters: openStore(t, filepath.Join(t.TempDir(), "keyd.db"))}
}

var errFlaky = errors.New("the disk is on fire")

func call(f func() error) error {
	if f == nil {
		return nil
	}
	return f()
}

func (f *flaky) ExtendJournal(
	ctx context.Context, known uint64, ending []byte, each func(uint64, []byte) error, next func(uint64) ([]byte, error),
) error {
	if err := call(f.beforeAppend); err != nil {
		return err
	}
	if err := f.Counters.ExtendJournal(ctx, known, ending, each, next); err != nil {
		return err
	}
	return call(f.afterAppend)
}

func (f *flaky) Counter(ctx context.Context, sequence []byte) (store.Counter, error) {
	c, err := f.Counters.Counter(ctx, sequence)
	if e := call(f.afterCounter); e != nil {
		return store.Counter{}, e
	}
	return c, err
}

func (f *flaky) ReadJournal(ctx context.Context, each func(uint64, []byte) error) error {
	if err := call(f.beforeRead); err != nil {
		return err
	}
	return f.Counters.ReadJournal(ctx, each)
}

func (f *flaky) Fold(ctx context.Context, counters ...store.Counter) error {
	if err := call(f.beforeFold); err != nil {
		return err
	}
	return f.Counters.Fold(ctx, counters...)
}

func (f *flaky) TrimJournal(ctx context.Context, through uint64) error {
	if err := call(f.beforeTrim); err != nil {
		return err
	}
	return f.Counters.TrimJournal(ctx, through)
}

func (f *flaky) AddReceiptKey(ctx context.Context, key store.ReceiptKey) error {
	if err := call(f.beforeAddKey); err != nil {
		return err
	}
	return f.Counters.AddReceiptKey(ctx, key)
}

func (f *flaky) DeleteReceiptKeys(ctx context.Context, ids ...uint64) error {
	if err := call(f.beforeDeleteKeys); err != nil {
		return err
	}
	if err := f.Counters.DeleteReceiptKeys(ctx, ids...); err != nil || len(ids) == 0 {
		return err
	}
	return call(f.afterDeleteKeys)
}

// eventually polls.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 seconds", what)
		}
	}
}
