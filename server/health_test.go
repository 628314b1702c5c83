package server

import (
	"context"
	"crypto/x509"
	"net"
	"testing"

	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
)

func TestHealth(t *testing.T) {
	f := newFront(t).withOfficers().start()
	// Any valid certificate will do, one without an identity too.
	client := health.NewHealthClient(f.connect(f.ca.client(t)))
	expect := func(want health.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for _, service := range []string{"", "keyd.v1.PinService", "keyd.v1.MacService", "keyd.v1.DataService", "keyd.v1.StatusService", "keyd.v1.VelocityService", "keyd.v1.AuditService", "keyd.v1.CeremonyService", "keyd.v1.KeyService", "keyd.v1.BackupService", "keyd.v1.FleetService", "keyd.v1.TerminalService", "keyd.v1.PinRecordService", "keyd.v1.VoidService"} {
			answer, err := client.Check(t.Context(), &health.HealthCheckRequest{Service: service})
			if err != nil || answer.Status != want {
				t.Errorf("%q: %v, %v; want %v", service, answer, err, want)
			}
		}
		list, err := client.List(t.Context(), &health.HealthListRequest{})
		if err != nil || len(list.Statuses) != 14 || list.Statuses[""].Status != want {
			t.Errorf("list: %v, %v", list, err)
		}
	}
	expect(health.HealthCheckResponse_NOT_SERVING)
	f.attach()
	expect(health.HealthCheckResponse_SERVING)
	f.config.Modules.Close()
	expect(health.HealthCheckResponse_NOT_SERVING)
	if _, err := client.Check(t.Context(), &health.HealthCheckRequest{Service: "nothing"}); status.Code(err) != codes.NotFound || reason(err) != "NotFound" {
		t.Errorf("an unknown service: %v", err)
	}
	unknown, err := client.Watch(t.Context(), &health.HealthCheckRequest{Service: "nothing"})
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := unknown.Recv(); err != nil || answer.Status != health.HealthCheckResponse_SERVICE_UNKNOWN {
		t.Errorf("an unknown service watched: %v, %v", answer, err)
	}
	if n := len(f.records()); n != 0 {
		t.Errorf("health checks left %d audit entries", n)
	}
	// Not any certificate.
	for name, c := range map[string]health.HealthClient{
		"none":    health.NewHealthClient(f.connect(f.ca.trust())),
		"expired": health.NewHealthClient(f.connect(f.ca.client(t, func(c *x509.Certificate) { c.NotAfter = c.NotBefore }))),
	} {
		if _, err := c.Check(t.Context(), &health.HealthCheckRequest{}); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReflection(t *testing.T) {
	for _, on := range []bool{true, false} {
		f := newFront(t)
		f.config.Reflection = on
		f.start()
		stream, err := reflection.NewServerReflectionClient(f.connect(f.ca.client(t))).ServerReflectionInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		err = stream.Send(&reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_ListServices{}})
		if err != nil && on {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if on && (err != nil || len(answer.GetListServicesResponse().GetService()) < 3) {
			t.Errorf("%v, %v", answer, err)
		}
		if !on && status.Code(err) != codes.Unimplemented {
			t.Errorf("reflection that was not asked for: %v, %v", answer, err)
		}
		if err := stream.CloseSend(); err != nil {
			t.Error(err)
		}
	}
}

// TestHealthWithoutTheRegister: modules that do not know which keys there are use none.
func TestHealthWithoutTheRegister(t *testing.T) {
	f := newFront(t).start()
	f.attach()
	answer, err := health.NewHealthClient(f.as("switch")).Check(t.Context(), &health.HealthCheckRequest{})
	if err != nil || answer.Status != health.HealthCheckResponse_NOT_SERVING {
		t.Errorf("%v, %v", answer, err)
	}
}

// TestDrain: health first, then no new requests, and what is under way ends.
func TestDrain(t *testing.T) {
	f := newFront(t).withOfficers()
	f.put("may.zone", "P0")
	module, heard := f.attach()
	f.start()
	watch, err := health.NewHealthClient(f.as("switch")).Watch(t.Context(), &health.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := watch.Recv(); err != nil || answer.Status != health.HealthCheckResponse_SERVING {
		t.Fatalf("%v, %v", answer, err)
	}
	request := make(chan error)
	client := keydv1.NewPinServiceClient(f.as("switch"))
	go func() {
		_, err := client.TranslatePinData(t.Context(), translation())
		request <- err
	}()
	<-heard
	drained := make(chan error)
	go func() { drained <- f.server.Drain(t.Context()) }()
	if answer, err := watch.Recv(); err != nil || answer.Status != health.HealthCheckResponse_NOT_SERVING {
		t.Errorf("a watcher during the drain: %v, %v", answer, err)
	}
	if answer, err := watch.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("a watcher at the end: %v, %v", answer, err)
	}
	select {
	case err := <-drained:
		t.Fatalf("drained (%v) with a request under way", err)
	default:
	}
	if err := module.Close(); err != nil { // now the request can end
		t.Fatal(err)
	}
	if err := <-request; reason(err) != "MODULE_UNAVAILABLE" {
		t.Errorf("the request under way: %v", err)
	}
	if err := <-drained; err != nil {
		t.Errorf("Drain: %v", err)
	}
	if r := f.lastRecord(1); r.Reason != "MODULE_UNAVAILABLE" {
		t.Errorf("recorded: %+v", r)
	}
	if conn, err := net.Dial("tcp", f.address); err == nil {
		t.Errorf("a new connection was accepted: %v", conn.Close())
	}
	if err := f.server.Drain(t.Context()); err != nil {
		t.Errorf("a second Drain: %v", err)
	}
}

// The bound of a drain is kept: what has not ended is broken off.
func TestDrainIsBounded(t *testing.T) {
	f := newFront(t)
	f.put("may.zone", "P0")
	_, heard := f.attach()
	f.start()
	request := make(chan error)
	client := keydv1.NewPinServiceClient(f.as("switch"))
	go func() {
		_, err := client.TranslatePinData(t.Context(), translation())
		request <- err
	}()
	<-heard
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.server.Drain(over); err == nil {
		t.Error("Drain returned no error with a request under way")
	}
	if err := <-request; status.Code(err) != codes.Unavailable && status.Code(err) != codes.Canceled {
		t.Errorf("the request: %v", err)
	}
}
