package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	keydv1 "keyd/api/keyd/v1"
)

// server is a process that was started for the measurement and that answers calls: a
// development service, or the server of empty calls.
type server struct {
	name    string
	certs   string // directory of the certificates
	address string // on 127.0.0.1
	conns   []*grpc.ClientConn
	cmd     *exec.Cmd
	ended   chan struct{} // closed when the process has
	err     error         // then: how
	log     string        // file
}

// startService starts keyd dev in a new directory with the given keys, and with flags besides
// those that every service has. Loading many keys takes long: progress is told.
func startService(ctx context.Context, o *options, keyd, dir string, keys []testKey, flags ...string) (*server, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "keys.json")
	if err := writeKeys(file, keys); err != nil {
		return nil, err
	}
	dev := filepath.Join(dir, "dev")
	s := &server{name: "keyd dev", certs: filepath.Join(dev, "certs"), log: filepath.Join(dir, "log")}
	limit := time.Minute + time.Duration(len(keys))*10*time.Millisecond
	told := make(chan struct{})
	defer close(told)
	go func() {
		began := time.Now()
		for every := time.NewTicker(10 * time.Second); ; {
			select {
			case <-told:
				every.Stop()
				return
			case <-every.C:
				fmt.Fprintf(o.progress, "    loading %d keys: %v\n", len(keys), time.Since(began).Round(time.Second)) //nolint:errcheck // progress only
			}
		}
	}()
	return s, s.start(ctx, limit, keyd, append([]string{"dev", "--dir", dev, "--listen", "127.0.0.1:0", "--keys", file}, flags...)...)
}

// start starts the process and waits until it says where it listens. The process is in
// a group of its own, so that Ctrl-C does not reach it before the load has ended, and
// gets SIGTERM should this process die.
func (s *server) start(ctx context.Context, limit time.Duration, name string, args ...string) error {
	log, err := os.Create(s.log)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the process has its own descriptor
	s.cmd = exec.Command(name, args...)
	s.cmd.Stderr = log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	s.ended = make(chan struct{})
	started, allRead := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // the signal comes when the thread that started the process ends
		defer runtime.UnlockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			<-allRead
			s.err = s.cmd.Wait()
		}
		close(s.ended)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w (make build makes it)", s.name, err)
	}
	ready := make(chan string, 1)
	go func() {
		in := bufio.NewReader(out)
		line, _ := in.ReadString('\n') // an incomplete line is no address either
		ready <- line
		_, _ = io.Copy(io.Discard, in) // ends with the process
		close(allRead)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var why error
	select {
	case line := <-ready:
		address, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
		if ok && strings.HasPrefix(address, "127.0.0.1:") {
			s.address = address
			return nil
		}
		why = s.logged("did not start")
	case <-timer.C:
		why = s.logged(fmt.Sprintf("was not ready within %v", limit))
	case <-ctx.Done():
		why = context.Cause(ctx)
	}
	_ = s.stop() // it did not start; why is known
	return why
}

// logged returns an error with the end of the process's log.
func (s *server) logged(what string) error {
	b, err := os.ReadFile(s.log)
	if err != nil {
		return fmt.Errorf("%s %s, and its log cannot be read: %w", s.name, what, err)
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return fmt.Errorf("%s %s; the end of its log:\n%s", s.name, what, bytes.Join(lines[max(0, len(lines)-10):], []byte("\n")))
}

// stop ends the process: asked first, killed when it does not.
func (s *server) stop() error {
	var errs []error
	for _, c := range s.conns {
		errs = append(errs, c.Close())
	}
	select {
	case <-s.ended:
		errs = append(errs, s.logged(fmt.Sprintf("ended by itself (%v)", s.err)))
		return errors.Join(errs...)
	default:
	}
	errs = append(errs, s.cmd.Process.Signal(syscall.SIGTERM))
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-s.ended:
		if s.err != nil {
			errs = append(errs, s.logged(fmt.Sprintf("did not end well (%v)", s.err)))
		}
	case <-timer.C:
		errs = append(errs, s.cmd.Process.Kill(), fmt.Errorf("%s did not end within %v of SIGTERM and was killed", s.name, patience))
		<-s.ended
	}
	return errors.Join(errs...)
}

// dial returns a connection with a client certificate of the development directory.
func (s *server) dial(as string) (*grpc.ClientConn, error) {
	roots, err := s.roots()
	if err != nil {
		return nil, err
	}
	certificate, err := tls.LoadX509KeyPair(filepath.Join(s.certs, as+".crt"), filepath.Join(s.certs, as+".key"))
	if err != nil {
		return nil, err
	}
	return grpc.NewClient(s.address,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{certificate},
		})),
		grpc.WithDisableRetry(), // a load repeats nothing
		grpc.WithDisableServiceConfig(),
	)
}

// roots are what a client of the service believes.
func (s *server) roots() (*x509.CertPool, error) {
	pem, err := os.ReadFile(filepath.Join(s.certs, "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("ca.crt holds no certificate")
	}
	return roots, nil
}

// connect makes the connections of the load.
func (s *server) connect(n int) error {
	for range n {
		c, err := s.dial("switch")
		if err != nil {
			return err
		}
		s.conns = append(s.conns, c)
	}
	return nil
}

func (s *server) status(ctx context.Context) (_ *keydv1.GetStatusResponse, err error) {
	c, err := s.dial("auditor")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	status, err := keydv1.NewStatusServiceClient(c).GetStatus(ctx, &keydv1.GetStatusRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask %s for its status: %w", s.name, err)
	}
	return status, nil
}

// settled waits until every process of the service is ready, and returns its status. A
// service is ready with its first module: the others may follow.
func (s *server) settled(ctx context.Context) (*keydv1.GetStatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for poll := time.NewTicker(50 * time.Millisecond); ; {
		status, err := s.status(ctx)
		if err != nil {
			poll.Stop()
			return nil, err
		}
		waiting, modules := "", 0
		for _, p := range status.GetProcesses() {
			if p.GetRole() == "module" {
				modules++
			}
			if p.GetState() != "ready" {
				waiting = fmt.Sprintf("%s %d is %s after %d restarts (%s)", p.GetRole(), p.GetIndex(), p.GetState(), p.GetRestarts(), p.GetLastExit())
			}
		}
		if waiting == "" && modules > 0 && len(status.GetTokens()) == modules {
			poll.Stop()
			return status, nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			poll.Stop()
			return nil, fmt.Errorf("the service did not settle within %v: %s; %d modules, of which %d answered", patience, waiting, modules, len(status.GetTokens()))
		}
	}
}
