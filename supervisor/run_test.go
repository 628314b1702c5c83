package supervisor

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"keyd/supervisor/child"
	"keyd/supervisor/pinfile"
)

// service is a Run in this process.
type service struct {
	t       *testing.T
	address string
	cancel  context.CancelFunc
	result  chan error
	err     error
	once    sync.Once
	output  *bytes.Buffer // what the children said on standard error; after stop
	copied  chan struct{}
	pipe    *os.File
}

// startService starts Run and, unless it is expected to fail, waits until it is ready. At
// the end of the test nothing may be left: no goroutine, descriptor or process.
func startService(t *testing.T, config Config, times timing) *service {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	r, w, err := os.Pipe() // opens the runtime's own descriptors too, which stay
	if err != nil {
		t.Fatal(err)
	}
	before, err := openFiles()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := &service{t: t, cancel: cancel, result: make(chan error, 1), output: new(bytes.Buffer), copied: make(chan struct{}), pipe: w}
	go func() {
		defer close(s.copied)
		_, _ = s.output.ReadFrom(r)
		_ = r.Close()
	}()
	ready := make(chan string, 2)
	config.OnReady = func(a net.Addr) { ready <- a.String() }
	config.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	config.Stderr = w
	go func() { s.result <- run(ctx, config, times) }()
	t.Cleanup(func() {
		s.stop()
		goleak.VerifyNone(t, ignore)
		if after, err := openFiles(); err != nil || len(after) > len(before)-2 {
			t.Errorf("descriptors: %v before, %v after, %v", before, after, err)
		}
		if len(ready) > 0 {
			t.Error("OnReady was called twice")
		}
	})
	select {
	case s.address = <-ready:
	case err := <-s.result:
		s.result <- err
	case <-time.After(30 * time.Second):
		t.Fatal("not ready in 30 s")
	}
	return s
}

// stop ends the service, if it has not ended, and returns what Run returned.
func (s *service) stop() error {
	s.once.Do(func() {
		s.cancel()
		s.err = <-s.result
		_ = s.pipe.Close()
		<-s.copied
	})
	return s.err
}

// wait returns what Run returned by itself.
func (s *service) wait() error {
	s.t.Helper()
	select {
	case err := <-s.result:
		s.result <- err
	case <-time.After(30 * time.Second):
		s.t.Fatal("Run did not end in 30 s")
	}
	return s.stop()
}

// ask sends a command to the front.
func (s *service) ask(command string) (string, error) {
	conn, err := net.DialTimeout("tcp", s.address, time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := fmt.Fprintln(conn, command); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(answer), err
}

// mustAsk waits for an answer that accept likes.
func (s *service) mustAsk(command string, accept func(string) bool) (answer string) {
	s.t.Helper()
	eventually(s.t, command, func() bool {
		var err error
		answer, err = s.ask(command)
		return err == nil && accept(answer)
	})
	return answer
}

func (s *service) pid(command string) int {
	s.t.Helper()
	var pid int
	s.mustAsk(command, func(answer string) bool {
		_, after, found := strings.Cut(answer, ":")
		if !found {
			after = answer
		}
		n, err := strconv.Atoi(after)
		pid = n
		return err == nil
	})
	return pid
}

func (s *service) state() (state child.State) {
	s.t.Helper()
	s.mustAsk("state", func(answer string) bool { return json.Unmarshal([]byte(answer), &state) == nil })
	return state
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(20 * time.Second)
	for {
		if condition() {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func anything(string) bool { return true }

func TestServiceAnswersThroughEveryModule(t *testing.T) {
	s := startService(t, doubles(3), standard)
	for i := range 3 {
		want := fmt.Sprintf("%d:hello", i)
		s.mustAsk(fmt.Sprintf("module %d hello", i), func(a string) bool { return a == want })
	}
	s.mustAsk("state", func(answer string) bool {
		var state child.State
		if json.Unmarshal([]byte(answer), &state) != nil || len(state.Children) != 4 {
			return false
		}
		for i, c := range state.Children {
			if c.Phase != child.PhaseReady || c.PID == 0 || c.Restarts != 0 || (c.Role == child.RoleFront) != (i == 0) {
				return false
			}
		}
		return state.PINMemory == pinfile.MemorySecret || state.PINMemory == pinfile.MemoryOrdinary
	})
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
}

// Every kind of child is killed and frozen under traffic. No answer may be wrong, and
// service comes back with the same port while the others keep their processes.
func TestReplacedUnderTraffic(t *testing.T) {
	for _, victim := range []string{"pid", "module 1 pid"} {
		for _, signal := range []unix.Signal{unix.SIGKILL, unix.SIGSTOP} {
			t.Run(strings.Fields(victim)[0]+" "+signal.String(), func(t *testing.T) {
				s := startService(t, doubles(2), standard)
				pids := map[string]int{"pid": s.pid("pid"), "module 0 pid": s.pid("module 0 pid"), "module 1 pid": s.pid("module 1 pid")}
				stop := s.traffic(4, 2)
				begun := time.Now()
				if err := unix.Kill(pids[victim], signal); err != nil {
					t.Fatal(err)
				}
				eventually(t, "replacement", func() bool {
					answer, err := s.ask(victim)
					return err == nil && answer != "unavailable" && !strings.HasSuffix(":"+answer, ":"+strconv.Itoa(pids[victim]))
				})
				for i := range 2 {
					s.mustAsk(fmt.Sprintf("module %d x", i), func(a string) bool { return a == fmt.Sprintf("%d:x", i) })
				}
				t.Logf("full service after %v", time.Since(begun).Round(time.Millisecond))
				if good := stop(); good == 0 {
					t.Error("no traffic")
				}
				for command, old := range pids {
					if now := s.pid(command); (now == old) == (command == victim) {
						t.Errorf("%s was %d, now %d", command, old, now)
					}
				}
				for _, c := range s.state().Children {
					if dead := c.Restarts == 1; dead != (c.LastExit == "signal: killed") {
						t.Errorf("state %+v", c)
					}
				}
			})
		}
	}
}

// traffic asks every module all the time, until the function it returns is called; that
// returns the number of good answers. A wrong answer fails the test.
func (s *service) traffic(clients, modules int) func() int64 {
	done := make(chan struct{})
	var clientsDone sync.WaitGroup
	var good atomic.Int64
	for c := range clients {
		clientsDone.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				m := n % modules
				answer, err := s.ask(fmt.Sprintf("module %d %d-%d", m, c, n))
				switch {
				case err != nil || answer == "unavailable":
				case answer == fmt.Sprintf("%d:%d-%d", m, c, n):
					good.Add(1)
				default:
					s.t.Errorf("wrong answer %q", answer)
				}
			}
		})
	}
	return func() int64 {
		close(done)
		clientsDone.Wait()
		return good.Load()
	}
}

// A child that says it is not healthy is replaced like one that is frozen.
func TestUnhealthyIsReplaced(t *testing.T) {
	for _, of := range []string{"", "module 0 "} {
		s := startService(t, doubles(1), standard)
		old := s.pid(of + "pid")
		s.mustAsk(of+"sick", anything)
		eventually(t, "replacement", func() bool {
			answer, err := s.ask(of + "pid")
			return err == nil && answer != "unavailable" && !strings.HasSuffix(":"+answer, ":"+strconv.Itoa(old))
		})
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestChildrenGetNothingButTheirs(t *testing.T) {
	// Descriptors that the supervisor was started with, without close-on-exec.
	for range 3 {
		fd, err := unix.Open("/dev/zero", unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
	}
	t.Setenv("SECRET_OF_THE_SUPERVISOR", "1")
	config := doubles(2)
	config.Module.Env = []string{"ONLY=this"}
	s := startService(t, config, standard)
	// Null, standard error twice; Go's epoll and eventfd; the control socket; then the
	// PIN (the double leaves it open) and the channel, or the TCP socket, this
	// connection and two channels.
	for command, want := range map[string][]string{
		"module 0 fds": {"/dev/null", "/secretmem", "anon_inode", "anon_inode", "pipe", "pipe", "socket", "socket"},
		"module 1 fds": {"/dev/null", "/secretmem", "anon_inode", "anon_inode", "pipe", "pipe", "socket", "socket"},
		"fds":          {"/dev/null", "anon_inode", "anon_inode", "pipe", "pipe", "socket", "socket", "socket", "socket", "socket"},
	} {
		var got []string // settles when earlier connections have been closed
		defer func() {
			if t.Failed() {
				t.Logf("%s: %v, want %v", command, got, want)
			}
		}()
		s.mustAsk(command, func(answer string) bool {
			_, names, found := strings.Cut(answer, ":")
			if !found {
				names = answer
			}
			got = strings.Fields(strings.ReplaceAll(names, "/memfd", "/secretmem"))
			got = slices.DeleteFunc(got, func(s string) bool { return s == "(deleted)" || strings.HasPrefix(s, "/sys/fs/cgroup/") }) // Go's runtime watches its CPU limit
			return slices.Equal(got, want)
		})
	}
	if got := s.mustAsk("module 0 env", anything); got != "0:ONLY=this" {
		t.Errorf("module's environment is %q", got)
	}
	if got := s.mustAsk("env", anything); got != "" {
		t.Errorf("front's environment is %q", got)
	}
}

func TestUsersAndCapabilities(t *testing.T) {
	if os.Geteuid() != 0 {
		config := doubles(1)
		config.Front.User = &User{UID: 1, GID: 1}
		config.Logger = slog.New(slog.DiscardHandler)
		if err := Run(t.Context(), config); err == nil || !strings.Contains(err.Error(), "only root") {
			t.Errorf("Run as a user: %v", err)
		}
		return
	}
	publish(t)
	config := doubles(1)
	config.Front.User = &User{UID: 65001, GID: 65002}
	config.Module.User = &User{UID: 65003, GID: 65004}
	s := startService(t, config, standard)
	want := "0:0"
	if mayLock() {
		want = "0:" + strconv.Itoa(1<<unix.CAP_IPC_LOCK)
	}
	for command, want := range map[string]string{
		"user": "65001 65002 []", "module 0 user": "0:65003 65004 []", "caps": "0", "module 0 caps": want,
	} {
		if got := s.mustAsk(command, func(a string) bool { return a != "unavailable" }); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
}

// publish lets other users execute the test binary, whose directory is private.
func publish(t *testing.T) {
	t.Helper()
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for dir := name; dir != "/"; dir = dir[:max(strings.LastIndexByte(dir, '/'), 1)] {
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

func TestProvisionOutputIsHandedOverOnce(t *testing.T) {
	in, err := os.CreateTemp(t.TempDir(), "keys")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := in.WriteString("a file"); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	config := doubles(1)
	config.Provision = &Command{Args: []string{"internal", "provision"}, Input: in}
	s := startService(t, config, standard)
	if got := s.mustAsk("provision", anything); got != "provisioned from a file" {
		t.Errorf("first front got %q", got)
	}
	old := s.pid("pid")
	if err := unix.Kill(old, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "new front", func() bool {
		answer, err := s.ask("pid")
		return err == nil && answer != strconv.Itoa(old)
	})
	if got := s.mustAsk("provision", anything); got != "nothing" {
		t.Errorf("second front got %q", got)
	}
}

// A front shares the listening socket with its successors; one that shuts it down must
// not take them with it.
func TestListeningSocketShutDown(t *testing.T) {
	s := startService(t, doubles(1), standard)
	for range 2 {
		old := s.pid("pid")
		if answer, err := s.ask("shutdown"); err == nil {
			t.Errorf("answer %q", answer)
		}
		s.mustAsk("pid", func(answer string) bool { return answer != strconv.Itoa(old) })
		s.mustAsk("module 0 x", func(a string) bool { return a == "0:x" })
	}
	for _, c := range s.state().Children {
		if want := map[string]int{child.RoleFront: 2}[c.Role]; c.Restarts != want {
			t.Errorf("state %+v", c)
		}
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
}

func TestStopWhileUnlocking(t *testing.T) {
	config := doubles(1)
	config.Unlock.Args = append(config.Unlock.Args, "hang")
	config.Logger = slog.New(slog.DiscardHandler)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	config.Stderr = w
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- Run(ctx, config) }()
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil || line != "unlock waits\n" {
		t.Fatalf("%q, %v", line, err)
	}
	cancel()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// The front finishes what it has begun while modules still serve it; then they stop.
func TestStopDrainsFrontBeforeModules(t *testing.T) {
	s := startService(t, doubles(2), standard)
	s.mustAsk("module 1 x", func(a string) bool { return a == "1:x" })
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	fmt.Fprintln(conn, "hold last words")
	if got, err := answers.ReadString('\n'); err != nil || got != "held\n" {
		t.Fatalf("%q, %v", got, err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if got, err := answers.ReadString('\n'); err != nil || got != "0:last words\n" {
		t.Errorf("request in progress: %q, %v", got, err)
	}
	if got := s.output.String(); got != "front stops\nmodule stops\nmodule stops\n" {
		t.Errorf("order:\n%s", got)
	}
}

// A front that does not drain is killed when its time is up.
func TestDrainTimeout(t *testing.T) {
	config := doubles(1)
	config.DrainTimeout = 50 * time.Millisecond
	s := startService(t, config, standard)
	pid := s.pid("pid")
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "every thread stopped", func() bool { return frozen(pid) })
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if got := s.output.String(); got != "module stops\n" {
		t.Errorf("order:\n%s", got)
	}
}

// However the supervisor ends, no child outlives it; SIGTERM is an orderly end.
func TestNothingOutlivesTheSupervisor(t *testing.T) {
	for _, signal := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe", "internal", "supervisor")
			cmd.Stderr = t.Output()
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(out)
			address, err := lines.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			s := &service{t: t, address: strings.TrimSpace(address)}
			pids := []int{s.pid("pid"), s.pid("module 0 pid"), s.pid("module 1 pid")}
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			last, _ := lines.ReadString('\n')
			if err := cmd.Wait(); (err == nil) != (signal == unix.SIGTERM) || (last == "stopped\n") != (signal == unix.SIGTERM) {
				t.Errorf("supervisor: %v, last words %q", err, last)
			}
			for _, pid := range pids {
				eventually(t, "end of a child", func() bool { return gone(pid) })
			}
		})
	}
}

// gone reports whether a process has ended, waited for or not.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(b, []byte(") Z "))
}

// frozen reports whether a signal has stopped all threads of a process.
func frozen(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, name := range threads {
		b, err := os.ReadFile(name)
		if err != nil || !bytes.Contains(b, []byte(") T ")) {
			return false
		}
	}
	return err == nil && len(threads) > 0
}

// A child that takes append mode from its standard error or moves its offset does that
// to no other, and nothing in the file is overwritten.
func TestStandardErrorIsNotShared(t *testing.T) {
	log, err := os.Create(filepath.Join(t.TempDir(), "log")) // as by a shell, without O_APPEND
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	fmt.Fprintln(log, "before")
	ctx, cancel := context.WithCancel(t.Context())
	config := doubles(1)
	config.Stderr = log
	config.Logger = slog.New(slog.DiscardHandler)
	ready, result := make(chan string, 1), make(chan error, 1)
	config.OnReady = func(a net.Addr) { ready <- a.String() }
	go func() { result <- Run(ctx, config) }()
	s := &service{t: t}
	select {
	case s.address = <-ready:
	case err := <-result:
		t.Fatal(err)
	}
	s.mustAsk("no append", func(a string) bool { return a == "no append" })
	s.mustAsk("module 0 say", func(a string) bool { return a == "0:say" })
	fmt.Fprintln(log, "supervisor")
	s.mustAsk("module 0 say", func(a string) bool { return a == "0:say" })
	if got, err := os.ReadFile(log.Name()); err != nil || string(got) != "before\nsaid\nsupervisor\nsaid\n" {
		t.Errorf("log %q, %v", got, err)
	}
	if flags, err := unix.FcntlInt(log.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_APPEND == 0 {
		t.Errorf("the supervisor's flags are %o, %v", flags, err)
	}
	cancel()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// The PIN file's descriptor must be out of reach for the rest of the user's processes.
func TestSupervisorIsNotDumpable(t *testing.T) {
	startService(t, doubles(1), standard)
	if d, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || d != 0 {
		t.Errorf("dumpable: %d, %v", d, err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit.Max != 0 {
		t.Errorf("core limit: %+v, %v", limit, err)
	}
}

// A fresh process, because this one is closed already and cannot be opened again.
func TestRunOnceIsNotDumpable(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "internal", "once")
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	before, after, _ := strings.Cut(string(out), "\n")
	after, output, _ := strings.Cut(after, "\n")
	if !strings.HasPrefix(before, "1 ") || after != "0 true" {
		t.Errorf("dumpable and without core files: before %q, after %q", before, after)
	}
	if output != "provisioned from \n" {
		t.Errorf("what the provision command wrote came back as %q", output)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"no unlock":       func(c *Config) { c.Unlock.Args = nil },
		"no front":        func(c *Config) { c.Front.Args = nil },
		"no module":       func(c *Config) { c.Module.Args = nil },
		"no provision":    func(c *Config) { c.Provision = &Command{} },
		"no modules":      func(c *Config) { c.Modules = 0 },
		"many modules":    func(c *Config) { c.Modules = MaxModules + 1 },
		"no address":      func(c *Config) { c.Listen = "" },
		"bad address":     func(c *Config) { c.Listen = "nowhere" },
		"no logger":       func(c *Config) { c.Logger = nil },
		"negative drain":  func(c *Config) { c.DrainTimeout = -1 },
		"input for front": func(c *Config) { c.Front.Input = os.Stdin },
	} {
		config := doubles(1)
		config.Logger = slog.New(slog.DiscardHandler)
		spoil(&config)
		if err := Run(t.Context(), config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestPause(t *testing.T) {
	want := []time.Duration{0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000}
	for failures, ms := range want {
		if got := standard.pause(failures); got != ms*time.Millisecond {
			t.Errorf("pause(%d) = %v", failures, got)
		}
	}
	if got := standard.pause(1 << 20); got != 5*time.Second {
		t.Errorf("pause after very many failures is %v", got)
	}
}
