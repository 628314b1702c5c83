package notify

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func listen(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func receive(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	b := make([]byte, 4096)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestDatagrams(t *testing.T) {
	for name, socket := range map[string]string{
		"path": filepath.Join(t.TempDir(), "notify"), "abstract": fmt.Sprintf("@keyd-notify-%d", os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			conn := listen(t, socket)
			t.Setenv("NOTIFY_SOCKET", socket)
			t.Setenv("WATCHDOG_USEC", "2000000")
			t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
			m, err := FromEnvironment()
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if m.Watchdog() != 2*time.Second {
				t.Errorf("watchdog: %v", m.Watchdog())
			}
			for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
				if v, ok := os.LookupEnv(name); ok {
					t.Errorf("%s=%s is left for children", name, v)
				}
			}
			if err := m.Send("READY=1", "STATUS=all is well"); err != nil {
				t.Fatal(err)
			}
			if got := receive(t, conn); got != "READY=1\nSTATUS=all is well" {
				t.Errorf("%q", got)
			}
			if err := m.Send(); err != nil {
				t.Fatal(err)
			}
			if err := m.Send("RELOADING=1", m.Now()); err != nil {
				t.Fatal(err)
			}
			got, found := strings.CutPrefix(receive(t, conn), "RELOADING=1\nMONOTONIC_USEC=")
			if n, err := strconv.ParseInt(got, 10, 64); !found || err != nil || n <= 0 {
				t.Errorf("%q: %v", got, err)
			}
		})
	}
}

func TestWithoutAManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	m, err := FromEnvironment()
	if m != nil || err != nil {
		t.Fatal(m, err)
	}
	if m.Watchdog() != 0 || m.Send("READY=1") != nil || m.Close() != nil {
		t.Error("a nil manager is told nothing, without error")
	}
	for _, bad := range []string{"relative", "@", filepath.Join(t.TempDir(), "nobody")} {
		t.Setenv("NOTIFY_SOCKET", bad)
		if m, err := FromEnvironment(); err == nil {
			t.Errorf("%q: %v", bad, m)
		}
	}
}

// A watchdog that is another process's, or no number, is none.
func TestWatchdogOfAnother(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	listen(t, socket)
	for _, v := range []struct{ usec, pid string }{{"1000000", "1"}, {"-1", ""}, {"soon", ""}, {"18446744073709551615", ""}, {"", ""}} {
		t.Setenv("NOTIFY_SOCKET", socket)
		t.Setenv("WATCHDOG_USEC", v.usec)
		t.Setenv("WATCHDOG_PID", v.pid)
		m, err := FromEnvironment()
		if err != nil {
			t.Fatal(err)
		}
		if m.Watchdog() != 0 {
			t.Errorf("%v: %v", v, m.Watchdog())
		}
		_ = m.Close()
	}
}

// A manager that does not read holds nobody up.
func TestManagerThatDoesNotRead(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	listen(t, socket)
	t.Setenv("NOTIFY_SOCKET", socket)
	m, err := FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for range 10_000 {
		if err := m.Send("STATUS=" + strings.Repeat("x", 1000)); err != nil {
			return // full, and said so
		}
	}
	t.Error("the socket never filled up")
}
