package server

import (
	"context"
	"time"

	"google.golang.org/grpc"
)

const (
	// DefaultDeadline is the time for a request whose caller set none.
	DefaultDeadline = 5 * time.Second

	// deadlineReserve is what is taken off a caller's deadline, so that a time-out
	// further in can still be recorded and answered with its own reason.
	deadlineReserve = 20 * time.Millisecond
)

// limitTime bounds the time of a request. One that comes too late is not begun.
func limitTime(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	deadline, ok := ctx.Deadline()
	if ok {
		deadline = deadline.Add(-deadlineReserve)
	} else {
		deadline = time.Now().Add(DefaultDeadline)
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return next(ctx, request)
}
