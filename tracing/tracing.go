// Package tracing sends spans of requests to an OpenTelemetry collector, where that is
// configured: one for each request, with its method, outcome and custody, and in it one
// for each operation of a module.
//
// A span holds nothing that a caller wrote but the identifiers of its trace: no PAN, no PIN
// block, no name of a key, and not the tracestate either, whose text is a caller's. Which
// requests are traced is decided by the configured share and not by the caller.
//
// A collector that is slow or away costs spans and nothing else: what ends a span never
// waits, the queue is bounded, and what is dropped is counted.
//
// Only the front uses this package.
package tracing

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/credentials"

	"keyd/fault"
	"keyd/server"
)

// Options say where spans go.
type Options struct {
	// Collector is IP:PORT of an OTLP endpoint over gRPC. The front cannot look names up.
	Collector string

	// Authority is a PEM file of the authorities of the collector's certificate. Empty:
	// no TLS, for a collector on this machine.
	Authority string

	// Sample is the share of requests that are traced, above 0 and at most 1.
	Sample float64

	Version string
}

// Tracer makes and sends spans. It implements [server.Tracer].
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	queue    *queue
}

var _ server.Tracer = (*Tracer)(nil)

// Open returns a tracer. It reads the authority's file and connects to nothing yet.
func Open(o Options) (*Tracer, error) {
	options := []otlptracegrpc.Option{
		otlptracegrpc.WithEndpoint(o.Collector),
		otlptracegrpc.WithTimeout(exportLimit),
		// What cannot be sent is dropped: nobody waits for it, and the queue stays short.
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: false}),
	}
	if o.Authority == "" {
		options = append(options, otlptracegrpc.WithInsecure())
	} else {
		roots, err := Authorities(o.Authority)
		if err != nil {
			return nil, err
		}
		options = append(options, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots})))
	}
	exporter, err := otlptracegrpc.New(context.Background(), options...)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	return newTracer(exporter, o), nil
}

// Authorities reads a PEM file of authorities.
func Authorities(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("tracing.ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tracing.ca: %s holds no certificate", path)
	}
	return roots, nil
}

func newTracer(exporter sdk.SpanExporter, o Options) *Tracer {
	t := &Tracer{queue: newQueue(exporter)}
	t.provider = sdk.NewTracerProvider(
		sdk.WithSpanProcessor(t.queue),
		sdk.WithSampler(childrenLikeParents{sdk.TraceIDRatioBased(o.Sample)}),
		sdk.WithResource(resource.NewSchemaless( // nothing is looked up on the machine
			attribute.String("service.name", "keyd"), attribute.String("service.version", o.Version))),
	)
	t.tracer = t.provider.Tracer("keyd")
	return t
}

// childrenLikeParents decides about a request by its trace's identifier alone, whatever
// its caller decided, and about a span in it as about the request.
type childrenLikeParents struct{ requests sdk.Sampler }

// ShouldSample implements [sdk.Sampler].
func (s childrenLikeParents) ShouldSample(p sdk.SamplingParameters) sdk.SamplingResult {
	if parent := trace.SpanContextFromContext(p.ParentContext); parent.IsValid() && !parent.IsRemote() {
		if parent.IsSampled() {
			return sdk.SamplingResult{Decision: sdk.RecordAndSample}
		}
		return sdk.SamplingResult{Decision: sdk.Drop}
	}
	return s.requests.ShouldSample(p)
}

// Description implements [sdk.Sampler].
func (s childrenLikeParents) Description() string { return s.requests.Description() }

// Start implements [server.Tracer].
func (t *Tracer) Start(ctx context.Context, method, parent string) (context.Context, func(server.Outcome)) {
	if parent != "" { // the traceparent alone: what a caller writes into the rest stays out
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": parent})
	}
	ctx, span := t.tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindServer))
	return ctx, func(o server.Outcome) {
		if span.IsRecording() {
			span.SetAttributes(
				attribute.String("keyd.method", method), attribute.String("keyd.reason", o.Reason),
				attribute.String("keyd.custody", o.Custody), attribute.String("keyd.request_id", o.RequestID))
			if o.Reason != server.ReasonOK {
				span.SetStatus(codes.Error, o.Reason)
			}
		}
		span.End()
	}
}

// Operation makes the span of an operation in a module; it is a hsm.Observer. What no
// request asks for has none.
func (t *Tracer) Operation(ctx context.Context, operation string, module int) (done func(error)) {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return func(error) {}
	}
	_, span := t.tracer.Start(ctx, "module "+operation, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("keyd.module", strconv.Itoa(module))))
	return func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, outcome(err))
		}
		span.End()
	}
}

// outcome is the reason of a module's refusal: nothing of an error's text.
func outcome(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return server.ReasonCancelled
	case errors.Is(err, context.DeadlineExceeded):
		return server.ReasonDeadline
	}
	return fault.Of(err).Reason.String()
}

// Dropped returns how many spans were not exported.
func (t *Tracer) Dropped() uint64 { return t.queue.dropped.Load() }

// closeLimit bounds what the end of a front waits for the last spans.
const closeLimit = time.Second

// Close sends what is queued, if that goes fast, and ends the tracer.
func (t *Tracer) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("tracing: %w", err)
	}
	return nil
}
