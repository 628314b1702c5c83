package server

import (
	"context"
	"fmt"
	"runtime"
	"strings"

	"google.golang.org/grpc"

	"keyd/fault"
)

// recoverPanic makes a panic an internal error.
func recoverPanic(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (answer any, err error) {
	defer func() {
		if p := recover(); p != nil {
			answer, err = nil, panicked(p)
		}
	}()
	return next(ctx, request)
}

func recoverStreamPanic(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked(p)
		}
	}()
	return next(server, stream)
}

// panicked describes a panic for the log. Its value may hold data of the request, and
// a stack trace the words of its arguments, so only the runtime's own messages and the
// names of functions are kept.
func panicked(p any) error {
	what := fmt.Sprintf("a value of type %T", p)
	if e, ok := p.(runtime.Error); ok {
		what = e.Error()
	}
	return fault.Wrap(fault.Internal, &panicError{what: what, stack: stack()})
}

type panicError struct{ what, stack string }

func (e *panicError) Error() string { return "panic: " + e.what }

// stack returns functions and lines of the goroutine that panics, innermost first.
func stack() string {
	pc := make([]uintptr, 64)
	frames := runtime.CallersFrames(pc[:runtime.Callers(4, pc)])
	var out strings.Builder
	for {
		f, more := frames.Next()
		fmt.Fprintf(&out, "%s %s:%d\n", f.Function, f.File, f.Line)
		if !more {
			return out.String()
		}
	}
}
