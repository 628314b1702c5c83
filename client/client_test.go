package client

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
)

func TestConfigIsChecked(t *testing.T) {
	good := Config{Addresses: []string{"a:1"}, TLS: &tls.Config{}}
	for name, change := range map[string]func(*Config){
		"no address":        func(c *Config) { c.Addresses = nil },
		"no port":           func(c *Config) { c.Addresses = []string{"a"} },
		"twice":             func(c *Config) { c.Addresses = []string{"a:1", "a:1"} },
		"dns among others":  func(c *Config) { c.Addresses = []string{"a:1", "dns:///b:1"} },
		"another scheme":    func(c *Config) { c.Addresses = []string{"unix:///b"} },
		"no TLS":            func(c *Config) { c.TLS = nil },
		"TLS and files":     func(c *Config) { c.CA = "ca.crt" },
		"half of the files": func(c *Config) { c.TLS, c.CA = nil, "ca.crt" },
		"no such files":     func(c *Config) { c.TLS, c.CA, c.Certificate, c.Key = nil, "/none", "/none", "/none" },
		"negative":          func(c *Config) { c.Attempts = -1 },
	} {
		c := good
		change(&c)
		if client, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
			_ = client.Close()
		}
	}
}

func TestNamesAreLookedUp(t *testing.T) {
	a := newAuthority(t)
	s := startRecorder(t, a, nil)
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"dns:///localhost:" + port, "localhost:" + port} {
		c := newClient(t, a, Config{Addresses: []string{address}})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := c.WaitServing(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Status().GetStatus(ctx, &keydv1.GetStatusRequest{}); err != nil {
			t.Error(err)
		}
	}
}

// A certificate that is replaced is used for the next connection, which keyd asks for when
// one is old. While the files do not fit together, the ones before are used.
func TestCertificatesAreReadAgain(t *testing.T) {
	a := newAuthority(t)
	s := startRecorder(t, a, nil, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 100 * time.Millisecond}))
	dir := t.TempDir()
	var log syncBuffer
	config := a.write(dir, a.client("first"))
	config.Log = slog.New(slog.NewTextHandler(&log, nil))
	c := newClient(t, a, config, s)
	caller := func() string {
		t.Helper()
		if _, err := c.Mac().VerifyMac(t.Context(), &keydv1.VerifyMacRequest{}); err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.names[len(s.names)-1]
	}
	if got := caller(); got != "first" {
		t.Errorf("the caller is %s", got)
	}
	a.write(dir, a.client("second"))
	waitFor(t, "the new certificate is used", func() bool { return caller() == "second" })
	if err := os.WriteFile(config.Key, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "it is told that the files do not fit", func() bool { return caller() == "second" && log.has("cannot be used") })
	a.write(dir, a.client("third"))
	waitFor(t, "the files are good again", func() bool { return caller() == "third" })
	// But nobody begins with files that do not fit.
	config.Addresses, config.Key = []string{s.address}, config.CA
	if _, err := New(config); err == nil {
		t.Error("files that do not fit together make a client")
	}
}

// syncBuffer is a log that may be read meanwhile.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) has(part string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Contains(b.text.String(), part)
}

func TestServerMustBeTheRightOne(t *testing.T) {
	a := newAuthority(t)
	s := startRecorder(t, a, nil)
	for _, c := range []struct {
		config Config
		good   bool
	}{
		{Config{}, true},
		{Config{ServerName: "keyd.example"}, true},
		{Config{ServerName: "other.example"}, false},
		{Config{ServerID: "spiffe://test/keyd"}, true},
		{Config{ServerID: "spiffe://test/other"}, false},
		{Config{TLS: newAuthority(t).config()}, false},
	} {
		c.config.Addresses = []string{s.address}
		client := newClient(t, a, c.config)
		limit := 400 * time.Millisecond
		if c.good {
			limit = 20 * time.Second
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, err := client.Pin().TranslatePinData(ctx, &keydv1.TranslatePinDataRequest{})
		cancel()
		if (err == nil) != c.good {
			t.Errorf("name %q, ID %q: %v", c.config.ServerName, c.config.ServerID, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "certificate") || status.Code(err) != codes.DeadlineExceeded) {
			t.Errorf("the error does not say what is wrong: %v", err)
		}
	}
}

func TestReasonsAndOutcomes(t *testing.T) {
	err := refusal(t, codes.InvalidArgument, "PIN_BLOCK_INVALID")
	if reason, id := ReasonOf(err); reason != PINBlockInvalid || id != "R1" {
		t.Errorf("%q, %q", reason, id)
	}
	for _, err := range []error{nil, errors.New("other"), status.Error(codes.Unavailable, "")} {
		if reason, id := ReasonOf(err); reason != "" || id != "" {
			t.Errorf("%v: %q, %q", err, reason, id)
		}
	}
	for _, c := range []struct {
		answer *keydv1.VerifyPinDataResponse
		err    error
		want   Outcome
	}{
		{&keydv1.VerifyPinDataResponse{Verified: true}, nil, Right},
		{&keydv1.VerifyPinDataResponse{}, nil, Wrong},
		{nil, err, Refused},
		{nil, refusal(t, codes.ResourceExhausted, "RATE_LIMITED"), Refused},
		{nil, refusal(t, codes.Unavailable, "AUDIT_UNAVAILABLE"), Unknown},
		{nil, refusal(t, codes.Internal, "INTERNAL"), Unknown},
		{nil, status.Error(codes.DeadlineExceeded, ""), Unknown},
		{nil, context.Canceled, Unknown},
	} {
		if got := OutcomeOf(c.answer, c.err); got != c.want {
			t.Errorf("%v, %v: %v, want %v", c.answer, c.err, got, c.want)
		}
	}
}
