package tracing

import (
	"context"
	"errors"
	"sync"
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/goleak"

	"keyd/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// exporter is a collector as the tests want it.
type exporter struct {
	mu    sync.Mutex
	spans []sdk.ReadOnlySpan
	hold  chan struct{} // while open, nothing is taken
	err   error
}

func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if e.hold != nil {
		select {
		case <-e.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.spans = append(e.spans, spans...)
	return e.err
}

func (e *exporter) Shutdown(context.Context) error { return nil }

func request(t *Tracer, parent string) {
	ctx, end := t.Start(context.Background(), "PinService/VerifyPinData", parent)
	t.Operation(ctx, "VerifyPin", 1)(nil)
	end(server.Outcome{Reason: server.ReasonOK, Custody: "CUSTODY_MODULE", RequestID: "1"})
}

const (
	sampled   = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
)

// The share decides, and not the flag that comes with a request; a child goes with its
// parent.
func TestSampling(t *testing.T) {
	for name, c := range map[string]struct {
		share float64
		want  int
	}{"all": {1, 2 * 300}, "next to none": {1e-12, 0}} {
		e := &exporter{}
		tracer := newTracer(e, Options{Sample: c.share})
		for range 100 {
			request(tracer, sampled)
			request(tracer, unsampled)
			request(tracer, "nonsense")
		}
		if err := tracer.Close(); err != nil {
			t.Fatal(err)
		}
		if len(e.spans) != c.want || tracer.Dropped() != 0 {
			t.Errorf("%s: %d spans, %d dropped, want %d", name, len(e.spans), tracer.Dropped(), c.want)
		}
	}
}

// A collector that takes nothing costs spans, not time.
func TestCollectorThatHangs(t *testing.T) {
	e := &exporter{hold: make(chan struct{})}
	tracer := newTracer(e, Options{Sample: 1})
	const requests = 2 * queueLength
	for range requests { // would never end if one of them waited
		request(tracer, sampled)
	}
	if got := tracer.Dropped(); got < 2*requests-queueLength-batchLength-1 {
		t.Errorf("%d dropped", got)
	}
	if err := tracer.Close(); err != nil {
		t.Fatal(err)
	}
	if got := tracer.Dropped() + uint64(len(e.spans)); got != 2*requests {
		t.Errorf("%d of %d spans are accounted for", got, 2*requests)
	}
}

func TestCollectorThatRefuses(t *testing.T) {
	tracer := newTracer(&exporter{err: errors.New("no")}, Options{Sample: 1})
	request(tracer, sampled)
	if err := tracer.Close(); err != nil {
		t.Fatal(err)
	}
	if tracer.Dropped() != 2 {
		t.Errorf("%d dropped", tracer.Dropped())
	}
}

func BenchmarkRequest(b *testing.B) {
	for name, share := range map[string]float64{"share 0.01": .01, "share 1": 1} {
		b.Run(name, func(b *testing.B) {
			tracer := newTracer(&exporter{hold: make(chan struct{})}, Options{Sample: share})
			defer tracer.Close() //nolint:errcheck // spans of a benchmark
			for b.Loop() {
				request(tracer, "")
			}
		})
	}
}
