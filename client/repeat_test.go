package client

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	keydv1 "keyd/api/keyd/v1"
)

func unavailable(context.Context, string, proto.Message) error {
	return status.Error(codes.Unavailable, "scripted")
}

// about is a request about a DUKPT terminal.
func about(terminal, counter byte) *keydv1.TranslatePinDataRequest {
	return &keydv1.TranslatePinDataRequest{Incoming: &keydv1.PinKey{Dukpt: &keydv1.DukptAttributes{
		KeySerialNumber: []byte{0xFF, 0xFF, 1, 2, 3, 4, terminal, 0, 0, counter}}}}
}

func TestCallsGoInTurn(t *testing.T) {
	a := newAuthority(t)
	servers := []*recorder{startRecorder(t, a, nil), startRecorder(t, a, nil), startRecorder(t, a, nil)}
	c := newClient(t, a, Config{}, servers...)
	for range 30 {
		if _, err := c.Pin().TranslatePinData(t.Context(), &keydv1.TranslatePinDataRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range servers {
		if n := s.total(); n != 10 {
			t.Errorf("server %d got %d of 30 calls", i, n)
		}
	}
}

func TestRepeatGoesToAnother(t *testing.T) {
	a := newAuthority(t)
	bad, good := startRecorder(t, a, unavailable), startRecorder(t, a, nil)
	c := newClient(t, a, Config{}, bad, good)
	quickest := time.Hour
	for range 50 {
		began, failed := time.Now(), bad.total()
		if _, err := c.Pin().TranslatePinData(t.Context(), &keydv1.TranslatePinDataRequest{}); err != nil {
			t.Fatal(err)
		}
		if bad.total() > failed {
			quickest = min(quickest, time.Since(began))
		}
	}
	if bad.total() != 25 || good.total() != 50 {
		t.Errorf("%d calls failed, %d were answered", bad.total(), good.total())
	}
	if quickest >= firstPause/2 {
		t.Errorf("with another keyd there is no pause, but the quickest repeat took %v", quickest)
	}
}

// The database of a terminal's home may have the stored answer: the first repeat goes
// there, unless the home said that nothing was recorded.
func TestTerminalsHaveHomes(t *testing.T) {
	a := newAuthority(t)
	var fail atomic.Pointer[error]
	answer := func(context.Context, string, proto.Message) error {
		if err := fail.Swap(nil); err != nil {
			return *err
		}
		return nil
	}
	servers := []*recorder{startRecorder(t, a, answer), startRecorder(t, a, answer)}
	c := newClient(t, a, Config{}, servers...)
	other := newClient(t, a, Config{Addresses: []string{servers[1].address, servers[0].address}})
	waitFor(t, "both serve", func() bool { return len(other.Serving()) == 2 })
	call := func(c *Client, terminal, counter byte) (at int, sent int) {
		t.Helper()
		before := []int{servers[0].total(), servers[1].total()}
		if _, err := c.Pin().TranslatePinData(t.Context(), about(terminal, counter)); err != nil {
			t.Fatal(err)
		}
		if servers[1].total() > before[1] {
			at = 1
		}
		return at, servers[0].total() + servers[1].total() - before[0] - before[1]
	}
	homes := map[int]int{}
	for terminal := range byte(40) {
		home, _ := call(c, terminal, 1)
		homes[home]++
		for counter := range byte(3) {
			if at, _ := call(c, terminal, counter); at != home {
				t.Fatalf("terminal %d went to %d and to %d", terminal, home, at)
			}
		}
		if at, _ := call(other, terminal, 9); at != home {
			t.Fatalf("another client has another home for terminal %d", terminal)
		}
	}
	if homes[0] < 8 || homes[1] < 8 {
		t.Errorf("40 terminals are divided into %v", homes)
	}
	for _, f := range []struct {
		err   error
		moves bool
	}{
		{status.Error(codes.Unavailable, "broken"), false},
		{refusal(t, codes.Unavailable, "STORE_UNAVAILABLE"), false},
		{refusal(t, codes.Unavailable, "AUDIT_UNAVAILABLE"), false},
		{refusal(t, codes.Unavailable, "MODULE_UNAVAILABLE"), true},
	} {
		home, _ := call(c, 1, 1)
		before := servers[1-home].total()
		fail.Store(&f.err)
		if _, sent := call(c, 1, 2); sent != 2 {
			t.Errorf("%v: sent %d times", f.err, sent)
		}
		if moved := servers[1-home].total() > before; moved != f.moves {
			t.Errorf("%v: the repeat went elsewhere: %t, want %t", f.err, moved, f.moves)
		}
	}
	// A home that drains hands its terminals over, and has them back later.
	home, _ := call(c, 1, 1)
	servers[home].serving(false)
	waitFor(t, "the home is left", func() bool { return len(c.Serving()) == 1 })
	if at, _ := call(c, 1, 2); at == home {
		t.Error("a keyd that is not healthy got a call")
	}
	servers[home].serving(true)
	waitFor(t, "the home is back", func() bool { return len(c.Serving()) == 2 })
	if at, _ := call(c, 1, 3); at != home {
		t.Error("a healthy home does not get its terminal's call")
	}
}

// When a home fails always, its terminals are served all the same.
func TestHomeThatOnlyFailsIsLeft(t *testing.T) {
	a := newAuthority(t)
	servers := []*recorder{startRecorder(t, a, unavailable), startRecorder(t, a, nil)}
	c := newClient(t, a, Config{}, servers...)
	for terminal := range byte(20) {
		if _, err := c.Pin().TranslatePinData(t.Context(), about(terminal, 1)); err != nil {
			t.Errorf("terminal %d: %v", terminal, err)
		}
	}
	if n := servers[0].total(); n == 0 || n%2 != 0 {
		t.Errorf("the home that fails was asked %d times, want twice for each of its terminals", n)
	}
}

func TestBudgetEndsRepeats(t *testing.T) {
	const calls, repeats = 200, 10
	a := newAuthority(t)
	var well atomic.Bool
	s := startRecorder(t, a, func(context.Context, string, proto.Message) error {
		if well.Load() {
			return nil
		}
		return status.Error(codes.Unavailable, "outage")
	})
	c := newClient(t, a, Config{Budget: repeats}, s)
	var all sync.WaitGroup
	for range calls {
		all.Go(func() {
			if _, err := c.Pin().TranslatePinData(t.Context(), &keydv1.TranslatePinDataRequest{}); status.Code(err) != codes.Unavailable {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := s.total(); n != calls+repeats {
		t.Errorf("%d calls were sent %d times, want %d", calls, n, calls+repeats)
	}
	// What is answered earns repeats again.
	well.Store(true)
	for range 3 * perRepeat {
		if _, err := c.Pin().TranslatePinData(t.Context(), &keydv1.TranslatePinDataRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	well.Store(false)
	before := s.total()
	if _, err := c.Pin().TranslatePinData(t.Context(), &keydv1.TranslatePinDataRequest{}); status.Code(err) != codes.Unavailable {
		t.Error(err)
	}
	if n := s.total() - before; n != 4 {
		t.Errorf("sent %d times, want once and three repeats", n)
	}
}

// A pause that would outlast the caller is not begun: the caller gets the error while
// there is time to act on it.
func TestRepeatsStayWithinTheDeadline(t *testing.T) {
	a := newAuthority(t)
	for name, answer := range map[string]func(context.Context, string, proto.Message) error{
		"growing pauses": unavailable,
		"a long RetryInfo": func(context.Context, string, proto.Message) error {
			return refusal(t, codes.ResourceExhausted, "RATE_LIMITED", retryInfo(time.Minute))
		},
	} {
		s := startRecorder(t, a, answer)
		c := newClient(t, a, Config{Attempts: 100}, s)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		began := time.Now()
		_, err := c.Pin().TranslatePinData(ctx, &keydv1.TranslatePinDataRequest{})
		if code := status.Code(err); code != codes.Unavailable && code != codes.ResourceExhausted || ctx.Err() != nil {
			t.Errorf("%s: %v after %v", name, err, time.Since(began))
		}
		cancel()
	}
}

func TestRetryInfoIsObeyed(t *testing.T) {
	const pause = 200 * time.Millisecond
	a := newAuthority(t)
	var calls atomic.Int32
	s := startRecorder(t, a, func(context.Context, string, proto.Message) error {
		if calls.Add(1) == 1 {
			return refusal(t, codes.ResourceExhausted, "RATE_LIMITED", retryInfo(pause))
		}
		return nil
	})
	c := newClient(t, a, Config{}, s)
	began := time.Now()
	// Nothing was done, so even a reset is sent again.
	if _, err := c.Velocity().ResetTranslations(t.Context(), &keydv1.ResetTranslationsRequest{}); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); calls.Load() != 2 || took < pause {
		t.Errorf("%d calls in %v", calls.Load(), took)
	}
}

// A keyd that does not answer at all does not take all of the caller's time, where there can be
// another attempt.
func TestSilentKeydIsLeft(t *testing.T) {
	a := newAuthority(t)
	silent := startRecorder(t, a, func(ctx context.Context, _ string, _ proto.Message) error {
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	})
	good := startRecorder(t, a, nil)
	c := newClient(t, a, Config{AttemptTimeout: 400 * time.Millisecond}, silent, good)
	for range 4 {
		if _, err := c.Pin().TranslatePinData(t.Context(), &keydv1.TranslatePinDataRequest{}); err != nil {
			t.Error(err)
		}
	}
	if silent.total() != 2 {
		t.Errorf("the silent one got %d calls, want 2", silent.total())
	}
	alone := newClient(t, a, Config{AttemptTimeout: 50 * time.Millisecond}, silent)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	before, began := silent.total(), time.Now()
	_, err := alone.Velocity().ResetTranslations(ctx, &keydv1.ResetTranslationsRequest{})
	if status.Code(err) != codes.DeadlineExceeded || silent.total() != before+1 || time.Since(began) < 900*time.Millisecond {
		t.Errorf("a reset must have the caller's whole time, once: %v, sent %d times", err, silent.total()-before)
	}
}

// Without a keyd a call waits: it was never sent, so it goes out when one is there,
// whatever the method, and waiting is no attempt.
func TestCallWaitsForAKeyd(t *testing.T) {
	a := newAuthority(t)
	s := startRecorder(t, a, nil)
	s.serving(false)
	c := newClient(t, a, Config{Addresses: []string{s.address}, AttemptTimeout: 100 * time.Millisecond, Attempts: 2})
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := c.Velocity().ResetTranslations(t.Context(), &keydv1.ResetTranslationsRequest{}); err != nil {
			t.Error(err)
		}
	})
	all.Go(func() {
		if _, err := c.Pin().TranslatePinData(t.Context(), &keydv1.TranslatePinDataRequest{}); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(450 * time.Millisecond) // more than all attempts may take, and amid one: none is cut when it is let through
	s.serving(true)
	all.Wait()
	if s.total() != 2 {
		t.Errorf("%d calls reached the server, want 2", s.total())
	}
	s.serving(false)
	waitFor(t, "it is noticed", func() bool { return len(c.Serving()) == 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.Pin().TranslatePinData(ctx, &keydv1.TranslatePinDataRequest{}); status.Code(err) != codes.DeadlineExceeded {
		t.Error(err)
	}
	if err := c.WaitServing(ctx); err == nil {
		t.Error("no keyd serves, and WaitServing says that one does")
	}
}

func TestPausesGrow(t *testing.T) {
	for n, most := range map[int]time.Duration{1: 25, 2: 75, 3: 225, 4: 675, 5: 1000, 50: 1000} {
		most *= time.Millisecond
		for range 100 {
			if p := pauseAfter(n); p < most/2 || p > most {
				t.Fatalf("pause %d is %v, want %v to %v", n, p, most/2, most)
			}
		}
	}
}

func TestManyClientsAtOnce(t *testing.T) {
	a := newAuthority(t)
	servers := []*recorder{startRecorder(t, a, nil), startRecorder(t, a, nil)}
	c := newClient(t, a, Config{}, servers...)
	stop := make(chan struct{})
	var all, flips sync.WaitGroup
	flips.Go(func() { // one after the other is taken out
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				servers[i/2%2].serving(i%2 == 1)
			}
		}
	})
	for g := range 32 {
		all.Go(func() {
			for i := range 100 {
				if _, err := c.Pin().TranslatePinData(t.Context(), about(byte(g), byte(i))); err != nil {
					t.Error(err)
				}
				if _, err := c.Data().EncryptData(t.Context(), &keydv1.EncryptDataRequest{Plaintext: []byte(strconv.Itoa(i))}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	close(stop)
	flips.Wait()
	if n := servers[0].total() + servers[1].total(); n != 6400 {
		t.Errorf("%d calls were sent, want 6400", n)
	}
}
