package server

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	keydv1 "keyd/api/keyd/v1"
	"keyd/audit"
	"keyd/policies"
)

type translateFunc func(context.Context, *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error)

// pinService is a PinService of the tests: what a careless or broken binding would do.
type pinService struct {
	keydv1.UnimplementedPinServiceServer
	translate translateFunc
}

func (s pinService) TranslatePinData(ctx context.Context, r *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error) {
	return s.translate(ctx, r)
}

func pins(translate translateFunc) func(grpc.ServiceRegistrar) {
	return func(r grpc.ServiceRegistrar) {
		keydv1.RegisterPinServiceServer(r, pinService{translate: translate})
	}
}

var allowedKeys = []policies.Key{{Name: "may.zone", Usage: "P0"}}

// TestNoSuccessWithoutAuthorisation: an answer leaves only if the policy was asked
// about this very request and allowed it, each time.
func TestNoSuccessWithoutAuthorisation(t *testing.T) {
	const own = "PinService/TranslatePinData"
	for name, c := range map[string]struct {
		ask  func(context.Context, gate)
		want string
	}{
		"asked": {func(ctx context.Context, g gate) { _ = g.Authorize(ctx, own, allowedKeys) }, "OK"},
		"asked twice": {func(ctx context.Context, g gate) {
			_ = g.Authorize(ctx, own, allowedKeys)
			_ = g.Authorize(ctx, own, allowedKeys)
		}, "OK"},
		"never asked": {func(context.Context, gate) {}, "INTERNAL"},
		"denial not heeded": {func(ctx context.Context, g gate) {
			_ = g.Authorize(ctx, own, []policies.Key{{Name: "not.zone", Usage: "P0"}})
		}, "INTERNAL"},
		"denied, then allowed": {func(ctx context.Context, g gate) {
			_ = g.Authorize(ctx, own, nil)
			_ = g.Authorize(ctx, own, allowedKeys)
		}, "INTERNAL"},
		"allowed, then denied": {func(ctx context.Context, g gate) {
			_ = g.Authorize(ctx, own, allowedKeys)
			_ = g.Authorize(ctx, own, nil)
		}, "INTERNAL"},
		"another action": {func(ctx context.Context, g gate) { _ = g.Authorize(ctx, "PinService/VerifyPinData", allowedKeys) }, "INTERNAL"},
		"another action as well": {func(ctx context.Context, g gate) {
			_ = g.Authorize(ctx, own, allowedKeys)
			_ = g.Authorize(ctx, "PinService/VerifyPinData", allowedKeys)
		}, "INTERNAL"},
		"another request's right": {func(_ context.Context, g gate) { _ = g.Authorize(context.Background(), own, allowedKeys) }, "INTERNAL"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFront(t)
			f.startWith(pins(func(ctx context.Context, _ *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error) {
				g := gate{}
				g.Entry(ctx).Custody = "CUSTODY_MODULE"
				c.ask(ctx, g)
				return &keydv1.TranslatePinDataResponse{KeyCheckValue: "AAAAAA"}, nil
			}))
			answer, err := f.translate("switch")
			if reason(err) != c.want || (answer != nil) != (c.want == "OK") {
				t.Errorf("%v, %v", answer, err)
			}
			r := f.lastRecord(1)
			if c.want == "OK" && (r.Decision != audit.Allowed || r.Rule != "switch[0]" || r.Reason != "" || r.Custody != "CUSTODY_MODULE") ||
				c.want != "OK" && (r.Custody != "" || r.Decision != audit.Failed || r.Reason != c.want) {
				t.Errorf("recorded: %+v", r)
			}
		})
	}
}

// Authorisation without a request, or before an identity is known, is a bug.
func TestAuthorizeNeedsARequest(t *testing.T) {
	g := gate{}
	for name, ctx := range map[string]context.Context{
		"no request":  context.Background(),
		"no identity": newCall("/keyd.v1.PinService/TranslatePinData").in(context.Background()),
	} {
		if err := g.Authorize(ctx, "PinService/TranslatePinData", allowedKeys); err == nil {
			t.Errorf("%s: allowed", name)
		}
	}
}

// TestMethodsAndTable: a method that is registered has a row in the policies' table, or
// is exempt; a row has a method; and one without a row is denied, to everybody.
func TestMethodsAndTable(t *testing.T) {
	f := newFront(t)
	f.config.Reflection = true
	f.start()
	registered := map[string]bool{}
	for service, info := range f.server.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			c := newCall("/" + service + "/" + m.Name)
			if c.exempt {
				continue
			}
			if m.IsClientStream || m.IsServerStream {
				// The items of a stream are requests of another method, whose row counts.
				carried := carriers["/"+service+"/"+m.Name]
				if carried == "" {
					t.Errorf("%s is a stream whose items are no requests", c.method)
					continue
				}
				c = newCall(carried)
			}
			registered[c.method] = true
			if _, ok := policies.LookupMethod(c.method); !ok {
				t.Errorf("%s has no row", c.method)
			}
		}
	}
	for _, m := range policies.Methods {
		if !registered[m.Name] {
			t.Errorf("%s has a row and no method", m.Name)
		}
	}
}

func TestMethodWithoutRowIsDenied(t *testing.T) {
	f := newFront(t)
	ran := false
	f.startWith(func(r grpc.ServiceRegistrar) {
		for _, service := range []string{"keyd.v1.VoidService", "other.v1.PinService", "grpc.health.v1.Health2", "PinService"} {
			r.RegisterService(&grpc.ServiceDesc{
				ServiceName: service,
				HandlerType: (*any)(nil),
				Methods: []grpc.MethodDesc{{MethodName: "TranslatePinData", Handler: func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
					in := new(emptypb.Empty)
					if err := decode(in); err != nil {
						return nil, err
					}
					return interceptor(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/" + service + "/TranslatePinData"},
						func(context.Context, any) (any, error) { ran = true; return new(emptypb.Empty), nil })
				}}},
				Streams: []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true, ClientStreams: true, Handler: func(any, grpc.ServerStream) error { ran = true; return nil }}},
			}, struct{}{})
		}
	})
	conn := f.as("switch")
	for _, service := range []string{"keyd.v1.VoidService", "other.v1.PinService", "grpc.health.v1.Health2", "PinService"} {
		err := conn.Invoke(t.Context(), "/"+service+"/TranslatePinData", new(emptypb.Empty), new(emptypb.Empty))
		// "/PinService/…" is not the contract's "/keyd.v1.PinService/…".
		if reason(err) != "POLICY_DENIED" || ran {
			t.Errorf("%s: %v, ran %t", service, err, ran)
		}
		stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/"+service+"/Stream")
		if err == nil {
			err = stream.RecvMsg(new(emptypb.Empty))
		}
		if reason(err) != "POLICY_DENIED" || ran {
			t.Errorf("stream of %s: %v, ran %t", service, err, ran)
		}
	}
	if err := conn.Invoke(t.Context(), "/keyd.v1.PinService/Nothing", new(emptypb.Empty), new(emptypb.Empty)); status.Code(err) != codes.Unimplemented {
		t.Errorf("a method that is not there: %v", err)
	}
}

// A panic ends one request, not the process; its value may hold data and stays out of
// the log, its place does not.
func TestPanic(t *testing.T) {
	f := newFront(t)
	f.startWith(pins(func(_ context.Context, r *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error) {
		switch r.Incoming.KeyId {
		case "value":
			panic(r.PrimaryAccountNumber)
		case "error":
			panic(fmt.Errorf("%s", r.PrimaryAccountNumber))
		case "nil":
			var none *keydv1.TranslatePinDataRequest
			_ = none.PrimaryAccountNumber
		}
		_ = r.EncryptedPinBlock[len(r.EncryptedPinBlock)]
		return nil, nil
	}))
	for i, id := range []string{"value", "error", "nil", "index"} {
		_, err := f.translate("switch", func(r *keydv1.TranslatePinDataRequest) { r.Incoming.KeyId = id })
		if reason(err) != "INTERNAL" {
			t.Errorf("%s: %v", id, err)
		}
		if r := f.lastRecord(i + 1); r.Decision != audit.Failed || r.Reason != "INTERNAL" || r.Detail != "" {
			t.Errorf("%s: recorded %+v", id, r)
		}
		f.nothingLeaked(err)
	}
	for _, want := range []string{"panic: a value of type string", "panic: a value of type *", "nil pointer", "index out of range [8]", "server.TestPanic.", "steps_test.go:"} {
		if !strings.Contains(f.log.String(), want) {
			t.Errorf("the log does not say %q: %s", want, f.log.String())
		}
	}
}

// TestMalformedMessage: what does not decode takes the way of all other requests.
func TestMalformedMessage(t *testing.T) {
	f := newFront(t).start()
	f.put("may.zone", "P0")
	good, err := proto.Marshal(translation())
	if err != nil {
		t.Fatal(err)
	}
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 100, protowire.VarintType), 1)
	withNested := translation()
	withNested.Outgoing.Dukpt = &keydv1.DukptAttributes{KeySerialNumber: []byte{0xff, 0xff, 0x98, 0x76, 0x54, 0x32, 0x10, 0xe0, 0, 1}}
	withNested.Outgoing.Dukpt.ProtoReflect().SetUnknown(unknown)
	nested, err := proto.Marshal(withNested)
	if err != nil {
		t.Fatal(err)
	}
	conn, n := f.as("switch"), 0
	for name, c := range map[string]struct {
		message []byte
		want    string
	}{
		"good":                   {good, "MODULE_UNAVAILABLE"},
		"empty":                  {nil, "REQUEST_INVALID"},
		"no message":             {[]byte("\xff\xff\xff"), "REQUEST_INVALID"},
		"cut":                    {good[:len(good)-1], "REQUEST_INVALID"},
		"text that is not UTF-8": {protowire.AppendString(protowire.AppendTag(nil, 3, protowire.BytesType), "\xff"), "REQUEST_INVALID"},
		"another type":           {protowire.AppendVarint(protowire.AppendTag(append([]byte(nil), good...), 4, protowire.VarintType), 1), "REQUEST_INVALID"},
		"unknown field":          {append(append([]byte(nil), good...), unknown...), "REQUEST_INVALID"},
		"unknown field inside":   {nested, "REQUEST_INVALID"},
	} {
		err := conn.Invoke(t.Context(), keydv1.PinService_TranslatePinData_FullMethodName, c.message, new(keydv1.TranslatePinDataResponse), grpc.ForceCodec(rawRequests{}))
		if reason(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		n++
		if r := f.lastRecord(n); r.Reason != c.want || r.Identity != "spiffe://test.example/switch" {
			t.Errorf("%s: recorded %+v", name, r)
		}
	}
	// The others learn nothing about it.
	if err := f.as("nobody").Invoke(t.Context(), keydv1.StatusService_GetStatus_FullMethodName, unknown, new(keydv1.GetStatusResponse), grpc.ForceCodec(rawRequests{})); reason(err) != "REQUEST_INVALID" {
		t.Errorf("%v", err)
	}
}

// rawRequests sends bytes as they are.
type rawRequests struct{}

var _ encoding.Codec = rawRequests{}

func (rawRequests) Name() string                  { return "proto" }
func (rawRequests) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (rawRequests) Unmarshal(b []byte, v any) error {
	return proto.Unmarshal(b, v.(proto.Message))
}

func TestMessageSize(t *testing.T) {
	f := newFront(t).start()
	_, err := f.translate("switch", func(r *keydv1.TranslatePinDataRequest) { r.EncryptedPinBlock = make([]byte, MaxRequest) })
	if status.Code(err) != codes.ResourceExhausted || len(f.records()) != 0 {
		t.Errorf("%v, %d entries", err, len(f.records()))
	}
	_, err = f.translate("switch", func(r *keydv1.TranslatePinDataRequest) { r.EncryptedPinBlock = make([]byte, MaxRequest-1000) })
	if reason(err) != "REQUEST_INVALID" {
		t.Errorf("%v", err)
	}
}

func TestDeadline(t *testing.T) {
	f := newFront(t)
	var left time.Duration
	var had bool
	f.startWith(pins(func(ctx context.Context, _ *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error) {
		var deadline time.Time
		deadline, had = ctx.Deadline()
		left = time.Until(deadline)
		return nil, context.DeadlineExceeded
	}))
	if _, err := f.translate("switch"); status.Code(err) != codes.DeadlineExceeded || !had || left > DefaultDeadline {
		t.Errorf("without a deadline: %v, %t, %v left", err, had, left)
	}
	if r := f.lastRecord(1); r.Decision != audit.Failed || r.Reason != "DEADLINE_EXCEEDED" {
		t.Errorf("recorded: %+v", r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	client := keydv1.NewPinServiceClient(f.as("switch"))
	if _, err := client.TranslatePinData(ctx, translation()); status.Code(err) != codes.DeadlineExceeded || !had || left > time.Hour-deadlineReserve || left < time.Minute {
		t.Errorf("with an hour: %v, %t, %v left", err, had, left)
	}
}

// A request that has no time left after the reserve is not begun.
func TestTooLateIsNotBegun(t *testing.T) {
	ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(deadlineReserve))
	defer cancel()
	_, err := limitTime(ctx, nil, nil, func(context.Context, any) (any, error) {
		t.Error("it was begun")
		return nil, nil
	})
	if err != context.DeadlineExceeded { //nolint:errorlint // as it is
		t.Errorf("%v", err)
	}
}

// A caller who gives up leaves an entry all the same.
func TestCallerGivesUp(t *testing.T) {
	f := newFront(t)
	f.put("may.zone", "P0")
	_, heard := f.attach()
	f.start()
	ctx, giveUp := context.WithCancel(t.Context())
	done := make(chan error)
	client := keydv1.NewPinServiceClient(f.as("switch"))
	go func() {
		_, err := client.TranslatePinData(ctx, translation())
		done <- err
	}()
	<-heard
	giveUp()
	if err := <-done; status.Code(err) != codes.Canceled {
		t.Errorf("%v", err)
	}
	if err := f.server.Drain(context.Background()); err != nil { // ends after the request's entry
		t.Fatal(err)
	}
	if r := f.lastRecord(1); r.Decision != audit.Failed || r.Reason != "CANCELLED" || r.Keys[0].Name != "may.zone" || r.PAN.String() != "…8909" {
		t.Errorf("recorded: %+v", r)
	}
}

// A result that cannot be recorded does not leave.
func TestUnrecordedResultIsWithheld(t *testing.T) {
	f := newFront(t)
	f.startWith(pins(func(ctx context.Context, _ *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error) {
		if err := (gate{}).Authorize(ctx, "PinService/TranslatePinData", allowedKeys); err != nil {
			return nil, err
		}
		return &keydv1.TranslatePinDataResponse{KeyCheckValue: "AAAAAA"}, f.config.Audit.Close()
	}))
	answer, err := f.translate("switch")
	if answer != nil || reason(err) != "AUDIT_UNAVAILABLE" || strings.Contains(err.Error(), "AAAAAA") {
		t.Errorf("%v, %v", answer, err)
	}
}

// Successes are in the audit log and not in the log.
func TestSuccessIsNotLogged(t *testing.T) {
	f := newFront(t).start()
	if _, err := keydv1.NewStatusServiceClient(f.as("auditor")).GetStatus(t.Context(), &keydv1.GetStatusRequest{}); err != nil {
		t.Fatal(err)
	}
	if r := f.lastRecord(1); r.Decision != audit.Allowed || r.Rule != "auditor[0]" || r.Method != "StatusService/GetStatus" || r.Identity != "spiffe://test.example/auditor" || r.RequestID == "" {
		t.Errorf("recorded: %+v", r)
	}
	if log := f.log.String(); log != "" {
		t.Errorf("logged: %s", log)
	}
}
