// Package notify tells a service manager how a service stands: sd_notify(3), one
// datagram of NAME=VALUE lines to the socket that NOTIFY_SOCKET names.
//
// Only the supervisor uses it. Its children do not get the variables: their environment
// is only what their command lists.
package notify

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Manager is a service manager that wants to be told. A nil Manager is told nothing.
type Manager struct {
	conn     *net.UnixConn
	watchdog time.Duration
}

// FromEnvironment returns the manager that started this process and takes its variables
// out of the environment; nil if there is none. A socket is a path or, after @, an
// abstract name.
func FromEnvironment() (*Manager, error) {
	socket, usec, pid := os.Getenv("NOTIFY_SOCKET"), os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if err := os.Unsetenv(name); err != nil {
			return nil, fmt.Errorf("notify: %w", err)
		}
	}
	if socket == "" {
		return nil, nil
	}
	if !strings.HasPrefix(socket, "/") && !strings.HasPrefix(socket, "@") {
		return nil, fmt.Errorf("notify: NOTIFY_SOCKET %q is neither a path nor an abstract name", socket)
	}
	// net takes a leading @ for an abstract name, too.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	m := &Manager{conn: conn}
	if pid == "" || pid == strconv.Itoa(os.Getpid()) {
		if n, err := strconv.ParseUint(usec, 10, 63); err == nil && n < 1<<62/uint64(time.Microsecond) {
			m.watchdog = time.Duration(n) * time.Microsecond
		}
	}
	return m, nil
}

// Watchdog returns within which time the manager wants a WATCHDOG=1; 0 if it wants none.
func (m *Manager) Watchdog() time.Duration {
	if m == nil {
		return 0
	}
	return m.watchdog
}

// sendLimit keeps a manager that does not read from holding up the service.
const sendLimit = 100 * time.Millisecond

// Send sends lines, "READY=1", in one datagram. Without any it does nothing.
func (m *Manager) Send(lines ...string) error {
	if m == nil || len(lines) == 0 {
		return nil
	}
	if err := m.conn.SetWriteDeadline(time.Now().Add(sendLimit)); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	if _, err := m.conn.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}

// Now returns the line that goes with RELOADING=1: the monotonic clock in microseconds,
// by which the manager tells this reload from an earlier one.
func (m *Manager) Now() string {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return "MONOTONIC_USEC=0"
	}
	return "MONOTONIC_USEC=" + strconv.FormatInt(t.Nano()/int64(time.Microsecond), 10)
}

// Close closes the socket.
func (m *Manager) Close() error {
	if m == nil {
		return nil
	}
	return m.conn.Close()
}
