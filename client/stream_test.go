package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
)

func answered(item *keydv1.TranslatePinDataStreamRequest) *keydv1.TranslatePinDataStreamResponse {
	return &keydv1.TranslatePinDataStreamResponse{Result: &keydv1.TranslatePinDataStreamResponse_Response{
		Response: &keydv1.TranslatePinDataResponse{EncryptedPinBlock: []byte(item.GetRequest().GetPrimaryAccountNumber())}}}
}

func refused(err error) *keydv1.TranslatePinDataStreamResponse {
	return &keydv1.TranslatePinDataStreamResponse{Result: &keydv1.TranslatePinDataStreamResponse_Error{Error: status.Convert(err).Proto()}}
}

// translateAll translates account numbers 0 to n-1 from many goroutines and insists that
// each gets its own answer.
func translateAll(t *testing.T, s *Stream, goroutines, n int) {
	t.Helper()
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			for i := g; i < n; i += goroutines {
				pan := fmt.Sprint(i)
				answer, err := s.Translate(t.Context(), &keydv1.TranslatePinDataRequest{PrimaryAccountNumber: pan})
				if err != nil {
					t.Errorf("%s: %v", pan, err)
				} else if string(answer.GetEncryptedPinBlock()) != pan {
					t.Errorf("%s got the answer of %s", pan, answer.GetEncryptedPinBlock())
				}
			}
		})
	}
	all.Wait()
}

func TestStreamBringsEachItsAnswer(t *testing.T) {
	a := newAuthority(t)
	servers := []*recorder{startRecorder(t, a, nil), startRecorder(t, a, nil)}
	for _, r := range servers {
		r.item = func(_ int, item *keydv1.TranslatePinDataStreamRequest) (*keydv1.TranslatePinDataStreamResponse, error) {
			time.Sleep(rand.N(time.Millisecond)) // in another order than they came
			return answered(item), nil
		}
	}
	c := newClient(t, a, Config{}, servers...)
	s := c.Stream(StreamConfig{InFlight: 20})
	translateAll(t, s, 64, 4000)
	sent := 0
	for i, r := range servers {
		if r.streams != 2 || r.most > 20 {
			t.Errorf("server %d: %d streams, %d items under way at once", i, r.streams, r.most)
		}
		sent += len(r.items)
	}
	if sent != 4000 || len(servers[0].items) < 1500 || len(servers[1].items) < 1500 {
		t.Errorf("%d items at one, %d at the other", len(servers[0].items), len(servers[1].items))
	}
}

// Streams that end again and again lose nothing, and what was answered is not sent again.
func TestStreamSendsAgainWhatWasNotAnswered(t *testing.T) {
	a := newAuthority(t)
	r := startRecorder(t, a, nil)
	var mu sync.Mutex
	items, ends := 0, 0
	r.item = func(_ int, item *keydv1.TranslatePinDataStreamRequest) (*keydv1.TranslatePinDataStreamResponse, error) {
		mu.Lock()
		defer mu.Unlock()
		if items++; items%250 == 0 {
			ends++
			return nil, refusal(t, codes.Unavailable, "MODULE_UNAVAILABLE") // as a keyd that drains
		}
		return answered(item), nil
	}
	c := newClient(t, a, Config{}, r)
	translateAll(t, c.Stream(StreamConfig{}), 32, 3000)
	sent := 0
	for _, n := range r.items {
		sent += n
	}
	// Each end loses an item, and at most what was under way.
	if sent < 3000+ends || sent > 3000+32*ends || ends < 12 {
		t.Errorf("%d streams ended, %d items sent for 3000", ends, sent)
	}
}

// keyd asks for a new connection after an hour, and a minute later closes the old one
// with what is under way on it. Streams move in time: nothing is sent twice.
func TestStreamOutlivesItsConnection(t *testing.T) {
	a := newAuthority(t)
	r := startRecorder(t, a, nil, grpc.KeepaliveParams(keepalive.ServerParameters{
		MaxConnectionAge: 50 * time.Millisecond, MaxConnectionAgeGrace: 10 * time.Second}))
	r.item = func(_ int, item *keydv1.TranslatePinDataStreamRequest) (*keydv1.TranslatePinDataStreamResponse, error) {
		time.Sleep(rand.N(2 * time.Millisecond))
		return answered(item), nil
	}
	c := newClient(t, a, Config{Addresses: []string{r.address}})
	translateAll(t, c.Stream(StreamConfig{}), 16, 5000)
	if r.streams < 6 {
		t.Errorf("only %d streams: the test shows nothing", r.streams)
	}
	for pan, n := range r.items {
		if n != 1 {
			t.Errorf("%s was sent %d times", pan, n)
		}
	}
}

// An item's error is judged like a call's.
func TestStreamRepeatsItemsByTheTable(t *testing.T) {
	a := newAuthority(t)
	for _, f := range []struct {
		err   error
		sent  int
		again error
	}{
		{refusal(t, codes.InvalidArgument, "PIN_BLOCK_INVALID"), 1, nil},
		{refusal(t, codes.FailedPrecondition, "KSN_REPLAYED"), 1, nil},
		{refusal(t, codes.ResourceExhausted, "RATE_LIMITED"), 1, nil},
		{refusal(t, codes.ResourceExhausted, "RATE_LIMITED", retryInfo(time.Millisecond)), 3, nil},
		{refusal(t, codes.Unavailable, "MODULE_UNAVAILABLE"), 3, nil},
	} {
		r := startRecorder(t, a, nil)
		r.item = func(int, *keydv1.TranslatePinDataStreamRequest) (*keydv1.TranslatePinDataStreamResponse, error) {
			return refused(f.err), nil
		}
		c := newClient(t, a, Config{Attempts: 3}, r)
		_, err := c.Stream(StreamConfig{}).Translate(t.Context(), &keydv1.TranslatePinDataRequest{PrimaryAccountNumber: "1"})
		want, _ := ReasonOf(f.err)
		if got, id := ReasonOf(err); got != want || id != "R1" || r.items["1"] != f.sent || r.streams > 2 {
			t.Errorf("%v, sent %d times on %d streams; want %s, %d times", err, r.items["1"], r.streams, want, f.sent)
		}
	}
}

// Callers wait while InFlight items are under way, and give up in time.
func TestStreamHoldsBack(t *testing.T) {
	a := newAuthority(t)
	r := startRecorder(t, a, nil)
	release := make(chan struct{})
	r.item = func(_ int, item *keydv1.TranslatePinDataStreamRequest) (*keydv1.TranslatePinDataStreamResponse, error) {
		<-release
		return answered(item), nil
	}
	c := newClient(t, a, Config{}, r)
	s := c.Stream(StreamConfig{InFlight: 5})
	var all sync.WaitGroup
	all.Go(func() { translateAll(t, s, 10, 10) })
	waitFor(t, "5 are under way", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.under == 5 })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Translate(ctx, &keydv1.TranslatePinDataRequest{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("an eleventh: %v", err)
	}
	close(release)
	all.Wait()
	if r.most != 5 {
		t.Errorf("%d items under way at once, want 5", r.most)
	}
}

// An item whose caller gives up disturbs nobody, and Close ends what waits.
func TestStreamGivesUpAndCloses(t *testing.T) {
	a := newAuthority(t)
	r := startRecorder(t, a, nil)
	var silent atomic.Bool
	silent.Store(true)
	r.item = func(_ int, item *keydv1.TranslatePinDataStreamRequest) (*keydv1.TranslatePinDataStreamResponse, error) {
		if silent.Load() {
			return nil, nil
		}
		return answered(item), nil
	}
	c := newClient(t, a, Config{}, r)
	s := c.Stream(StreamConfig{})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := s.Translate(ctx, &keydv1.TranslatePinDataRequest{PrimaryAccountNumber: "9"}); status.Code(err) != codes.Canceled {
			t.Error(err)
		}
	})
	waitFor(t, "it is sent", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.items["9"] == 1 })
	cancel()
	all.Wait()
	silent.Store(false)
	translateAll(t, s, 4, 100)
	silent.Store(true)
	all.Go(func() {
		if _, err := s.Translate(t.Context(), &keydv1.TranslatePinDataRequest{PrimaryAccountNumber: "10"}); status.Code(err) != codes.Canceled {
			t.Error(err)
		}
	})
	waitFor(t, "it is sent", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.items["10"] == 1 })
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
	for _, s := range []*Stream{s, c.Stream(StreamConfig{})} {
		if _, err := s.Translate(t.Context(), &keydv1.TranslatePinDataRequest{}); status.Code(err) != codes.Canceled {
			t.Errorf("after Close: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
