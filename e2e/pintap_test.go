package e2e

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// transcript is what clients and front say to each other, as it is before TLS.
type transcript struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (r *transcript) said(messages ...any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range messages {
		p, ok := m.(proto.Message)
		if !ok {
			continue
		}
		for _, encode := range []func(proto.Message) ([]byte, error){proto.Marshal, protojson.Marshal} {
			b, err := encode(p)
			if err != nil {
				return err
			}
			r.all.Write(b)
		}
	}
	return nil
}

// wrote keeps what is no message of the contract.
func (r *transcript) wrote(texts ...[]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range texts {
		r.all.Write(b)
	}
}

func (r *transcript) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.all.Bytes())
}

// recorded is a connection with the certificate of an identity, of which every message is kept.
func (s *service) recorded(as string, r *transcript) *grpc.ClientConn {
	s.t.Helper()
	conn, err := grpc.NewClient(s.address, grpc.WithTransportCredentials(credentials.NewTLS(s.tls(as))),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, request, reply any, c *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
			err := invoke(ctx, method, request, reply, c, options...)
			if e := r.said(request, reply); e != nil {
				s.t.Error(e)
			}
			return err
		}))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// tap records what a process reads and writes, by strace: with a module in clear frames, with others
// as they get it.
type tap struct {
	t     *testing.T
	trace *exec.Cmd
	path  string
}

func tapped(t *testing.T, pid int64) *tap {
	t.Helper()
	p := &tap{t: t, path: filepath.Join(t.TempDir(), "trace")}
	p.trace = exec.Command("strace", "-f", "-qq", "-xx", "-s", "1048576", "-o", p.path, "-p", strconv.Itoa(int(pid)),
		"-e", "trace=read,write,readv,writev,pread64,pwrite64,recvfrom,sendto,recvmsg,sendmsg")
	if err := p.trace.Start(); err != nil {
		t.Fatalf("%v: scripts/install-deps.sh test installs strace", err)
	}
	t.Cleanup(func() { p.end() })
	waitUntil(t, "traced", func() bool {
		status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(int(pid)), "status"))
		return err == nil && !strings.Contains(string(status), "TracerPid:\t0\n")
	})
	return p
}

// end lets the process go. It may be called again.
func (p *tap) end() {
	if p.trace.ProcessState != nil {
		return
	}
	_ = p.trace.Process.Signal(syscall.SIGINT)
	_ = p.trace.Wait() // it ends by the signal
}

var (
	tracedCall   = regexp.MustCompile(`^\d+ +(?:<\.\.\. )?([a-z0-9]+)(?:\((\d+))?`)
	tracedString = regexp.MustCompile(`"((?:\\x[0-9a-f]{2})+)"(\.\.\.)?`)
)

// streams are what went through each call and descriptor, run together: what is sent in two pieces
// is found all the same.
func (p *tap) streams() map[string][]byte {
	p.t.Helper()
	p.end()
	f, err := os.Open(p.path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // read only
	all := map[string][]byte{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		call := tracedCall.FindStringSubmatch(lines.Text())
		if call == nil {
			continue
		}
		for _, m := range tracedString.FindAllStringSubmatch(lines.Text(), -1) {
			if m[2] != "" {
				p.t.Fatal("the trace cuts what is long")
			}
			of := call[1] + " " + call[2]
			all[of] = append(all[of], unhex(p.t, strings.ReplaceAll(m[1], `\x`, ""))...)
		}
	}
	if err := lines.Err(); err != nil {
		p.t.Fatal(err)
	}
	return all
}
