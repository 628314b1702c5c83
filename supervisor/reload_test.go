package supervisor

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"keyd/supervisor/notify"
)

// listener is a service manager that keeps what it is told.
type listener struct {
	mu   sync.Mutex
	said []string
}

func (l *listener) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.said...)
}

func (l *listener) has(line string, times int) func() bool {
	return func() bool {
		n := 0
		for _, s := range l.lines() {
			if s == line {
				n++
			}
		}
		return n >= times
	}
}

func manage(t *testing.T, watchdog string) (*notify.Manager, *listener) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, 4096)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			l.mu.Lock()
			l.said = append(l.said, strings.Split(string(b[:n]), "\n")...)
			l.mu.Unlock()
		}
	}()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", watchdog)
	m, err := notify.FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = m.Close()
		_ = conn.Close()
		<-ended
	})
	return m, l
}

// TestReload hands files to the front again and again: replaced by renaming, wrong, missing,
// a pipe in a file's place, and while the front is replaced.
func TestReload(t *testing.T) {
	manager, told := manage(t, "")
	dir := t.TempDir()
	policy, key := filepath.Join(dir, "policy"), filepath.Join(dir, "key")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path+".next", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".next", path); err != nil {
			t.Fatal(err)
		}
	}
	write(policy, "one")
	write(key, "k")
	hup := make(chan os.Signal, 1)
	config := doubles(1)
	config.Files = []Reloadable{{Name: "policy", Path: policy}, {Name: "key", Path: key}}
	config.Reload, config.Notify = hup, manager
	s := startService(t, config, standard)
	eventually(t, "READY=1", told.has("READY=1", 1))
	is := func(want string) func(string) bool { return func(a string) bool { return a == want } }

	write(policy, "two")
	hup <- unix.SIGHUP
	s.mustAsk("reloaded", is("policy=two key=k"))
	eventually(t, "READY=1 again", told.has("READY=1", 2))
	if !told.has("RELOADING=1", 1)() {
		t.Errorf("told: %q", told.lines())
	}

	write(policy, "bad")
	hup <- unix.SIGHUP
	s.mustAsk("reloaded", is("policy=bad key=k"))
	eventually(t, "the failure", told.has("STATUS=the last reload failed, see the log; front ready, 1 of 1 modules ready", 1))

	if err := os.Remove(policy); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(key+".next", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(key+".next", key); err != nil {
		t.Fatal(err)
	}
	hup <- unix.SIGHUP // nobody writes into the pipe, and nobody waits for that
	s.mustAsk("reloaded", is("policy=missing key="))

	write(policy, "three")
	write(key, "l")
	front := s.pid("pid")
	if err := unix.Kill(front, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	hup <- unix.SIGHUP
	s.mustAsk("pid", func(a string) bool { return a != "" })
	hup <- unix.SIGHUP
	s.mustAsk("reloaded", is("policy=three key=l"))
	eventually(t, "no failure any more", told.has("STATUS=front ready, 1 of 1 modules ready", 1))
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "STOPPING=1", told.has("STOPPING=1", 1))
}

// TestNoSignOfLifeWithoutService: the manager hears nothing while no module is ready.
func TestNoSignOfLifeWithoutService(t *testing.T) {
	manager, told := manage(t, "750000")
	config := doubles(1)
	config.Notify = manager
	s := startService(t, config, standard)
	eventually(t, "signs of life", told.has("WATCHDOG=1", 2))
	module := s.pid("module 0 pid")
	if err := unix.Kill(module, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// From the moment at which the module is known to hang until another is ready.
	eventually(t, "no module is ready", told.has("STATUS=front ready, 0 of 1 modules ready", 1))
	eventually(t, "a new module", func() bool {
		lines := told.lines()
		silent := false
		for _, line := range lines {
			switch {
			case strings.HasSuffix(line, "0 of 1 modules ready"):
				silent = true
			case strings.HasSuffix(line, "1 of 1 modules ready"):
				silent = false
			case line == "WATCHDOG=1" && silent:
				t.Fatalf("a sign of life without a module: %q", lines)
			}
		}
		return !silent
	})
}

// A front says of each reload once what became of it, and of none that was not.
func TestReloadIsAnsweredOnce(t *testing.T) {
	const last = 1<<32 - 1
	r := reload{heard: last - 2}
	for _, c := range []struct {
		newest, said uint32
		want         bool
	}{
		{last - 1, last, false}, {last - 1, 0, false}, {last - 1, last - 1, true}, {last - 1, last - 1, false},
		{0, 1, false}, {0, 0, true}, {0, last, false}, {0, 0, false}, // the number goes on after its end
	} {
		r.seq = c.newest
		if got := r.answered(c.said); got != c.want {
			t.Errorf("%d of %d: %v", c.said, c.newest, got)
		}
	}
}
