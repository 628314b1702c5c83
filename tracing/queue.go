package tracing

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

const (
	queueLength = 4096 // spans that wait; some 4 MB at most
	batchLength = 512  // spans that are sent together
	batchDelay  = time.Second
	exportLimit = 5 * time.Second // of one batch
)

// queue sends spans from a goroutine of its own. The SDK's batcher does the same, but does
// not say how many it dropped.
type queue struct {
	exporter sdk.SpanExporter
	spans    chan sdk.ReadOnlySpan
	closing  chan struct{}
	closed   sync.Once
	ended    chan struct{}
	dropped  atomic.Uint64
	ctx      context.Context // of exports; ends when the time for closing is over
	cancel   context.CancelFunc
}

var _ sdk.SpanProcessor = (*queue)(nil)

func newQueue(e sdk.SpanExporter) *queue {
	q := &queue{exporter: e, spans: make(chan sdk.ReadOnlySpan, queueLength), closing: make(chan struct{}), ended: make(chan struct{})}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	go q.run()
	return q
}

// OnStart implements [sdk.SpanProcessor].
func (q *queue) OnStart(context.Context, sdk.ReadWriteSpan) {}

// OnEnd implements [sdk.SpanProcessor]. It never waits.
func (q *queue) OnEnd(s sdk.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	select {
	case q.spans <- s:
	default:
		q.dropped.Add(1)
	}
}

func (q *queue) run() {
	defer close(q.ended)
	batch := make([]sdk.ReadOnlySpan, 0, batchLength)
	ticker := time.NewTicker(batchDelay)
	defer ticker.Stop()
	send := func() {
		if len(batch) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(q.ctx, exportLimit)
		defer cancel()
		if q.exporter.ExportSpans(ctx, batch) != nil {
			q.dropped.Add(uint64(len(batch)))
		}
		batch = batch[:0]
	}
	for {
		select {
		case s := <-q.spans:
			if batch = append(batch, s); len(batch) == batchLength {
				send()
			}
		case <-ticker.C:
			send()
		case <-q.closing:
			for {
				select {
				case s := <-q.spans:
					if batch = append(batch, s); len(batch) == batchLength {
						send()
					}
					continue
				default:
				}
				send()
				return
			}
		}
	}
}

// ForceFlush implements [sdk.SpanProcessor]. Nobody asks for it.
func (q *queue) ForceFlush(context.Context) error { return nil }

// Shutdown implements [sdk.SpanProcessor]: what is queued is sent as long as ctx lasts.
func (q *queue) Shutdown(ctx context.Context) error {
	q.closed.Do(func() { close(q.closing) })
	select {
	case <-q.ended:
	case <-ctx.Done():
		q.cancel()
		<-q.ended
	}
	q.cancel()
	return q.exporter.Shutdown(ctx)
}
