package client

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	keydv1 "keyd/api/keyd/v1"
)

// lane is one stream to one keyd.
type lane struct {
	owner   *Stream
	address string
	ctx     context.Context
	cancel  context.CancelFunc
	slots   chan struct{}
	out     chan *keydv1.TranslatePinDataStreamRequest
	epoch   uint64
	retired chan struct{} // closed when no more items are sent
	ended   chan struct{} // closed when no more answers come

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan *keydv1.TranslatePinDataStreamResponse
	err     error // once it has ended
}

// errRetired is for an item that has not been sent: it needs another lane.
var errRetired = errors.New("the lane is retired")

func newLane(s *Stream, address string, epoch uint64) *lane {
	l := &lane{
		owner: s, address: address, epoch: epoch,
		slots:   make(chan struct{}, laneWindow),
		out:     make(chan *keydv1.TranslatePinDataStreamRequest),
		retired: make(chan struct{}),
		ended:   make(chan struct{}),
		waiting: make(map[uint64]chan *keydv1.TranslatePinDataStreamResponse),
	}
	l.ctx, l.cancel = context.WithCancel((&route{only: address}).in(s.ctx))
	return l
}

// run opens the stream and takes answers until it ends.
func (l *lane) run() {
	defer l.cancel()
	// It does not wait for the keyd: another may be healthy.
	stream, err := l.owner.client.Pin().TranslatePinDataStream(l.ctx, grpc.WaitForReady(false))
	if err != nil {
		l.end(err)
		return
	}
	l.owner.ending.Go(func() { l.send(stream) })
	for {
		answer, err := stream.Recv()
		if err != nil {
			l.end(err)
			return
		}
		l.mu.Lock()
		waiting := l.waiting[answer.GetCorrelationId()]
		delete(l.waiting, answer.GetCorrelationId())
		l.mu.Unlock()
		if waiting != nil { // its caller has not given up
			waiting <- answer
		}
	}
}

// send sends items as they come. Why a stream broke is told to whom receives.
func (l *lane) send(stream grpc.BidiStreamingClient[keydv1.TranslatePinDataStreamRequest, keydv1.TranslatePinDataStreamResponse]) {
	for {
		select {
		case item := <-l.out:
			if err := stream.Send(item); err != nil {
				return
			}
		case <-l.retired:
			_ = stream.CloseSend() // what is wrong is told to whom receives
			return
		case <-l.ctx.Done():
			return
		}
	}
}

// end tells all who wait that there will be no answer.
func (l *lane) end(err error) {
	switch {
	case l.owner.ctx.Err() != nil:
		err = errClosed
	case errors.Is(err, io.EOF):
		err = status.Error(codes.Unavailable, "keyd has ended the stream")
	}
	l.mu.Lock()
	l.err = err
	l.mu.Unlock()
	l.owner.drop(l)
	close(l.ended)
}

// translate sends one item and waits for its answer.
func (l *lane) translate(ctx context.Context, r *route, request *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error) {
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	case <-l.retired:
		return nil, errRetired
	case <-l.ended:
		return nil, l.why(r)
	}
	id, answered := l.expect()
	defer l.forget(id)
	// A copy: it is encoded later, when the caller may have given up.
	item := &keydv1.TranslatePinDataStreamRequest{CorrelationId: id, Request: proto.CloneOf(request)}
	select {
	case l.out <- item:
		r.took(l.address)
	case <-l.retired:
		return nil, errRetired
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	case <-l.ended:
		return nil, l.why(r)
	}
	select {
	case answer := <-answered:
		return opened(answer)
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	case <-l.ended:
	}
	select {
	case answer := <-answered: // before the end
		return opened(answer)
	default:
		return nil, l.why(r)
	}
}

func (l *lane) expect() (uint64, <-chan *keydv1.TranslatePinDataStreamResponse) {
	answered := make(chan *keydv1.TranslatePinDataStreamResponse, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	l.waiting[l.last] = answered
	return l.last, answered
}

func (l *lane) forget(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, id)
}

// why returns why the stream ended, and notes that this keyd has failed the call.
func (l *lane) why(r *route) error {
	r.took(l.address)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// opened returns what is in an item's answer.
func opened(answer *keydv1.TranslatePinDataStreamResponse) (*keydv1.TranslatePinDataResponse, error) {
	if e := answer.GetError(); e != nil {
		return nil, status.FromProto(e).Err()
	}
	if answer.GetResponse() == nil {
		return nil, status.Error(codes.Internal, "keyd has answered an item with nothing")
	}
	return answer.GetResponse(), nil
}
