package server

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"keyd/fault"
)

// ErrorDomain is the domain of google.rpc.ErrorInfo in keyd's statuses. Its reason is a
// name of fault.Table; its metadata has the request's identifier.
const ErrorDomain = "keyd"

// requestIDKey is where the identifier stands in the metadata of ErrorInfo.
const requestIDKey = "request_id"

// translator turns errors into statuses and logs them.
type translator struct{ log *slog.Logger }

// unary is the outermost step: it begins the call and ends it.
func (t translator) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	c := newCall(info.FullMethod)
	answer, err := next(c.in(ctx), request)
	if err != nil {
		return nil, t.refuse(ctx, c, err)
	}
	return answer, nil
}

func (t translator) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	c := newCall(info.FullMethod)
	ctx := c.in(stream.Context())
	if err := next(server, streamWith{stream, ctx}); err != nil {
		return t.refuse(ctx, c, err)
	}
	return nil
}

// translated is the error of a stream that is a request by itself, which has gone through the
// steps of one.
type translated struct{ error }

// streamWith is a stream with another context.
type streamWith struct {
	grpc.ServerStream
	ctx context.Context
}

func (s streamWith) Context() context.Context { return s.ctx }

// refuse returns the status for an error. No text of an error that is not meant for the
// caller gets into it.
func (t translator) refuse(ctx context.Context, c *call, err error) error {
	var done translated
	if errors.As(err, &done) {
		return done.error
	}
	if ended := contextError(err); ended != nil {
		t.report(ctx, c, slog.LevelDebug, "request ended by its caller", slog.String("cause", ended.Error()))
		return status.FromContextError(ended).Err()
	}
	if s, ok := status.FromError(err); ok && c.exempt {
		return s.Err() // health and reflection speak gRPC's own language
	}
	f := fault.Of(err)
	if !c.unrecorded {
		t.logFault(ctx, c, f)
	}
	s := status.New(f.Reason.Code(), f.Error())
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{
		Reason:   f.Reason.String(),
		Domain:   ErrorDomain,
		Metadata: map[string]string{requestIDKey: c.id},
	}}
	var much *tooManyError
	if errors.As(err, &much) {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(much.wait)})
	}
	detailed, err := s.WithDetails(details...)
	if err != nil {
		return s.Err()
	}
	return detailed.Err()
}

func (t translator) logFault(ctx context.Context, c *call, f *fault.Error) {
	level, message := slog.LevelInfo, "request refused"
	switch f.Reason.Code() {
	case codes.PermissionDenied, codes.Unauthenticated:
		level, message = slog.LevelWarn, "request denied"
	case codes.Unavailable:
		level, message = slog.LevelWarn, "request failed"
	case codes.Internal:
		level, message = slog.LevelError, "request failed"
	}
	if f.Reason == fault.KeySealInvalid {
		level = slog.LevelError // somebody altered the store, or it is damaged
	}
	attributes := []slog.Attr{slog.String("reason", f.Reason.String())}
	if f.Detail() != "" {
		attributes = append(attributes, slog.String("detail", f.Detail()))
	}
	if cause := f.Unwrap(); cause != nil {
		attributes = append(attributes, slog.String("cause", cause.Error()))
	}
	var p *panicError
	if errors.As(f, &p) {
		attributes = append(attributes, slog.String("stack", p.stack))
	}
	t.report(ctx, c, level, message, attributes...)
}

func (t translator) report(ctx context.Context, c *call, level slog.Level, message string, attributes ...slog.Attr) {
	attributes = append([]slog.Attr{
		slog.String("request_id", c.id),
		slog.String("identity", c.identity),
		slog.String("method", c.method),
		slog.Duration("took", time.Since(c.started)),
	}, attributes...)
	t.log.LogAttrs(ctx, level, message, attributes...)
}

// contextError returns the context's error if err is because of it: the caller gave
// up, or a deadline passed.
func contextError(err error) error {
	var f *fault.Error
	if errors.As(err, &f) {
		return nil // a layer had a reason of its own to give
	}
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	}
	return nil
}
