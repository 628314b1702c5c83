// Package e2e tests keyd as its users meet it: the built binary, real processes, a
// real SoftHSM token, gRPC over mutual TLS.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
)

// keydBinary is the keyd that all tests run, built once as make build builds it.
var keydBinary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

// binaryVariable names the keyd to test, where it is built already.
const binaryVariable = "KEYD_TEST_BINARY"

func run(m *testing.M) int {
	if keydBinary = os.Getenv(binaryVariable); keydBinary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "keyd-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary directory
	// The front and the modules run under users of their own, who must be able to
	// reach the binary and the services' directories.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	keydBinary = filepath.Join(dir, "keyd")
	build := exec.Command("go", "build", "-o", keydBinary, "keyd/cmd/keyd")
	build.Env = append(os.Environ(), "GOEXPERIMENT=runtimesecret")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build keyd: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// tempDir is a directory that other users may pass through, unlike t.TempDir.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "keyd-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// service is a running keyd dev.
type service struct {
	t       testing.TB
	dir     string
	address string
	cmd     *exec.Cmd
	ended   chan struct{}
	err     error

	mu  sync.Mutex
	log bytes.Buffer
}

// start runs keyd dev in a fresh directory, with test keys if there are any.
func start(t testing.TB, keys ...testKey) *service {
	t.Helper()
	return startIn(t, filepath.Join(tempDir(t), "dev"), keys...)
}

func startIn(t testing.TB, dir string, keys ...testKey) *service {
	t.Helper()
	return startWith(t, dir, nil, keys...)
}

// startWith runs keyd dev with flags of its own.
func startWith(t testing.TB, dir string, flags []string, keys ...testKey) *service {
	t.Helper()
	args := append([]string{"dev", "--dir", dir, "--listen", "127.0.0.1:0"}, flags...)
	if len(keys) > 0 {
		file := filepath.Join(tempDir(t), "keys.json")
		b, err := json.Marshal(keys)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--keys", file)
	}
	s := &service{t: t, dir: dir, cmd: exec.Command(keydBinary, args...), ended: make(chan struct{})}
	s.cmd.Stderr = s
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log := s.logged()
			t.Logf("the end of keyd's log:\n%s", log[max(0, len(log)-8<<10):])
		}
	})
	ready := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n') // an empty line is no address
		ready <- strings.TrimSpace(line)
		_, _ = io.Copy(io.Discard, out)
		s.err = s.cmd.Wait()
		close(s.ended)
	}()
	t.Cleanup(s.stop)
	select {
	case line := <-ready:
		address, ok := strings.CutPrefix(line, "ready ")
		if !ok {
			t.Fatalf("keyd dev did not become ready: %q\n%s", line, s.logged())
		}
		s.address = address
	case <-time.After(60 * time.Second):
		t.Fatalf("keyd dev is not ready after a minute\n%s", s.logged())
	}
	return s
}

// Write collects the log.
func (s *service) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

func (s *service) logged() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// stop ends the service as an operator does, and insists on status 0.
func (s *service) stop() {
	select {
	case <-s.ended:
		return
	default:
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Error(err)
	}
	select {
	case <-s.ended:
		if s.err != nil {
			s.t.Errorf("keyd dev after SIGTERM: %v\n%s", s.err, s.logged())
		}
	case <-time.After(30 * time.Second):
		_ = s.cmd.Process.Kill()
		s.t.Errorf("keyd dev does not end after SIGTERM\n%s", s.logged())
	}
}

// tls returns the client side of the service's TLS for an identity of the service.
func (s *service) tls(as string) *tls.Config {
	s.t.Helper()
	certs := filepath.Join(s.dir, "certs")
	certificate, err := tls.LoadX509KeyPair(filepath.Join(certs, as+".crt"), filepath.Join(certs, as+".key"))
	if err != nil {
		s.t.Fatal(err)
	}
	c := s.tlsWithout()
	c.Certificates = []tls.Certificate{certificate}
	return c
}

func (s *service) tlsWithout() *tls.Config {
	s.t.Helper()
	pem, err := os.ReadFile(filepath.Join(s.dir, "certs", "ca.crt"))
	if err != nil {
		s.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
}

func (s *service) connect(c *tls.Config) *grpc.ClientConn {
	s.t.Helper()
	conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(credentials.NewTLS(c)))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			s.t.Error(err)
		}
	})
	return conn
}

// command runs keyd as a person does, with that text on its standard input, and returns
// standard output and what went wrong.
func (s *service) command(stdin string, args ...string) (string, error) {
	s.t.Helper()
	c := exec.Command(keydBinary, args...)
	c.Stdin = strings.NewReader(stdin)
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(errs.String()))
	}
	return string(out), err
}

// pins returns a client of PinService with the switch's certificate.
func (s *service) pins() keydv1.PinServiceClient {
	s.t.Helper()
	return keydv1.NewPinServiceClient(s.connect(s.tls("switch")))
}

func (s *service) status() *keydv1.GetStatusResponse {
	s.t.Helper()
	answer, err := keydv1.NewStatusServiceClient(s.connect(s.tls("auditor"))).GetStatus(s.ctx(), &keydv1.GetStatusRequest{})
	if err != nil {
		s.t.Fatal(err)
	}
	return answer
}

func (s *service) ctx() context.Context {
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	s.t.Cleanup(cancel)
	return ctx
}

// reason returns the reason of a refusal, or what else the error is.
func reason(err error) string {
	if err == nil {
		return "OK"
	}
	s, ok := status.FromError(err)
	if !ok {
		return err.Error()
	}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.Domain == "keyd" {
			return info.Reason
		}
	}
	return s.Code().String() + ": " + s.Message()
}

// testKey is an entry of a --keys file.
type testKey struct {
	Name      string   `json:"name"`
	Usage     string   `json:"usage"`
	Algorithm string   `json:"algorithm"`
	Mode      string   `json:"mode_of_use"`
	Value     string   `json:"value"`
	KSN       string   `json:"ksn,omitempty"`
	PINKind   string   `json:"pin_kind,omitempty"`
	Direction string   `json:"direction,omitempty"`
	Formats   []string `json:"formats,omitempty"`
	Peers     []string `json:"peers,omitempty"`
	MACLength int      `json:"mac_length,omitempty"`
	DataModes []string `json:"data_modes,omitempty"`
	IBM3624   *ibm3624 `json:"ibm3624,omitempty"`
}

type ibm3624 struct {
	Table  string `json:"decimalization_table"`
	Start  int    `json:"validation_start"`
	Length int    `json:"validation_length"`
	Pad    string `json:"validation_pad"`
}

var formats = map[string]keydv1.PinBlockFormat{
	"ISO-0": keydv1.PinBlockFormat_ISO_FORMAT_0,
	"ISO-1": keydv1.PinBlockFormat_ISO_FORMAT_1,
	"ISO-2": keydv1.PinBlockFormat_ISO_FORMAT_2,
	"ISO-3": keydv1.PinBlockFormat_ISO_FORMAT_3,
	"ISO-4": keydv1.PinBlockFormat_ISO_FORMAT_4,
}
