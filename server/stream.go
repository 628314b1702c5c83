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
	carryOut := chained(b.steps, &grpc.UnaryServerInfo{Server: b, FullMethod: carriers[keydv1.PinService_TranslatePinDataStream_FullMethodName]},
		func(ctx context.Context, item any) (any, error) {
			return b.TranslatePinData(ctx, item.(*keydv1.TranslatePinDataStreamRequest).GetRequest())
		})
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	var sending sync.Mutex
	var items sync.WaitGroup
	window := make(chan struct{}, streamWindow)
	received := b.receive(ctx, stream)
	for {
		var item *keydv1.TranslatePinDataStreamRequest
		select {
		case r, ok := <-received:
			if !ok { // the caller has sent all
				items.Wait()
				return context.Cause(ctx)
			}
			if r.err != nil {
				items.Wait()
				return r.err
			}
			item = r.item
		case <-b.draining: // items under way are answered, further ones not begun
			items.Wait()
			return fault.New(fault.ModuleUnavailable, "the service stops: connect again")
		}
		window <- struct{}{}
		items.Go(func() {
			defer func() { <-window }()
			answer := &keydv1.TranslatePinDataStreamResponse{CorrelationId: item.GetCorrelationId()}
			response, err := carryOut(ctx, item)
			if err != nil {
				answer.Result = &keydv1.TranslatePinDataStreamResponse_Error{Error: status.Convert(err).Proto()}
			} else {
				answer.Result = &keydv1.TranslatePinDataStreamResponse_Response{Response: response.(*keydv1.TranslatePinDataResponse)}
			}
			sending.Lock()
			defer sending.Unlock()
			if err := stream.Send(answer); err != nil {
				cancel(err)
			}
		})
	}
}

// received is an item of a stream, or the stream's error.
type received struct {
	item *keydv1.TranslatePinDataStreamRequest
	err  error
}

// receive reads items until the caller has sent all, then closes the channel.
func (b pinBinding) receive(ctx context.Context, stream grpc.BidiStreamingServer[keydv1.TranslatePinDataStreamRequest, keydv1.TranslatePinDataStreamResponse]) <-chan received {
	items := make(chan received)
	go func() {
		defer close(items)
		for {
			item, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return
			}
			select {
			case items <- received{item, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return items
}
