package child

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Channel is one end of a stream socket whose other end the other kind of process has
// just been given. It takes the place of an earlier channel of the same module.
type Channel struct {
	Module int // which module it joins to the front; in a module its own index
	Conn   *net.UnixConn
}

// Control is a child's end of the control socket. Its methods may be called from any
// goroutine.
type Control struct {
	conn       *net.UnixConn
	supervisor int
	healthy    func() bool
	channels   chan Channel
	arrived    chan Channel
	reloads    chan Opened // room for one: the newest
	stopping   chan struct{}

	mu    sync.Mutex
	state State
}

// Connect takes the descriptor that --control-fd names and starts to answer pings.
//
// healthy, if given, is asked at every ping and must not block: while it answers
// false the ping stays unanswered, and after a second the supervisor replaces the
// process. A module says so when a call into its token hangs.
//
// It returns an error if the descriptor is not a control socket, or if the process
// that made it is no longer the parent. Once it has returned, end-of-file or anything
// unintelligible on the socket ends the process with [ExitOrphaned].
func Connect(fd int, healthy func() bool) (*Control, error) {
	conn, err := adopt(fd, "control")
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	supervisor, err := peer(conn)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if os.Getppid() != supervisor {
		_ = conn.Close()
		return nil, errors.New("control socket: the supervisor has gone")
	}
	if healthy == nil {
		healthy = func() bool { return true }
	}
	c := &Control{
		conn:       conn,
		supervisor: supervisor,
		healthy:    healthy,
		channels:   make(chan Channel),
		arrived:    make(chan Channel),
		reloads:    make(chan Opened, 1),
		stopping:   make(chan struct{}),
	}
	go c.deliver()
	go c.listen()
	return c, nil
}

// Supervisor returns the supervisor's process ID.
func (c *Control) Supervisor() int { return c.supervisor }

// Ready tells the supervisor that this process can serve. It is called once.
func (c *Control) Ready() error {
	return c.send(SignalReady, 0)
}

// Channels delivers new channels. One that nobody has taken yet is closed when
// another for the same module arrives.
func (c *Control) Channels() <-chan Channel { return c.channels }

// Stopping is closed when the supervisor asks this process to drain and end.
func (c *Control) Stopping() <-chan struct{} { return c.stopping }

// State returns the latest state the supervisor sent. Only a front is sent any.
func (c *Control) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state
	s.Children = append([]ChildState(nil), s.Children...)
	return s
}

// Reloads delivers files that were opened anew. Only a front is sent any. Those that nobody
// has taken yet are closed when newer ones arrive.
func (c *Control) Reloads() <-chan Opened { return c.reloads }

// Reloaded tells the supervisor what became of a reload: whether everything that it
// brought is in use now.
func (c *Control) Reloaded(o Opened, all bool) error {
	if all {
		return c.send(SignalLoaded, o.seq)
	}
	return c.send(SignalKept, o.seq)
}

func (c *Control) send(kind byte, seq uint32) error {
	b := EncodeSignal(kind, seq)
	if _, err := c.conn.Write(b[:]); err != nil {
		return fmt.Errorf("tell the supervisor: %w", err)
	}
	return nil
}

// listen reads until the supervisor has gone; then the process must not outlive it.
func (c *Control) listen() {
	in, oob := make([]byte, MaxMessage), make([]byte, unix.CmsgSpace(4*MaxFiles))
	stopped := false
	for {
		m, brought, err := receive(c.conn, in, oob)
		if err != nil {
			os.Exit(ExitOrphaned)
		}
		switch m.Type {
		case TypePing:
			if c.healthy() {
				if c.send(SignalPong, m.Seq) != nil {
					os.Exit(ExitOrphaned)
				}
			}
		case TypeChannel:
			c.arrived <- Channel{Module: m.Module, Conn: brought.channel}
		case TypeReload:
			c.offer(Opened{Files: brought.files, seq: m.Seq})
		case TypeState:
			c.mu.Lock()
			c.state = *m.State
			c.mu.Unlock()
		case TypeStop:
			if !stopped {
				stopped = true
				close(c.stopping)
			}
		}
	}
}

// deliver keeps channels until they are taken, so that a busy process still answers
// pings. At most one is kept per module.
func (c *Control) deliver() {
	var pending []Channel
	for {
		var out chan<- Channel
		var first Channel
		if len(pending) > 0 {
			out, first = c.channels, pending[0]
		}
		select {
		case out <- first:
			pending = pending[1:]
		case n := <-c.arrived:
			kept := pending[:0:0]
			for _, p := range pending {
				if p.Module == n.Module {
					_ = p.Conn.Close()
					continue
				}
				kept = append(kept, p)
			}
			pending = append(kept, n)
		}
	}
}

// brought is what came with a message.
type brought struct {
	channel *net.UnixConn
	files   []OpenedFile
}

// receive reads one message. Whatever is not exactly a known message with the
// descriptors its type has is an error, and no descriptor is kept.
func receive(conn *net.UnixConn, in, oob []byte) (Message, *brought, error) {
	n, oobn, flags, _, err := conn.ReadMsgUnix(in, oob)
	if err != nil {
		return Message{}, nil, err
	}
	fds, err := descriptors(oob[:oobn])
	if err != nil {
		return Message{}, nil, err
	}
	m, err := parse(in[:n], len(fds))
	if err == nil && flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = errors.New("message is cut short")
	}
	switch {
	case err != nil:
		closeAll(fds)
		return m, nil, err
	case m.Type == TypeReload:
		return m, &brought{files: openedFiles(m.Reload, fds)}, nil
	case len(fds) == 0:
		return m, nil, nil
	}
	channel, err := adopt(fds[0], "channel")
	if err != nil {
		return m, nil, err
	}
	return m, &brought{channel: channel}, nil
}

func parse(b []byte, descriptors int) (m Message, err error) {
	if err := json.Unmarshal(b, &m); err != nil {
		return Message{}, errors.New("message is no JSON")
	}
	want := 0
	switch m.Type {
	case TypeChannel:
		want = 1
	case TypePing, TypeStop:
	case TypeState:
		if m.State == nil {
			return Message{}, errors.New("message has no state")
		}
	case TypeReload:
		if m.Reload == nil || len(m.Reload.Files) == 0 || len(m.Reload.Files) > MaxFiles {
			return Message{}, errors.New("message has no files, or too many")
		}
		want = m.Reload.descriptors()
	default:
		return Message{}, errors.New("message of an unknown type")
	}
	if descriptors != want {
		return Message{}, errors.New("message with a wrong number of descriptors")
	}
	return m, nil
}

func descriptors(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var fds []int
	for i := range messages {
		rights, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			closeAll(fds)
			return nil, err
		}
		fds = append(fds, rights...)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// adopt makes a connection of an inherited or received descriptor and consumes it.
func adopt(fd int, name string) (*net.UnixConn, error) {
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), name)
	if f == nil {
		return nil, errors.New("not a descriptor")
	}
	defer f.Close() //nolint:errcheck // a duplicate descriptor; nothing is buffered
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return nil, errors.New("descriptor is not a Unix socket")
	}
	return u, nil
}

// peer returns the process that made the socket pair.
func peer(conn *net.UnixConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return int(cred.Pid), nil
}
