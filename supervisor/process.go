package supervisor

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"keyd/supervisor/child"
)

// self is the running binary, even if the file has been replaced meanwhile: a restart
// must not mix versions.
const self = "/proc/self/exe"

// launcher starts children from one thread that lives as long as it does: the
// parent-death signal is about the thread that forked, not about the process.
type launcher struct {
	jobs chan func()
	idle chan struct{}
	log  stderr
	null *os.File
}

func newLauncher(output *os.File) (*launcher, error) {
	log, err := newStderr(output)
	if err != nil {
		return nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	l := &launcher{jobs: make(chan func()), idle: make(chan struct{}), log: log, null: null}
	go func() {
		defer close(l.idle)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		for job := range l.jobs {
			job()
		}
	}()
	return l, nil
}

// close ends the thread. Every child must have been waited for.
func (l *launcher) close() {
	close(l.jobs)
	<-l.idle
	_ = l.null.Close()
}

// grant is a descriptor for a child and the flag that names it.
type grant struct {
	flag string
	file *os.File
}

// inherited are the files of the command's own.
func (c *Command) inherited() (grants []grant) {
	for _, f := range c.Files {
		grants = append(grants, grant{f.Flag, f.File})
	}
	return grants
}

// start runs a command with exactly the descriptors granted.
func (l *launcher) start(c *Command, grants []grant, sys syscall.SysProcAttr, extra ...string) (*os.Process, error) {
	name, err := os.Executable()
	if err != nil {
		return nil, err
	}
	argv := append([]string{filepath.Base(name)}, c.Args...)
	log, done := l.log.open()
	defer done()
	files := []*os.File{l.null, log, log}
	for _, g := range grants {
		argv = append(argv, g.flag, strconv.Itoa(len(files)))
		files = append(files, g.file)
	}
	argv = append(argv, extra...)
	sys.Pdeathsig = unix.SIGKILL
	if c.User != nil {
		sys.Credential = &syscall.Credential{Uid: c.User.UID, Gid: c.User.GID}
	}
	env := c.Env
	if env == nil {
		env = []string{} // nil would inherit the supervisor's
	}
	var p *os.Process
	started := make(chan struct{})
	l.jobs <- func() {
		defer close(started)
		// Go closes its own descriptors on exec. This is about those that the
		// supervisor was started with, and those that C libraries opened.
		if err = unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
			err = fmt.Errorf("close_range: %w", err)
			return
		}
		p, err = os.StartProcess(self, argv, &os.ProcAttr{Dir: "/", Env: env, Files: files, Sys: &sys})
	}
	<-started
	return p, err
}

// process is a running front or module with its control socket.
type process struct {
	*os.Process
	control *net.UnixConn
}

// say sends a message with its descriptors. It never waits: a child that has
// left its socket to fill up does not read.
func (p *process) say(m child.Message, files ...*os.File) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > child.MaxMessage {
		return fmt.Errorf("message of %d bytes", len(b))
	}
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	raw, err := p.control.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = raw.Write(func(fd uintptr) bool {
		sendErr = unix.Sendmsg(int(fd), b, oob, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return true
	})
	runtime.KeepAlive(files)
	if err != nil {
		return err
	}
	return sendErr
}

// listen passes on what the child says until it hangs up or breaks the rules.
func (p *process) listen(signal func(kind byte, seq uint32), end func(reason error)) {
	b := make([]byte, 2*child.SignalSize)
	for {
		n, _, flags, _, err := p.control.ReadMsgUnix(b, nil) // without room for any, descriptors are dropped
		if err != nil {
			end(nil)
			return
		}
		kind, seq, ok := child.ParseSignal(b[:n])
		if !ok || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			end(errProtocol)
			return
		}
		signal(kind, seq)
	}
}

// socketPair returns two joined sockets of the given type, closed on exec.
func socketPair(kind int) (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket"), nil
}
