package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// manager is a service manager: the socket that NOTIFY_SOCKET names.
type manager struct {
	mu   sync.Mutex
	said []string
}

func newManager(t *testing.T, name string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	m := &manager{}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.said = append(m.said, string(b[:n]))
			m.mu.Unlock()
		}
	}()
	return m
}

// count returns how many datagrams had that line, or one that begins with it.
func (m *manager) count(line string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, datagram := range m.said {
		for _, l := range strings.Split(datagram, "\n") {
			if strings.HasPrefix(l, line) {
				n++
			}
		}
	}
	return n
}

// TestServiceManager follows what a service manager is told through a life: ready, alive,
// reloading, not alive without a module, stopping.
func TestServiceManager(t *testing.T) {
	for name, socket := range map[string]string{
		"abstract": fmt.Sprintf("@keyd-e2e-%d", os.Getpid()), "path": filepath.Join(tempDir(t), "notify"),
	} {
		t.Run(name, func(t *testing.T) {
			m := newManager(t, socket)
			t.Setenv("NOTIFY_SOCKET", socket)
			t.Setenv("WATCHDOG_USEC", "750000") // three signs of life: one in each tick of the supervisor
			s := start(t)
			waitUntil(t, "READY=1", func() bool { return m.count("READY=1") == 1 })
			waitUntil(t, "WATCHDOG=1", func() bool { return m.count("WATCHDOG=1") >= 2 })
			waitUntil(t, "STATUS=", func() bool { return m.count("STATUS=front ready, 2 of 2 modules ready") == 1 })

			// None of it is for the children.
			for _, p := range s.status().Processes {
				environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.Pid))
				if err != nil && os.Geteuid() != 0 {
					break // only root may look
				}
				if err != nil {
					t.Fatal(err)
				}
				if bytes.Contains(environ, []byte("NOTIFY")) || bytes.Contains(environ, []byte("WATCHDOG")) {
					t.Errorf("%s %d: %q", p.Role, p.Index, environ)
				}
			}

			s.reload(loaded)
			waitUntil(t, "READY=1 again", func() bool { return m.count("READY=1") == 2 })
			if m.count("RELOADING=1") != 1 || m.count("MONOTONIC_USEC=") != 1 {
				t.Errorf("after a reload: %q", m.said)
			}
			s.replace(s.file("config", "policy.yaml"), []byte("nonsense"))
			s.reload(kept)
			waitUntil(t, "the failed reload in STATUS=", func() bool { return m.count("STATUS=the last reload failed") == 1 })

			// Stopped modules answer nothing and are replaced; the manager sees it.
			before := m.count("STATUS=the last reload failed, see the log; front ready, 1 of 2")
			kill(processes(s.status(), "module")[0])
			waitUntil(t, "fewer modules in STATUS=", func() bool {
				return m.count("STATUS=the last reload failed, see the log; front ready, 1 of 2") > before
			})
			if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			<-s.ended
			waitUntil(t, "STOPPING=1", func() bool { return m.count("STOPPING=1") == 1 })
		})
	}
}
