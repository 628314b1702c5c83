// Command bench is the load generator of make bench: it starts a real development
// service (mutual TLS, policy, audit), drives it with clients in this process, and
// measures in the same run what the bare token does with the same PKCS#11 calls.
//
// Figures depend on the machine and on who else uses it: compare within a run.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	keydv1 "keyd/api/keyd/v1"
)

func main() {
	keyd := flag.String("keyd", "bin/keyd", "the binary to measure")
	seconds := flag.Float64("seconds", 3, "length of each measurement")
	clients := flag.Int("clients", 128, "calls under way at once")
	connections := flag.Int("connections", 4, "connections that share them")
	flag.Parse()
	if err := run(*keyd, time.Duration(*seconds*float64(time.Second)), *clients, *connections); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(keyd string, length time.Duration, clients, connections int) (err error) {
	dir, err := os.MkdirTemp("", "keyd-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	s, err := start(keyd, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	conns, err := s.connect(connections)
	if err != nil {
		return err
	}
	status, err := s.status()
	if err != nil {
		return err
	}
	bare, err := newBareToken(dir)
	if err != nil {
		return err
	}
	fmt.Printf("%s, %d processors, %s; %d calls under way on %d connections, %v each; load generator on the same processors\n\n",
		status.Version, runtime.NumCPU(), runtime.GOARCH, clients, connections, length)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "operation\t\tops/s\tp50 ms\tp99 ms\tp99.9 ms\tfront µs\tmodules µs\tclient µs\tbare token/s\tratio\t") //nolint:errcheck // Flush reports it
	for _, o := range operations {
		rate, err := bare.rate(o, length/3)
		if err != nil {
			return fmt.Errorf("%s on the bare token: %w", o.name, err)
		}
		for _, mode := range []string{"unary", "stream"} {
			drive := o.unary
			if mode == "stream" {
				if drive = o.stream; drive == nil {
					continue
				}
			}
			before := readCPU(status)
			m := measure(conns, clients, length, drive)
			cpu := readCPU(status).minus(before)
			if m.err != nil {
				return fmt.Errorf("%s, %s: %w", o.name, mode, m.err)
			}
			n := float64(len(m.latencies))
			fmt.Fprintf(w, "%s\t%s\t%.0f\t%.2f\t%.2f\t%.2f\t%.1f\t%.1f\t%.1f\t%.0f\t%.2f\t\n", o.name, mode, n/m.took.Seconds(), //nolint:errcheck // Flush reports it
				m.percentile(0.5), m.percentile(0.99), m.percentile(0.999),
				cpu.front/n, cpu.modules/n, cpu.client/n, rate, n/m.took.Seconds()/rate)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Println("\nbare token: one process, one session, the same PKCS#11 calls for each operation, nothing else.")
	fmt.Printf("keyd: %d modules, each a client of the token of its own.\n", len(status.Processes)-1)
	return nil
}

// service is the development service under load.
type service struct {
	cmd     *exec.Cmd
	dir     string
	address string
}

func start(keyd, dir string) (*service, error) {
	keys, err := json.Marshal(testKeys)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "keys.json")
	if err := os.WriteFile(file, keys, 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the service has its own descriptor
	s := &service{cmd: exec.Command(keyd, "dev", "--dir", filepath.Join(dir, "dev"), "--listen", "127.0.0.1:0", "--keys", file), dir: filepath.Join(dir, "dev")}
	s.cmd.Stderr = log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w (make build makes it)", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	address, ready := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ready {
		text, _ := os.ReadFile(log.Name()) // what there is of it
		return nil, fmt.Errorf("the service did not start:\n%s", text)
	}
	s.address = address
	return s, nil
}

func (s *service) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return s.cmd.Wait()
}

func (s *service) dial(as string) (*grpc.ClientConn, error) {
	certs := filepath.Join(s.dir, "certs")
	pem, err := os.ReadFile(filepath.Join(certs, "ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	certificate, err := tls.LoadX509KeyPair(filepath.Join(certs, as+".crt"), filepath.Join(certs, as+".key"))
	if err != nil {
		return nil, err
	}
	return grpc.NewClient(s.address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{certificate},
	})))
}

func (s *service) connect(n int) ([]*grpc.ClientConn, error) {
	var conns []*grpc.ClientConn
	for range n {
		c, err := s.dial("switch")
		if err != nil {
			return nil, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

func (s *service) status() (*keydv1.GetStatusResponse, error) {
	c, err := s.dial("auditor")
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // the answer is there
	return keydv1.NewStatusServiceClient(c).GetStatus(context.Background(), &keydv1.GetStatusRequest{})
}
