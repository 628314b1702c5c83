package supervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"keyd/supervisor/child"
	"keyd/supervisor/pinfile"
)

// The test binary plays every part when its first argument is "internal". A double
// answers one-line commands: a front on its TCP socket, a module on its channel.

const testPIN = "a PIN of the doubles"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "internal" {
		play(os.Args[2], os.Args[3:])
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func play(part string, args []string) {
	switch part {
	case "unlock":
		playUnlock(args)
	case "renew":
		playRenew(args)
	case "provision":
		playProvision(args)
	case "module":
		playModule(args)
	case "front":
		playFront(args)
	case "supervisor":
		playSupervisor()
	case "once":
		playOnce()
	default:
		fail("no such part")
	}
}

func fail(v any) {
	fmt.Fprintln(os.Stderr, "double:", v)
	os.Exit(1)
}

func must[T any](v T, err error) T {
	if err != nil {
		fail(err)
	}
	return v
}

// flagFD returns the descriptor that a flag names, or -1.
func flagFD(args []string, flag string) int {
	i := slices.Index(args, flag)
	if i < 0 || i+1 == len(args) {
		return -1
	}
	return must(strconv.Atoi(args[i+1]))
}

func playUnlock(args []string) {
	switch {
	case slices.Contains(args, "fail"):
		fmt.Fprintln(os.Stderr, "double: no PIN today")
		os.Exit(ExitPermanent)
	case slices.Contains(args, "hang"):
		fmt.Fprintln(os.Stderr, "unlock waits")
		select {}
	}
	if err := pinfile.Write(flagFD(args, "--pin-fd"), []byte(testPIN)); err != nil {
		fail(err)
	}
}

func playProvision(args []string) {
	if slices.Contains(args, "fail") {
		os.Exit(9)
	}
	checkPIN(args)
	in := os.NewFile(uintptr(flagFD(args, "--input-fd")), "input")
	out := os.NewFile(uintptr(flagFD(args, "--output-fd")), "output")
	must(fmt.Fprintf(out, "provisioned from %s", must(io.ReadAll(in))))
}

func checkPIN(args []string) {
	pin := make([]byte, pinfile.MaxPIN())
	n := must(pinfile.Read(flagFD(args, "--pin-fd"), pin))
	if string(pin[:n]) != testPIN {
		fail("wrong PIN")
	}
}

// common is what both kinds of double do at a command.
func common(command string, sick *atomic.Bool) string {
	switch command {
	case "pid":
		return strconv.Itoa(os.Getpid())
	case "fds":
		return strings.Join(must(openFiles()), " ")
	case "env":
		return strings.Join(os.Environ(), " ")
	case "caps":
		header, sets := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{}
		if err := unix.Capget(&header, &sets[0]); err != nil {
			fail(err)
		}
		return fmt.Sprint(sets[0].Effective)
	case "user":
		return fmt.Sprint(os.Getuid(), os.Getgid(), must(os.Getgroups()))
	case "sick":
		sick.Store(true)
	case "no append": // what a child could do to a description that it shares
		if _, err := unix.FcntlInt(2, unix.F_SETFL, 0); err != nil {
			return err.Error()
		}
		must(unix.Seek(2, 0, 0))
	case "say":
		fmt.Fprintln(os.Stderr, "said")
	case "kill":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	case "permanent":
		os.Exit(ExitPermanent)
	}
	return command
}

// openFiles names what the descriptors of this process are, but for the listing's own.
func openFiles() ([]string, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil {
			continue // the descriptor of the listing itself
		}
		kind, _, _ := strings.Cut(target, ":")
		names = append(names, kind)
	}
	slices.Sort(names)
	return names, nil
}

// endWhile ends a double as long as there is a file, and counts that in it.
func endWhile(args []string) {
	i := slices.Index(args, "end-while")
	if i < 0 {
		return
	}
	f, err := os.OpenFile(args[i+1], os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	must(f, err)
	must(f.WriteString("x"))
	os.Exit(must(strconv.Atoi(args[i+2])))
}

func playModule(args []string) {
	endWhile(args)
	switch {
	case slices.Contains(args, "wrong-pin"):
		logAttempt()
		os.Exit(ExitPermanent)
	case slices.Contains(args, "crash"):
		os.Exit(3)
	}
	var sick atomic.Bool
	control := must(child.Connect(flagFD(args, "--control-fd"), func() bool { return !sick.Load() }))
	checkPIN(args)
	index := flagFD(args, "--module")
	if slices.Contains(args, "never-ready") {
		select {}
	}
	if slices.Contains(args, "rude") {
		must(unix.Write(rawControl(), []byte("hello?")))
		select {}
	}
	if err := control.Ready(); err != nil {
		fail(err)
	}
	for {
		select {
		case ch := <-control.Channels():
			if ch.Module != index {
				fail("channel of another module")
			}
			go func() {
				defer ch.Conn.Close()
				lines := bufio.NewScanner(ch.Conn)
				for lines.Scan() {
					fmt.Fprintf(ch.Conn, "%d:%s\n", index, common(lines.Text(), &sick))
				}
			}()
		case <-control.Stopping():
			fmt.Fprintln(os.Stderr, "module stops")
			return
		}
	}
}

// logAttempt leaves one line for each start that would have used the PIN.
func logAttempt() { fmt.Fprintln(os.Stderr, "PIN tried") }

// rawControl finds the one SEQPACKET socket of this process.
func rawControl() int {
	for fd := 3; fd < 32; fd++ {
		if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err == nil && kind == unix.SOCK_SEQPACKET {
			return fd
		}
	}
	fail("no control socket")
	return -1
}

// frontDouble forwards commands to modules.
type frontDouble struct {
	mu       sync.Mutex
	channels map[int]*net.UnixConn
	control  *child.Control
	given    string // provision output
	read     string // of the newest reload
	listener net.Listener
	sick     atomic.Bool
}

func playFront(args []string) {
	endWhile(args)
	f := &frontDouble{channels: map[int]*net.UnixConn{}, given: "nothing"}
	f.control = must(child.Connect(flagFD(args, "--control-fd"), func() bool { return !f.sick.Load() }))
	if fd := flagFD(args, "--provision-fd"); fd >= 0 {
		file := os.NewFile(uintptr(fd), "provision")
		f.given = string(must(io.ReadAll(file)))
		_ = file.Close()
	}
	file := os.NewFile(uintptr(flagFD(args, "--listen-fd")), "listen")
	listener := must(net.FileListener(file))
	_ = file.Close()
	f.listener = listener
	ready := sync.OnceFunc(func() {
		if err := f.control.Ready(); err != nil {
			fail(err)
		}
	})
	go func() {
		for ch := range f.control.Channels() {
			f.mu.Lock()
			if old := f.channels[ch.Module]; old != nil {
				_ = old.Close()
			}
			f.channels[ch.Module] = ch.Conn
			f.mu.Unlock()
			ready()
		}
	}()
	go f.takeReloads()
	if !slices.Contains(args, "needs-module") {
		ready()
	}
	var open sync.WaitGroup
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() { f.serve(conn) })
		}
	}()
	<-f.control.Stopping()
	_ = listener.Close()
	open.Wait()
	fmt.Fprintln(os.Stderr, "front stops")
}

// takeReloads reads what it is handed; a file that holds "bad" is refused, as is one that is
// missing.
func (f *frontDouble) takeReloads() {
	for o := range f.control.Reloads() {
		text, all := "", true
		for _, file := range o.Files {
			content := "missing"
			if file.Err == nil {
				content = string(must(io.ReadAll(file.File)))
			}
			text += file.Name + "=" + content + " "
			all = all && content != "bad" && content != "missing"
		}
		o.Close()
		f.mu.Lock()
		f.read = text
		f.mu.Unlock()
		if err := f.control.Reloaded(o, all); err != nil {
			fail(err)
		}
	}
}

func (f *frontDouble) serve(conn net.Conn) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	if !lines.Scan() {
		return
	}
	command := lines.Text()
	switch word, rest, _ := strings.Cut(command, " "); word {
	case "module":
		index, command, _ := strings.Cut(rest, " ")
		answer, err := f.forward(must(strconv.Atoi(index)), command)
		if err != nil {
			answer = "unavailable"
		}
		fmt.Fprintln(conn, answer)
	case "hold": // answers only once the front drains, with a module's help
		fmt.Fprintln(conn, "held")
		<-f.control.Stopping()
		answer, err := f.forward(0, rest)
		if err != nil {
			answer = "unavailable"
		}
		fmt.Fprintln(conn, answer)
	case "shutdown": // what a front that was taken over could do to its successors
		raw := must(f.listener.(syscall.Conn).SyscallConn())
		if err := raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) }); err != nil {
			fail(err)
		}
		os.Exit(1)
	case "reloaded":
		f.mu.Lock()
		fmt.Fprintln(conn, f.read)
		f.mu.Unlock()
	case "provision":
		fmt.Fprintln(conn, f.given)
	case "state":
		fmt.Fprintln(conn, string(must(json.Marshal(f.control.State()))))
	default:
		fmt.Fprintln(conn, common(command, &f.sick))
	}
}

// forward asks a module one thing at a time.
func (f *frontDouble) forward(index int, command string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	conn := f.channels[index]
	if conn == nil {
		return "", errors.New("no channel")
	}
	_ = conn.SetDeadline(time.Now().Add(200 * time.Millisecond))
	if _, err := fmt.Fprintln(conn, command); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil { // a late answer must not become that of the next command
		_ = conn.Close()
		delete(f.channels, index)
		return "", err
	}
	return strings.TrimSpace(answer), nil
}

// playSupervisor runs a whole service and names its processes on standard output.
func playSupervisor() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	config := doubles(2)
	config.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	config.OnReady = func(a net.Addr) { fmt.Println(a) }
	if err := Run(ctx, config); err != nil {
		fail(err)
	}
	fmt.Println("stopped")
}

// playOnce tells how open the process is before and after RunOnce, and what came of it.
func playOnce() {
	config := doubles(1)
	config.Provision = &Command{Args: []string{"internal", "provision"}, Input: must(os.Open(os.DevNull))}
	config.Logger = slog.New(slog.DiscardHandler)
	tell := func() {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
			fail(err)
		}
		fmt.Println(must(unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)), limit.Max == 0)
	}
	tell()
	output := must(RunOnce(context.Background(), config))
	tell()
	must(output.Seek(0, io.SeekStart))
	fmt.Printf("%s\n", must(io.ReadAll(output)))
}

// doubles is a configuration in which every part is played by this binary.
func doubles(modules int) Config {
	return Config{
		Unlock:  Command{Args: []string{"internal", "unlock"}},
		Front:   Command{Args: []string{"internal", "front"}},
		Module:  Command{Args: []string{"internal", "module"}},
		Modules: modules,
		Listen:  "127.0.0.1:0",
	}
}
