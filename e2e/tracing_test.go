package e2e

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
)

// traceCollector is an OTLP endpoint that keeps what it is sent.
type traceCollector struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	raw   bytes.Buffer
	spans []*tracev1.Span
}

// Export implements opentelemetry.proto.collector.trace.v1.TraceService.
func (c *traceCollector) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	b, err := proto.Marshal(r)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw.Write(b)
	for _, resource := range r.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// in returns the spans of a trace.
func (c *traceCollector) in(trace string) (found []*tracev1.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if hex.EncodeToString(s.TraceId) == trace {
			found = append(found, s)
		}
	}
	return found
}

func attributes(s *tracev1.Span) map[string]string {
	m := map[string]string{}
	for _, a := range s.Attributes {
		m[a.Key] = a.Value.GetStringValue()
	}
	return m
}

func TestTraces(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &traceCollector{}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, c)
	go server.Serve(l) //nolint:errcheck // ends with the test
	t.Cleanup(server.Stop)

	ring := newKeyring()
	bdk := ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210")
	s := startWith(t, filepath.Join(tempDir(t), "dev"), []string{"--admin", "127.0.0.1:0", "--trace", l.Addr().String()}, ring.keys...)
	request := translationUnder(t, ring, bdk)

	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	const state = "keyd=4012345678909"
	ctx := metadata.AppendToOutgoingContext(s.ctx(), "traceparent", "00-"+trace+"-"+parent+"-01", "tracestate", state, "baggage", "pan=4012345678909")
	if _, err := s.pins().TranslatePinData(ctx, request); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "both spans arrive", func() bool { return len(c.in(trace)) >= 2 })
	spans := map[string]*tracev1.Span{}
	for _, span := range c.in(trace) {
		spans[span.Name] = span
	}
	outer, inner := spans["PinService/TranslatePinData"], spans["module TranslatePin"]
	if outer == nil || inner == nil || len(spans) != 2 {
		t.Fatalf("spans: %v", spans)
	}
	got := attributes(outer)
	if hex.EncodeToString(outer.ParentSpanId) != parent || got["keyd.method"] != "PinService/TranslatePinData" || got["keyd.reason"] != "OK" || got["keyd.custody"] != "CUSTODY_MODULE" || got["keyd.request_id"] == "" {
		t.Errorf("the request's span: %v", outer)
	}
	if !bytes.Equal(inner.ParentSpanId, outer.SpanId) || inner.EndTimeUnixNano < inner.StartTimeUnixNano || inner.StartTimeUnixNano < outer.StartTimeUnixNano {
		t.Errorf("the module's span: %v", inner)
	}

	// A refusal, and nothing that the caller wrote.
	const refused = "0af7651916cd43dd8448eb211c80319d"
	wrong := proto.CloneOf(verification())
	wrong.Incoming.KeyId = "key-of-4012345678909"
	ctx = metadata.AppendToOutgoingContext(s.ctx(), "traceparent", "00-"+refused+"-"+parent+"-00")
	if _, err := s.pins().VerifyPinData(ctx, wrong); reason(err) != "KEY_NOT_FOUND" {
		t.Fatal(err)
	}
	waitUntil(t, "the refusal's span arrives", func() bool { return len(c.in(refused)) == 1 })
	if span := c.in(refused)[0]; attributes(span)["keyd.reason"] != "KEY_NOT_FOUND" || span.Status.Code != tracev1.Status_STATUS_CODE_ERROR {
		t.Errorf("the refusal's span: %v", span)
	}
	c.mu.Lock()
	for what, secret := range map[string][]byte{"PAN": []byte("4012345678909"), "PIN block": request.EncryptedPinBlock, "PIN block in hex": fmt.Appendf(nil, "%X", request.EncryptedPinBlock),
		"PIN block in lower-case hex": fmt.Appendf(nil, "%x", request.EncryptedPinBlock), "name of a key": []byte(bdk)} {
		if bytes.Contains(c.raw.Bytes(), secret) {
			t.Errorf("the %s is in what was sent to the collector", what)
		}
	}
	c.mu.Unlock()

	// Without a collector requests go on, and what is lost is counted.
	server.Stop()
	for range 50 {
		if _, err := s.pins().VerifyPinData(s.ctx(), verification()); reason(err) != "KEY_NOT_FOUND" {
			t.Fatal(err)
		}
	}
	waitUntil(t, "drops are counted", func() bool {
		n, _ := s.metric("keyd_trace_spans_dropped_total", nil)
		return n >= 50
	})
}
