package client

import (
	"context"
	"errors"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
)

// StreamConfig is how a [Stream] uses its keyds. Zero values are defaults.
type StreamConfig struct {
	// PerKeyd is how many streams are open to each keyd. The default is 2.
	PerKeyd int

	// InFlight is how many translations are under way at most; further ones wait. The
	// default is 400. A stream carries 200 of them: keyd reads no more than 256 ahead.
	InFlight int
}

const (
	defaultPerKeyd  = 2
	defaultInFlight = 400
	laneWindow      = 200
)

// Stream carries translations on a few long-lived streams (TranslatePinDataStream), which
// costs client and keyd less than a call for each. It opens streams when they are needed,
// to the keyds that are healthy, and others when these end: when a keyd drains it answers
// what is under way and ends its streams. What was not answered is sent again.
type Stream struct {
	client  *Client
	perKeyd int
	window  chan struct{}
	ctx     context.Context // until Close
	cancel  context.CancelFunc

	mu     sync.Mutex
	closed bool
	lanes  map[string][]*lane // by address
	turn   int
	ending sync.WaitGroup
}

// Stream returns a way to translate on streams. Close it, or the client.
func (c *Client) Stream(config StreamConfig) *Stream {
	if config.PerKeyd <= 0 {
		config.PerKeyd = defaultPerKeyd
	}
	if config.InFlight <= 0 {
		config.InFlight = defaultInFlight
	}
	s := &Stream{client: c, perKeyd: config.PerKeyd, window: make(chan struct{}, config.InFlight), lanes: make(map[string][]*lane)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		s.closed = true
		s.cancel()
		return s
	}
	c.streams = append(c.streams, s)
	return s
}

// Translate is PinService.TranslatePinData on one of the streams. Errors, deadline and
// repeats are those of the call; the request is not changed, and may be used again when
// Translate has returned. It waits while InFlight others are under way.
func (s *Stream) Translate(ctx context.Context, request *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error) {
	ctx, cancel := s.client.withDeadline(ctx)
	defer cancel()
	select {
	case s.window <- struct{}{}:
		defer func() { <-s.window }()
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	case <-s.ctx.Done():
		return nil, errClosed
	}
	var answer *keydv1.TranslatePinDataResponse
	err := s.client.repeat(ctx, keydv1.PinService_TranslatePinData_FullMethodName, request, func(ctx context.Context) (err error) {
		answer, err = s.attempt(ctx, request)
		return err
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

var errClosed = status.Error(codes.Canceled, "the stream of keyd's client is closed")

// attempt waits for a healthy keyd and sends it the item.
func (s *Stream) attempt(ctx context.Context, request *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error) {
	r := routeOf(ctx)
	for {
		ready, changed := s.client.view.get()
		if at := ready.choose(r); at >= 0 {
			l := s.lane(ready.addresses[at], ready.epochs[at])
			if l == nil {
				return nil, errClosed
			}
			answer, err := l.translate(ctx, r, request)
			if errors.Is(err, errRetired) {
				continue // it was not sent
			}
			return answer, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		case <-s.ctx.Done():
			return nil, errClosed
		}
	}
}

// lane returns one of the streams to a keyd, a new one where there are too few; nil after
// Close. Those of an older epoch may be on a connection that keyd will close, which takes
// what is under way along: they end when that is answered.
func (s *Stream) lane(address string, epoch uint64) *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	lanes := slices.DeleteFunc(s.lanes[address], func(l *lane) bool {
		if l.epoch < epoch {
			close(l.retired)
		}
		return l.epoch < epoch
	})
	s.lanes[address] = lanes
	if len(lanes) < s.perKeyd {
		l := newLane(s, address, epoch)
		s.lanes[address] = append(lanes, l)
		s.ending.Go(l.run)
		return l
	}
	s.turn++
	return lanes[s.turn%len(lanes)]
}

// drop forgets a stream that has ended.
func (s *Stream) drop(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := slices.DeleteFunc(s.lanes[l.address], func(other *lane) bool { return other == l })
	if s.lanes[l.address] = left; len(left) == 0 {
		delete(s.lanes, l.address) // a name may have other addresses by now
	}
}

// Close ends the streams. Translations under way fail with CANCELLED. It may be called
// again.
func (s *Stream) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.ending.Wait()
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	s.client.streams = slices.DeleteFunc(s.client.streams, func(other *Stream) bool { return other == s })
	return nil
}
