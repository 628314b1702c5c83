package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	keydv1 "keyd/api/keyd/v1"
	"keyd/audit"
	"keyd/policies"
)

// limited is testPolicy with limits, and without what follows the identity.
func limited(t *testing.T, limits string) *policies.Policy {
	t.Helper()
	p, err := policies.Parse([]byte(testPolicy + "limits: " + limits + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// retry returns what google.rpc.RetryInfo says, 0 if there is none.
func retry(err error) time.Duration {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

func TestRequestsAreLimited(t *testing.T) {
	f := newFront(t)
	f.config.Policy = limited(t, "{default: {per_second: 1, burst: 3}}")
	f.startWith(pins(func(ctx context.Context, _ *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error) {
		if err := (gate{}).Authorize(ctx, "PinService/TranslatePinData", allowedKeys); err != nil {
			return nil, err
		}
		return &keydv1.TranslatePinDataResponse{}, nil
	}))
	for range 3 {
		if _, err := f.translate("switch"); err != nil {
			t.Fatal(err)
		}
	}
	_, err := f.translate("switch")
	if reason(err) != "RATE_LIMITED" || retry(err) <= 0 || retry(err) > time.Second || !strings.Contains(err.Error(), "requests of this identity") {
		t.Errorf("%v, retry after %v", err, retry(err))
	}
	if r := f.lastRecord(4); r.Decision != audit.Failed || r.Reason != "RATE_LIMITED" || r.Identity != "spiffe://test.example/switch" || r.Rule != "" || r.Detail != "requests of this identity" {
		t.Errorf("recorded: %+v", r)
	}
	// Others are not concerned: this one is denied by the policy.
	if _, err := f.translate("auditor"); reason(err) != "POLICY_DENIED" || retry(err) != 0 {
		t.Errorf("%v", err)
	}
	// A new policy counts at once; what is used up stays used up.
	f.server.SetPolicy(limited(t, "{default: {per_second: 1000000, burst: 3}}"))
	for range 20 {
		if _, err := f.translate("switch"); err == nil {
			return
		}
	}
	t.Error("the higher limit is not in force")
}

// TestDenialsAreBounded: after the denials that the policy leaves to an identity, more
// of them leave no entry and no line in the log, and the next entry has their number.
func TestDenialsAreBounded(t *testing.T) {
	f := newFront(t)
	f.config.Policy = limited(t, "{denials: {per_second: 1, burst: 3}}")
	f.startWith(pins(func(ctx context.Context, r *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error) {
		key := policies.Key{Name: r.Incoming.KeyId, Usage: "P0"}
		return &keydv1.TranslatePinDataResponse{}, gate{}.Authorize(ctx, "PinService/TranslatePinData", []policies.Key{key})
	}))
	const asked = 20
	denied, limited := 0, 0
	client := keydv1.NewPinServiceClient(f.as("switch"))
	for range asked {
		request := translation()
		request.Incoming.KeyId = "not.zone"
		switch _, err := client.TranslatePinData(t.Context(), request); reason(err) {
		case "POLICY_DENIED":
			denied++
		case "RATE_LIMITED":
			limited++
			if retry(err) <= 0 || !strings.Contains(err.Error(), "denied requests of this identity") {
				t.Errorf("%v, retry after %v", err, retry(err))
			}
		default:
			t.Errorf("%v", err)
		}
	}
	if denied < 3 || denied > 6 || denied+limited != asked {
		t.Fatalf("%d denied, %d limited", denied, limited)
	}
	if n := len(f.records()); n != denied {
		t.Errorf("%d entries, want %d", n, denied)
	}
	if n := strings.Count(f.log.String(), `"request `); n != denied {
		t.Errorf("%d lines in the log, want %d", n, denied)
	}
	// What is allowed goes on, and its entry has the number, once.
	for i := range 2 {
		if _, err := f.translate("switch"); err != nil {
			t.Fatal(err)
		}
		r := f.lastRecord(denied + 1 + i)
		want := ""
		if i == 0 && limited > 0 {
			want = fmt.Sprintf("%d refusals of this identity were left out before", leftOutOf(f.records()[:denied], limited))
		}
		if r.Decision != audit.Allowed || r.Detail != want {
			t.Errorf("recorded: %+v, want %q", r, want)
		}
	}
}

// leftOutOf is what is still to be said of n refusals after these entries.
func leftOutOf(entries []audit.Record, n int) int {
	for _, r := range entries {
		var said int
		if _, err := fmt.Sscanf(r.Detail, "%d refusals", &said); err == nil {
			n -= said
		}
	}
	return n
}

// Certificates without an identity share what is left to nobody.
func TestDenialsOfNobodyAreBounded(t *testing.T) {
	f := newFront(t)
	f.config.Policy = limited(t, "{denials: {per_second: 1, burst: 2}}")
	f.start()
	conn := f.connect(f.ca.client(t))
	counts := map[string]int{}
	for range 12 {
		_, err := keydv1.NewPinServiceClient(conn).TranslatePinData(t.Context(), translation())
		counts[reason(err)]++
	}
	if counts["IDENTITY_UNKNOWN"] < 2 || counts["RATE_LIMITED"] < 6 || len(f.records()) != counts["IDENTITY_UNKNOWN"] {
		t.Fatalf("%v, %d entries", counts, len(f.records()))
	}
	// The server's end says how many there were.
	if err := f.server.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := f.lastRecord(counts["IDENTITY_UNKNOWN"] + 1)
	if r.Decision != audit.Event || r.Reason != "RATE_LIMITED" || leftOutOf(f.records(), counts["RATE_LIMITED"]) != 0 {
		t.Errorf("recorded: %+v", r)
	}
}

// Streams that nobody can be allowed leave lines in the log within the same bound.
func TestDeniedStreamsAreBounded(t *testing.T) {
	f := newFront(t)
	f.config.Policy = limited(t, "{denials: {per_second: 1, burst: 2}}")
	f.startWith(func(r grpc.ServiceRegistrar) {
		r.RegisterService(&grpc.ServiceDesc{ServiceName: "keyd.v1.VoidService", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{
			{StreamName: "Watch", ServerStreams: true, Handler: func(any, grpc.ServerStream) error { return nil }},
		}}, struct{}{})
	})
	conn, counts := f.as("switch"), map[string]int{}
	for range 12 {
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/keyd.v1.VoidService/Watch")
		if err == nil {
			err = stream.RecvMsg(new(keydv1.GetStatusResponse))
		}
		counts[reason(err)]++
	}
	if counts["POLICY_DENIED"] < 2 || counts["RATE_LIMITED"] < 6 || strings.Count(f.log.String(), `"request denied"`) != counts["POLICY_DENIED"] ||
		!strings.Contains(f.log.String(), "spiffe://test.example/switch") {
		t.Errorf("%v: %s", counts, f.log.String())
	}
}

// Who may do nothing has a small limit, whatever the default is.
func TestStrangersAreLimited(t *testing.T) {
	f := newFront(t)
	f.config.Policy = limited(t, "{default: unlimited}")
	f.start()
	refused := 0
	client := keydv1.NewPinServiceClient(f.as("stranger"))
	for range policies.IdleLimit.Burst + 50 {
		r := translation()
		r.EncryptedPinBlock = nil // refused for its shape, before the policy is asked
		if _, err := client.TranslatePinData(t.Context(), r); reason(err) == "RATE_LIMITED" {
			refused++
		}
	}
	if refused < 20 {
		t.Errorf("%d refused", refused)
	}
}

// TestItemsOfStreamsAreLimited: each item is a request.
func TestItemsOfStreamsAreLimited(t *testing.T) {
	f := newFront(t)
	f.config.Policy = limited(t, "{default: {per_second: 1, burst: 5}, denials: {per_second: 100, burst: 1000}}")
	f.start()
	stream, err := keydv1.NewPinServiceClient(f.as("switch")).TranslatePinDataStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const items = 30
	go func() {
		for i := range items {
			_ = stream.Send(&keydv1.TranslatePinDataStreamRequest{CorrelationId: uint64(i), Request: translation()})
		}
		_ = stream.CloseSend()
	}()
	counts := map[string]int{}
	for {
		answer, err := stream.Recv()
		if err == io.EOF { //nolint:errorlint // as it is
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		item := status.FromProto(answer.GetError()).Err()
		counts[reason(item)]++
		if reason(item) == "RATE_LIMITED" && retry(item) == 0 {
			t.Errorf("no retry: %v", item)
		}
	}
	if counts["RATE_LIMITED"] < items-8 || counts["RATE_LIMITED"] > items-5 || len(f.records()) != items {
		t.Errorf("%v, %d entries", counts, len(f.records()))
	}
}

// TestEveryMethodIsLimited asks every method of every service that is registered twice,
// of an identity that may ask once: one that is outside the limits shows itself.
func TestEveryMethodIsLimited(t *testing.T) {
	f := newFront(t)
	f.config.Reflection = true
	f.start()
	seen, conn := 0, f.as("switch")
	for service, info := range f.server.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			full := "/" + service + "/" + m.Name
			if newCall(full).exempt {
				continue
			}
			seen++
			f.server.SetPolicy(limited(t, "{default: {per_second: 1, burst: 1}}"))
			f.server.clients.mu.Lock()
			f.server.clients.young, f.server.clients.old = nil, nil
			f.server.clients.mu.Unlock()
			ask := func() error { return invokeAny(t, conn, full, m.IsClientStream || m.IsServerStream) }
			first, second := ask(), ask()
			if reason(first) == "RATE_LIMITED" || reason(second) != "RATE_LIMITED" {
				t.Errorf("%s: %v, then %v", full, first, second)
			}
		}
	}
	if seen < 5 {
		t.Errorf("only %d methods", seen)
	}
}

// invokeAny sends an empty request to a method, or an empty item, and returns the error.
func invokeAny(t *testing.T, conn *grpc.ClientConn, full string, stream bool) error {
	t.Helper()
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(full, "/"), "/", ".")))
	if err != nil {
		t.Fatal(err)
	}
	method := d.(protoreflect.MethodDescriptor)
	message := func(d protoreflect.MessageDescriptor) proto.Message {
		mt, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
		if err != nil {
			t.Fatal(err)
		}
		return mt.New().Interface()
	}
	in, out := message(method.Input()), message(method.Output())
	if !stream {
		return conn.Invoke(t.Context(), full, in, out)
	}
	s, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, full)
	if err != nil {
		return err
	}
	if err := s.SendMsg(in); err != nil {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	if err := s.RecvMsg(out); err != nil {
		return err
	}
	return status.FromProto(out.(*keydv1.TranslatePinDataStreamResponse).GetError()).Err()
}

// TestSetPolicy: a request ends with the policy that it began with, the next one has the
// new one, and no policy allows nothing.
func TestSetPolicy(t *testing.T) {
	f := newFront(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	var wait atomic.Bool
	wait.Store(true)
	f.startWith(pins(func(ctx context.Context, _ *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error) {
		if wait.Load() {
			close(entered)
			<-leave
		}
		return &keydv1.TranslatePinDataResponse{}, gate{}.Authorize(ctx, "PinService/TranslatePinData", allowedKeys)
	}))
	done := make(chan error)
	go func() {
		_, err := f.translate("switch")
		done <- err
	}()
	<-entered
	wait.Store(false)
	f.server.SetPolicy(nil)
	if _, err := f.translate("switch"); reason(err) != "POLICY_DENIED" {
		t.Errorf("without a policy: %v", err)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Errorf("under way: %v", err)
	}
	f.server.SetPolicy(f.config.Policy)
	if _, err := f.translate("switch"); err != nil {
		t.Errorf("with a policy again: %v", err)
	}
}

func TestSetPolicyConcurrently(t *testing.T) {
	f := newFront(t).start()
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 200 {
			f.server.SetPolicy([]*policies.Policy{f.config.Policy, nil}[i%2])
		}
	})
	for range 4 {
		wg.Go(func() {
			client := keydv1.NewStatusServiceClient(f.as("auditor"))
			for range 25 {
				if _, err := client.GetStatus(t.Context(), &keydv1.GetStatusRequest{}); err != nil && reason(err) != "POLICY_DENIED" && reason(err) != "RATE_LIMITED" {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// TestCustodyIsInsistedOn: an operation that does not heed what the rule demands answers
// nobody.
func TestCustodyIsInsistedOn(t *testing.T) {
	f := newFront(t)
	p, err := policies.Parse([]byte(strings.Replace(testPolicy, "      usages: [P0, B0, V2]\n", "      usages: [P0, B0, V2]\n      custody: token\n", 1)))
	if err != nil {
		t.Fatal(err)
	}
	f.config.Policy = p
	reported := "CUSTODY_MODULE"
	f.startWith(pins(func(ctx context.Context, _ *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error) {
		g := gate{}
		if d := g.Demand(ctx); d.Custody != policies.AnyCustody {
			t.Errorf("demanded before anything was asked: %v", d)
		}
		if err := g.Authorize(ctx, "PinService/TranslatePinData", allowedKeys); err != nil {
			return nil, err
		}
		if d := g.Demand(ctx); d.Custody != policies.TokenCustody {
			t.Errorf("demanded: %v", d)
		}
		g.Entry(ctx).Custody = reported
		return &keydv1.TranslatePinDataResponse{}, nil
	}))
	for i, c := range []struct{ reported, want string }{{"CUSTODY_MODULE", "INTERNAL"}, {"", "INTERNAL"}, {"CUSTODY_TOKEN", "OK"}} {
		reported = c.reported
		if _, err := f.translate("switch"); reason(err) != c.want {
			t.Errorf("%s: %v", c.reported, err)
		}
		f.lastRecord(i + 1)
	}
	if d := (gate{}).Demand(context.Background()); d.Custody != policies.TokenCustody {
		t.Errorf("of no request: %v", d)
	}
}

// TestConditionsOverTheWire: address and time of a request reach the conditions.
func TestConditionsOverTheWire(t *testing.T) {
	f := newFront(t)
	f.put("may.zone", "P0")
	f.start()
	for when, want := range map[string]string{
		`address.within("127.0.0.0/8")`:                                      "MODULE_UNAVAILABLE",
		`address.within("10.0.0.0/8")`:                                       "POLICY_DENIED",
		`now > timestamp("2025-01-01T00:00:00Z")`:                            "MODULE_UNAVAILABLE",
		`now < timestamp("2025-01-01T00:00:00Z")`:                            "POLICY_DENIED",
		`identity.last == "switch"`:                                          "MODULE_UNAVAILABLE",
		`keys.all(k, k.algorithm == "T" && k.mode == "B" && k.version == 1)`: "MODULE_UNAVAILABLE",
		`keys.all(k, k.direction == "incoming")`:                             "POLICY_DENIED",
	} {
		p, err := policies.Parse([]byte(strings.Replace(testPolicy, "      usages: [P0, B0, V2]\n", "      usages: [P0, B0, V2]\n      when: '"+when+"'\n", 1)))
		if err != nil {
			t.Fatal(err)
		}
		f.server.SetPolicy(p)
		if _, err := f.translate("switch"); reason(err) != want {
			t.Errorf("%s: %v, want %s", when, err, want)
		}
	}
}

func TestClientsAreForgotten(t *testing.T) {
	c := newClients(slog.New(slog.DiscardHandler), nil)
	var p *policies.Policy
	busy := c.of("busy", p)
	for i := range 3 * maxClients {
		c.of(fmt.Sprint("spiffe://test.example/", i), p)
		if i%1000 == 0 && c.of("busy", p) != busy {
			t.Fatalf("an identity in use was forgotten after %d others", i)
		}
		if n := len(c.young) + len(c.old); n > maxClients {
			t.Fatalf("%d are remembered", n)
		}
	}
}

// TestLeftOutIsReported: nobody has to come again for the number to be told.
func TestLeftOutIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var entries []audit.Entry
		var failing error
		log := new(logged)
		known := newClients(slog.New(slog.NewTextHandler(log, nil)), func(e audit.Entry) error {
			entries = append(entries, e)
			return failing
		})
		p := limited(t, "{denials: {per_second: 1, burst: 2}}")
		ask := func(identity string) error {
			return known.recordable(&call{identity: identity, policy: p, client: known.of(identity, p)})
		}
		for i := range 10 {
			if err := ask("spiffe://test.example/a"); (err != nil) != (i >= 2) {
				t.Errorf("%d: %v", i, err)
			} else if err != nil && retry(translator{slog.New(slog.DiscardHandler)}.refuse(t.Context(), new(call), err)) != time.Second {
				t.Errorf("%v", err)
			}
		}
		time.Sleep(leftOutAfter)
		synctest.Wait()
		if len(entries) != 1 || entries[0].Decision != audit.Event || entries[0].Identity != "spiffe://test.example/a" ||
			entries[0].Detail != "8 refusals of this identity were left out before" || !strings.Contains(log.String(), "left_out=8") {
			t.Errorf("%+v: %s", entries, log.String())
		}
		// Ten seconds have brought two back, and no more.
		failing = errors.New("full")
		for i := range 4 {
			if err := ask("spiffe://test.example/a"); (err != nil) != (i >= 2) {
				t.Errorf("%d: %v", i, err)
			}
		}
		known.report()
		if len(entries) != 2 || known.reports != nil || len(known.owing) != 0 || !strings.Contains(log.String(), "so was their number") {
			t.Errorf("%+v: %s", entries, log.String())
		}
	})
}
