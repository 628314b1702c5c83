package server

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"keyd/audit"
)

// Metrics is told of requests. Its methods are called by many goroutines, must not wait,
// and turn whatever they are given into one of a closed set of labels.
type Metrics interface {
	// Began says that a request of a method began; its name may be any.
	Began(method string)

	// Ended says how it ended: reason is [ReasonOK], a name of fault.Table,
	// [ReasonCancelled] or [ReasonDeadline].
	Ended(method, reason string, took time.Duration)

	// Recorded says how long an entry of the audit log took to become durable, or that it
	// did not.
	Recorded(took time.Duration, err error)
}

// Tracer makes a span of a request.
type Tracer interface {
	// Start begins the span of a request. parent is the traceparent that came with it
	// (W3C Trace Context §3.2), or empty. end is called once.
	Start(ctx context.Context, method, parent string) (_ context.Context, end func(Outcome))
}

// Outcome is what a span says of the end of a request.
type Outcome struct {
	Reason    string // as for [Metrics.Ended]
	Custody   string // "CUSTODY_TOKEN", "CUSTODY_MODULE" or empty
	RequestID string
}

// Reasons that are not in fault.Table.
const (
	ReasonOK        = "OK"
	ReasonCancelled = "CANCELLED"
	ReasonDeadline  = "DEADLINE_EXCEEDED"
)

// observer counts and traces requests.
type observer struct {
	metrics Metrics
	tracer  Tracer
}

// unary is the step next to the outermost: it sees how a request ended in keyd's own
// words, panics included.
func (o observer) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	c := callOf(ctx)
	if c == nil || o.metrics == nil && o.tracer == nil {
		return next(ctx, request)
	}
	end := func(Outcome) {}
	if o.tracer != nil && !c.exempt {
		parent := ""
		if values := metadata.ValueFromIncomingContext(ctx, "traceparent"); len(values) == 1 {
			parent = values[0]
		}
		ctx, end = o.tracer.Start(ctx, c.method, parent)
	}
	if o.metrics != nil {
		o.metrics.Began(c.method)
	}
	answer, err := next(ctx, request)
	decided, reason, _ := decision(err)
	if decided == audit.Allowed {
		reason = ReasonOK
	}
	if o.metrics != nil {
		o.metrics.Ended(c.method, reason, time.Since(c.started))
	}
	end(Outcome{Reason: reason, Custody: c.entry.Custody, RequestID: c.id})
	return answer, err
}
