package confine

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// expectation is what every thread must get for a probe in each part.
type expectation struct{ front, module, network string }

var expectations = map[string]expectation{
	"early: memory of a sibling": {"EACCES", "EACCES", "EACCES"},
	"early: own privileges":      {"allowed", "allowed", "allowed"},
	"early: dumpable":            {"allowed", "allowed", "allowed"},
	"early: raise core limit":    {"EPERM", "EPERM", "EPERM"},

	"files: outside":              {"EACCES", "EACCES", "EACCES"},
	"files: memory of a sibling":  {"EACCES", "EACCES", "EACCES"},
	"files: own memory":           {"EACCES", "EACCES", "EACCES"},
	"files: named file":           {"allowed", "allowed", "allowed"},
	"files: own directory":        {"allowed", "allowed", "allowed"},
	"files: exec":                 {"EACCES", "EACCES", "EACCES"},
	"files: signal":               {"EPERM", "EPERM", "EPERM"},
	"files: signal an own thread": {"allowed", "allowed", "allowed"},
	"files: bind":                 {"EACCES", "EACCES", "EACCES"},
	"files: connect":              {"EACCES", "EACCES", "ECONNREFUSED"}, // port 9, where nobody is

	"signal an own thread": {"allowed", "allowed", "allowed"},
	"execve":               {"EPERM", "EPERM", "EPERM"},
	"execveat":             {"EPERM", "EPERM", "EPERM"},
	"start a process":      {"EPERM", "EPERM", "EPERM"},
	"ptrace":               {"EPERM", "EPERM", "EPERM"},
	"process_vm_readv":     {"EPERM", "EPERM", "EPERM"},
	"pidfd_getfd":          {"EPERM", "EPERM", "EPERM"},
	"clone3":               {"ENOSYS", "ENOSYS", "ENOSYS"},
	"bpf":                  {"EPERM", "EPERM", "EPERM"},
	"io_uring_setup":       {"EPERM", "EPERM", "EPERM"},
	"unshare":              {"EPERM", "EPERM", "EPERM"},
	"mount":                {"EPERM", "EPERM", "EPERM"},
	"keyctl":               {"EPERM", "EPERM", "EPERM"},
	"memfd_create":         {"EPERM", "EPERM", "EPERM"},
	"socket inet":          {"EPERM", "EPERM", "allowed"},
	"socket unix":          {"EPERM", "EPERM", "EPERM"},
	"socket mptcp":         {"EPERM", "EPERM", "EPERM"},
	"socket mptcp, wide":   {"EPERM", "EPERM", "EPERM"},
	"bind":                 {"EPERM", "EPERM", "EPERM"},
	"listen":               {"EPERM", "EPERM", "EPERM"},
	"dumpable":             {"EPERM", "EPERM", "EPERM"},
	"dumpable, wide":       {"EPERM", "EPERM", "EPERM"},
	"kill the parent":      {"EPERM", "EPERM", "EPERM"},
	"newer than known":     {"ENOSYS", "ENOSYS", "ENOSYS"},
	"own a descriptor":     {"EPERM", "allowed", "allowed"},
	"signal by descriptor": {"EPERM", "allowed", "allowed"},
	"duplicate":            {"allowed", "allowed", "allowed"},
	"write and execute":    {"EPERM", "EPERM", "EPERM"},
	"execute":              {"EPERM", "allowed", "allowed"},
}

// unlock is what an unlock gets: what a front does, and TCP to the one port.
func (e expectation) unlock(name string) string {
	if name == "files: connect" || name == "socket inet" {
		return e.network
	}
	return e.front
}

// sibling starts a process of the same user that has only taken the early steps.
func sibling(t *testing.T, credential *syscall.Credential) string {
	t.Helper()
	cmd := command("sibling", "", "")
	cmd.Stderr = t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "still\n" {
		t.Fatalf("sibling: %q, %v", line, err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error("sibling:", err)
		}
	})
	return strconv.Itoa(cmd.Process.Pid)
}

// confined runs a part and returns what it found. A front gets a TLS client.
func confined(t *testing.T, part string, credential *syscall.Credential) (r result) {
	t.Helper()
	dir := t.TempDir()
	if credential != nil {
		publish(t)
		for _, d := range []string{dir, filepath.Dir(dir)} {
			if err := os.Chmod(d, 0o777); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := command(part, dir, sibling(t, credential))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	var out bytes.Buffer
	cmd.Stdout = &out
	messages, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(messages)
	if part == "front" {
		address, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		go talk(t, strings.TrimSpace(address))
	}
	rest, _ := io.ReadAll(lines)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, rest)
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v: %s", err, out.Bytes())
	}
	for _, m := range r.Report.Measures {
		t.Logf("%-24s %-8s %s", m.Name, m.State, m.Why)
	}
	return r
}

// talk is the client of a front: the connection waits in the backlog until it serves.
func talk(t *testing.T, address string) {
	conn, err := tls.Dial("tcp", address, &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true}) // nolint:gosec // whether it serves is the question, not who it is
	if err != nil {
		t.Error("client:", err)
		return
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("ping")); err != nil {
		t.Error("client:", err)
	}
	b := make([]byte, 4)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "ping" {
		t.Errorf("client got %q, %v", b, err)
	}
}

func TestConfinedOnEveryThread(t *testing.T) {
	for _, part := range []string{"front", "module", "network", "unlock"} {
		t.Run(part, func(t *testing.T) { check(t, part, confined(t, part, nil)) })
	}
}

// The same as a user without any privilege, with a sibling of the same user.
func TestConfinedAsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		return // TestConfinedOnEveryThread has just shown it
	}
	for _, part := range []string{"front", "module", "unlock"} {
		t.Run(part, func(t *testing.T) {
			r := confined(t, part, &syscall.Credential{Uid: 65001, Gid: 65001})
			check(t, part, r)
			states := states(r.Report)
			if states["capability-bounding-set"] != Partial {
				t.Error("the bounding set was changed without CAP_SETPCAP")
			}
			var limit unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
				t.Fatal(err)
			}
			if part != "front" && limit.Cur < enoughToLock && states["memory-locked"] != Off {
				t.Error("all memory was locked under a small limit")
			}
		})
	}
}

func check(t *testing.T, part string, r result) {
	t.Helper()
	for name, want := range expectations {
		expected := map[string]string{"front": want.front, "module": want.module, "network": want.network, "unlock": want.unlock(name)}[part]
		if got := r.Probes[name]; got != expected {
			t.Errorf("%s: %s, want %s", name, got, expected)
		}
	}
	for what, fault := range r.Works {
		t.Errorf("%s no longer work: %s", what, fault)
	}
	states := states(r.Report)
	names := []string{"core-limit", "not-dumpable", "parent-death-signal", "no-new-privileges", "capabilities", "landlock-files", "seccomp"}
	for _, name := range names {
		if states[name] != On {
			t.Errorf("%s is %q", name, states[name])
		}
	}
	if _, reported := states["memory-locked"]; reported != (part != "front") {
		t.Error("memory-locked belongs to every report but the front's")
	}
	for _, m := range r.Report.Weak() {
		if m.Why == "" {
			t.Errorf("%s is %s without a reason", m.Name, m.State)
		}
	}
}

func states(r Report) map[string]State {
	m := make(map[string]State)
	for _, measure := range r.Measures {
		m[measure.Name] = measure.State
	}
	return m
}

// publish lets other users execute the test binary, whose directory is private.
func publish(t *testing.T) {
	t.Helper()
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(name); dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&1 == 0 {
			if err := os.Chmod(dir, info.Mode()|5); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(dir, info.Mode()) })
		}
	}
}

// A confined process that is made to dump core does not, whatever the limit was.
func TestNoCoreFile(t *testing.T) {
	for _, kind := range []Kind{Front, Module} {
		cmd := command("abort", string(kind), "")
		cmd.Dir = t.TempDir()
		err := cmd.Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatalf("%s: %v", kind, err)
		}
		if status, ok := exit.Sys().(syscall.WaitStatus); !ok || status.CoreDump() {
			t.Errorf("%s dumped core", kind)
		}
		if files, err := os.ReadDir(cmd.Dir); err != nil || len(files) != 0 {
			t.Errorf("%s left %v, %v", kind, files, err)
		}
	}
}

func TestForeignParentIsRefused(t *testing.T) {
	if out, err := command("orphan", "", "").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestMistakesOfTheCaller(t *testing.T) {
	if _, err := New("server"); err == nil {
		t.Error("an unknown kind was accepted")
	}
	if _, err := New(Module, 0); err == nil {
		t.Error("port 0 was accepted")
	}
	c, err := New(Front)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Filesystem(Paths{}); !errors.Is(err, ErrOrder) {
		t.Errorf("Filesystem first: %v", err)
	}
	if err := c.Syscalls(); !errors.Is(err, ErrOrder) {
		t.Errorf("Syscalls first: %v", err)
	}
	for name, p := range map[string]Paths{
		"relative":      {ReadDirs: []string{"etc"}},
		"missing":       {WriteDirs: []string{"/does/not/exist"}},
		"file as dir":   {ReadDirs: []string{"/etc/passwd"}},
		"dir as a file": {ReadFiles: []string{"/etc"}},
	} {
		if _, err := p.rules(Front); err == nil {
			t.Errorf("%s path was accepted", name)
		}
	}
}
