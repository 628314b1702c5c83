package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
	"keyd/policies"
)

func statusOver(conn grpc.ClientConnInterface) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := keydv1.NewStatusServiceClient(conn).GetStatus(ctx, &keydv1.GetStatusRequest{})
	return err
}

// TestSetTLS: new handshakes by the new identity, open connections go on as long as their
// client would be let in, and what is weaker is refused.
func TestSetTLS(t *testing.T) {
	f := newFront(t).start()
	other := newAuthority(t)
	open := f.as("auditor")
	if err := statusOver(open); err != nil {
		t.Fatal(err)
	}
	read := func(a *authority) *tls.Config {
		identity, err := LoadTLS(a.serverFiles(t, t.TempDir()))
		if err != nil {
			t.Fatal(err)
		}
		return identity.Config
	}

	weaker := read(f.ca)
	weaker.ClientAuth = tls.VerifyClientCertIfGiven
	if _, err := f.server.SetTLS(weaker); err == nil {
		t.Error("a weaker configuration was taken up")
	}
	if _, err := f.server.SetTLS(nil); err == nil {
		t.Error("no configuration was taken up")
	}

	// The server's certificate comes from the other authority, the clients' as before.
	mixed := read(other)
	mixed.ClientCAs = f.config.TLS.ClientCAs
	if closed, err := f.server.SetTLS(mixed); err != nil || closed != 0 {
		t.Fatal(closed, err)
	}
	if err := statusOver(open); err != nil {
		t.Errorf("a connection from before: %v", err)
	}
	if err := statusOver(f.as("auditor")); status.Code(err) != codes.Unavailable {
		t.Errorf("a client that trusts the first authority alone: %v", err)
	}
	trusting := f.ca.client(t, withID("spiffe://test.example/auditor"))
	trusting.RootCAs = other.trust().RootCAs
	if err := statusOver(f.connect(trusting)); err != nil {
		t.Errorf("a client that trusts the second authority: %v", err)
	}

	// The first authority goes, and with it its clients.
	before, _ := f.server.Connections()
	closed, err := f.server.SetTLS(read(other))
	if err != nil || closed != 2 || before < 2 {
		t.Errorf("%d of %d connections closed, %v", closed, before, err)
	}
	if err := statusOver(open); status.Code(err) != codes.Unavailable {
		t.Errorf("a client whose authority has gone: %v", err)
	}
	if err := statusOver(f.connect(other.client(t, withID("spiffe://test.example/auditor")))); err != nil {
		t.Errorf("a client of the second authority: %v", err)
	}
	if open, refused := f.server.Connections(); open != 1 || refused == 0 {
		t.Errorf("%d connections, %d refused", open, refused)
	}
}

// A handshake that began before an authority went does not end with a connection.
func TestHandshakeThatIsOvertaken(t *testing.T) {
	f := newFront(t)
	first := f.config.TLS
	identity, err := LoadTLS(newAuthority(t).serverFiles(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(f.ca.client(t, withID("spiffe://test.example/auditor")).Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	info := credentials.TLSInfo{State: tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}}
	s := newConnections(first, f.config.Officers)
	for _, c := range []struct {
		now  *tls.Config
		want error
	}{{first, nil}, {first.Clone(), nil}, {identity.Config, errNoAuthority}} {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		s.identity.Store(c.now)
		conn, _, err := s.add(ours, info)
		if !errors.Is(err, c.want) || (conn == nil) != (c.want != nil) {
			t.Errorf("%v, %v, want %v", conn, err, c.want)
		}
		if conn != nil {
			_ = conn.Close()
		} else if _, err := ours.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the connection is open: %v", err)
		}
		if n := s.count(); n != 0 {
			t.Errorf("%d connections", n)
		}
	}
}

// What was unlimited has its whole burst when a new policy limits it.
func TestLimitAfterNone(t *testing.T) {
	f := newFront(t).start()
	conn := f.as("auditor")
	for _, limits := range []string{"limits: {default: unlimited}\n", "limits: {default: {per_second: 1, burst: 5}}\n", "limits: {default: unlimited}\n", ""} {
		p, err := policies.Parse([]byte(testPolicy + limits))
		if err != nil {
			t.Fatal(err)
		}
		f.server.SetPolicy(p)
		for range 2 {
			if err := statusOver(conn); err != nil {
				t.Errorf("under %q: %v", limits, err)
			}
		}
	}
}

// seen is what an observer is told.
type seen struct {
	mu       sync.Mutex
	began    []string
	ended    []string
	recorded int
	traced   []string
}

func (s *seen) Began(method string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = append(s.began, method)
}

func (s *seen) Ended(method, reason string, _ time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = append(s.ended, method+" "+reason)
}

func (s *seen) Recorded(time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recorded++
}

func (s *seen) Start(ctx context.Context, method, parent string) (context.Context, func(Outcome)) {
	return ctx, func(o Outcome) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.traced = append(s.traced, method+" "+parent+" "+o.Reason+" "+o.Custody)
		if o.RequestID == "" {
			s.traced = append(s.traced, "no request identifier")
		}
	}
}

// TestObserved: each request is counted once with keyd's own words, a panic too.
func TestObserved(t *testing.T) {
	f := newFront(t)
	s := &seen{}
	f.config.Metrics, f.config.Tracer = s, s
	panics := false
	f.startWith(pins(func(context.Context, *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error) {
		if panics {
			panic("at the disco")
		}
		return nil, context.Canceled
	}))
	client := keydv1.NewPinServiceClient(f.as("switch"))
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-1-2-01")
	if _, err := client.TranslatePinData(ctx, translation()); err == nil {
		t.Error("no error")
	}
	panics = true
	two := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "a", "traceparent", "b") // which of the two?
	if _, err := client.TranslatePinData(two, translation()); reason(err) != "INTERNAL" {
		t.Error(err)
	}
	const method = "PinService/TranslatePinData"
	if !slices.Equal(s.began, []string{method, method}) || !slices.Equal(s.ended, []string{method + " CANCELLED", method + " INTERNAL"}) || s.recorded != 2 ||
		!slices.Equal(s.traced, []string{method + " 00-1-2-01 CANCELLED ", method + "  INTERNAL "}) {
		t.Errorf("%+v", s)
	}
}
