package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
	"keyd/fault"
)

// streamWindow is how many items of one stream may be under way. When there are more,
// the stream is not read further, and gRPC's flow control slows the caller down.
const streamWindow = 256

// carriers are the streams whose items are requests of another method, by full name.
// An item has that method's policy row, audit entry, deadline and errors.
var carriers = map[string]string{
	keydv1.PinService_TranslatePinDataStream_FullMethodName: keydv1.PinService_TranslatePinData_FullMethodName,
	keydv1.BackupService_CreateBackup_FullMethodName:        keydv1.BackupService_CreateBackup_FullMethodName, // one request

	keydv1.TerminalService_SetRevocationList_FullMethodName: keydv1.TerminalService_SetRevocationList_FullMethodName, // likewise

	keydv1.VoidService_WatchVoid_FullMethodName: keydv1.VoidService_WatchVoid_FullMethodName, // one for each void that is sent
}

// knownStreamsOnly denies every stream but those of health and reflection and those
// whose items are requests by themselves.
func knownStreamsOnly(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	c := callOf(stream.Context())
	if c == nil || !c.exempt && carriers[info.FullMethod] == "" {
		return fault.Wrap(fault.PolicyDenied, fmt.Errorf("%s is a stream, which no policy can allow", info.FullMethod))
	}
	return next(server, stream)
}

// chained is the way of one request: the steps, then the binding.
func chained(steps []grpc.UnaryServerInterceptor, info *grpc.UnaryServerInfo, binding grpc.UnaryHandler) grpc.UnaryHandler {
	for i := len(steps) - 1; i >= 0; i-- {
		step, next := steps[i], binding
		binding = func(ctx context.Context, request any) (any, error) { return step(ctx, request, info, next) }
	}
	return binding
}

// TranslatePinDataStream implements keyd.v1.PinService. Items are carried out
// concurrently and answered as they are done.
func (b pinBinding) TranslatePinDataStream(stream grpc.BidiStreamingServer[keydv1.TranslatePinDataStreamRequest, keydv1.TranslatePinDataStreamResponse]) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	items := &translations{
		stream: stream, ctx: ctx, broken: cancel,
		carryOut: chained(b.steps, &grpc.UnaryServerInfo{Server: b, FullMethod: carriers[keydv1.PinService_TranslatePinDataStream_FullMethodName]},
			func(ctx context.Context, item any) (any, error) {
				return b.TranslatePinData(ctx, item.(*keydv1.TranslatePinDataStreamRequest).GetRequest())
			}),
		work:   make(chan *keydv1.TranslatePinDataStreamRequest),
		done:   make(chan error, 1),
		halted: make(chan struct{}),
	}
	go items.receive()
	select {
	case err := <-items.done: // the caller has sent all, or has gone
		items.workers.Wait()
		if err != nil {
			return err
		}
		return context.Cause(ctx)
	case <-b.draining: // items under way are answered, further ones not begun
		items.halt()
		items.workers.Wait()
		return fault.New(fault.ModuleUnavailable, "the service stops: connect again")
	}
}

// translations are the items of one stream. As many workers as there are items under
// way take them, at most streamWindow, and stay for the next: a new goroutine for each
// item would have to grow its stack each time.
type translations struct {
	stream   grpc.BidiStreamingServer[keydv1.TranslatePinDataStreamRequest, keydv1.TranslatePinDataStreamResponse]
	ctx      context.Context
	broken   context.CancelCauseFunc
	carryOut grpc.UnaryHandler

	work   chan *keydv1.TranslatePinDataStreamRequest
	done   chan error    // why no more items come; nil: the caller has sent all
	halted chan struct{} // closed: no more items are begun

	mu      sync.Mutex // of beginning a worker and of halting
	halting bool
	workers sync.WaitGroup

	sending sync.Mutex
}

// receive reads items and hands them on until the caller has sent all.
func (t *translations) receive() {
	defer close(t.work)
	for workers := 0; ; {
		item, err := t.stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			t.done <- err
			return
		}
		select {
		case t.work <- item: // to a worker that waits
			continue
		default:
		}
		if workers < streamWindow {
			if !t.begin(item) {
				return
			}
			workers++
			continue
		}
		select {
		case t.work <- item:
		case <-t.halted:
			return
		case <-t.ctx.Done():
			t.done <- nil
			return
		}
	}
}

// begin starts a worker with its first item, unless the stream is halted.
func (t *translations) begin(item *keydv1.TranslatePinDataStreamRequest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.halting {
		return false
	}
	t.workers.Go(func() { t.worker(item) })
	return true
}

// halt lets no more items begin.
func (t *translations) halt() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.halting = true
	close(t.halted)
}

func (t *translations) worker(item *keydv1.TranslatePinDataStreamRequest) {
	for {
		answer := &keydv1.TranslatePinDataStreamResponse{CorrelationId: item.GetCorrelationId()}
		response, err := t.carryOut(t.ctx, item)
		if err != nil {
			answer.Result = &keydv1.TranslatePinDataStreamResponse_Error{Error: status.Convert(err).Proto()}
		} else {
			answer.Result = &keydv1.TranslatePinDataStreamResponse_Response{Response: response.(*keydv1.TranslatePinDataResponse)}
		}
		t.send(answer)
		select {
		case next, ok := <-t.work:
			if !ok {
				return
			}
			item = next
		case <-t.halted:
			return
		}
	}
}

func (t *translations) send(answer *keydv1.TranslatePinDataStreamResponse) {
	t.sending.Lock()
	defer t.sending.Unlock()
	if err := t.stream.Send(answer); err != nil {
		t.broken(err)
	}
}
