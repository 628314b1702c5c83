package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// unit returns what a setting of the shipped unit is.
func unit(t *testing.T, setting string) string {
	t.Helper()
	b, err := os.ReadFile("../systemd/keyd.service")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if value, found := strings.CutPrefix(line, setting+"="); found {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("the unit has no %s", setting)
	return ""
}

// TestUnit runs keyd serve with no more capabilities than the shipped unit leaves it, and
// without new privileges: it starts, gives its processes their users and the modules their
// locked memory, replaces one, reloads files that it does not own, and stops.
func TestUnit(t *testing.T) {
	if !asRoot(t) { // only root has capabilities to be without
		return
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Fatal(err)
	}
	bounding := "-all"
	for _, c := range strings.Fields(unit(t, "CapabilityBoundingSet")) {
		bounding += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}
	p := newProduction(t)
	p.initialise()

	m := newManager(t, filepath.Join(p.dir, "notify"))
	cmd := exec.Command(setpriv, "--bounding-set", bounding, "--no-new-privs", keydBinary, "serve", "--config", p.conf)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(p.dir, "notify"), "WATCHDOG_USEC=750000")
	var log syncBuffer
	cmd.Stderr = &log
	p.must(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log.String())
		}
	})
	waitUntil(t, "READY=1", func() bool { return m.count("READY=1") == 1 })
	waitUntil(t, "WATCHDOG=1", func() bool { return m.count("WATCHDOG=1") > 0 })
	address := ""
	waitUntil(t, "the address", func() bool {
		_, after, found := strings.Cut(log.String(), `"msg":"serving","address":"`)
		address, _, _ = strings.Cut(after, `"`)
		return found
	})
	s := &service{t: t, dir: filepath.Join(p.dir, "dev"), address: address, cmd: cmd, ended: make(chan struct{})}
	status := s.status()
	if len(status.Tokens) != 1 {
		t.Fatalf("status: %v", status)
	}
	measures := map[string]string{}
	for _, measure := range status.Tokens[0].Confinement {
		measures[measure.Name] = measure.State
	}
	for _, name := range []string{"separate-users", "memory-locked"} {
		if measures[name] != "on" {
			t.Errorf("%s is %q", name, measures[name])
		}
	}
	for _, c := range status.Processes {
		if uid := userOf(t, c.Pid); uid == "0" {
			t.Errorf("%s runs as root", c.Role)
		}
	}

	// The key belongs to the front's user, and nobody else may read it.
	p.must(cmd.Process.Signal(syscall.SIGHUP))
	waitUntil(t, "READY=1 after a reload", func() bool { return m.count("READY=1") == 2 })
	waitUntil(t, "the log says that it was read", func() bool { return strings.Contains(log.String(), loaded) })
	// A module that hangs is another user's process, which the supervisor has to end.
	module := processes(status, "module")[0]
	p.must(syscall.Kill(int(module.Pid), syscall.SIGSTOP))
	waitUntil(t, "another module", func() bool {
		now := processes(s.status(), "module")
		return len(now) == 1 && now[0].Pid != module.Pid && now[0].State == "ready"
	})
	p.must(cmd.Process.Signal(syscall.SIGTERM))
	if err := <-ended; err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	if m.count("STOPPING=1") != 1 {
		t.Errorf("told: %q", m.said)
	}
}

// userOf returns the real user of a process.
func userOf(t *testing.T, pid int64) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), "\nUid:")
	return strings.Fields(after)[0]
}
