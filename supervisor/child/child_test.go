package child

import (
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSignals(t *testing.T) {
	for _, s := range []struct {
		kind byte
		seq  uint32
	}{{SignalReady, 0}, {SignalPong, 0}, {SignalPong, 1}, {SignalPong, 1<<32 - 1}, {SignalLoaded, 1}, {SignalKept, 1<<32 - 1}} {
		b := EncodeSignal(s.kind, s.seq)
		if kind, seq, ok := ParseSignal(b[:]); !ok || kind != s.kind || seq != s.seq {
			t.Errorf("%c %d became %c %d %v", s.kind, s.seq, kind, seq, ok)
		}
	}
	for _, bad := range []string{"", "R", "R\x00\x00\x00", "R\x00\x00\x00\x01", "R\x00\x00\x00\x00\x00", "P\x00\x00\x00", "r\x00\x00\x00\x00", "\x00\x00\x00\x00\x00"} {
		if _, _, ok := ParseSignal([]byte(bad)); ok {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestMessagesThatAreRefused(t *testing.T) {
	for _, test := range []struct {
		message     string
		descriptors int
	}{
		{``, 0}, {`{`, 0}, {`null`, 0}, {`[]`, 0}, {`{}`, 0}, {`{"type":"PING!"}`, 0}, {`{"type":"ping"} x`, 0},
		{`{"type":"ping","seq":-1}`, 0}, {`{"type":"ping","seq":4294967296}`, 0}, {`{"type":"state"}`, 0},
		{`{"type":"channel"}`, 0}, {`{"type":"channel"}`, 2}, {`{"type":"ping"}`, 1}, {`{"type":"stop"}`, 1},
		{`{"type":"reload"}`, 0}, {`{"type":"reload"}`, 1}, {`{"type":"reload","reload":{"files":[]}}`, 0},
		{`{"type":"reload","reload":{"files":[{"name":"policy"}]}}`, 0}, {`{"type":"reload","reload":{"files":[{"name":"policy"}]}}`, 2},
		{`{"type":"reload","reload":{"files":[{"name":"policy","error":"gone"}]}}`, 1},
		{`{"type":"reload","reload":{"files":[{},{},{},{},{},{},{},{},{}]}}`, 9},
	} {
		if m, err := parse([]byte(test.message), test.descriptors); err == nil || m != (Message{}) {
			t.Errorf("%s with %d descriptors: %+v, %v", test.message, test.descriptors, m, err)
		}
	}
}

func FuzzMessage(f *testing.F) {
	for _, m := range []Message{
		{Type: TypePing, Seq: 7}, {Type: TypeStop}, {Type: TypeChannel, Module: 3},
		{Type: TypeState, State: &State{Children: []ChildState{{Role: RoleFront, Phase: PhaseReady}}}},
	} {
		b, err := json.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, 0)
		f.Add(b, 1)
	}
	f.Fuzz(func(t *testing.T, b []byte, descriptors int) {
		m, err := parse(b, descriptors)
		if err != nil {
			if m != (Message{}) {
				t.Error("a refused message left something")
			}
			return
		}
		if m.Type == TypeReload && descriptors == m.Reload.descriptors() && descriptors <= MaxFiles {
			return
		}
		if (m.Type == TypeChannel) != (descriptors == 1) || (m.Type == TypeState && m.State == nil) {
			t.Errorf("%q with %d descriptors was accepted", b, descriptors)
		}
	})
}

// pair returns both ends of a control socket.
func pair(t *testing.T) (supervisor, child *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]*net.UnixConn, 2)
	for i, fd := range fds {
		if conns[i], err = adopt(fd, "test"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conns[i].Close() })
	}
	return conns[0], conns[1]
}

func count(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// A message that is refused leaves no descriptor open, however many came with it.
func TestRefusedDescriptorsAreClosed(t *testing.T) {
	supervisor, conn := pair(t)
	in, oob := make([]byte, MaxMessage), make([]byte, unix.CmsgSpace(4))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	a, b := int(r.Fd()), int(w.Fd())
	before := count(t)
	for _, test := range []struct {
		message string
		fds     []int
	}{
		{`{"type":"ping"}`, []int{a}},
		{`{"type":"channel"}`, []int{a, b}},
		{`{"type":"channel"}`, []int{a}}, // not a socket
		{`garbage`, []int{a, b}},
		{strings.Repeat(" ", MaxMessage+1), []int{a}},
	} {
		if _, _, err := supervisor.WriteMsgUnix([]byte(test.message), unix.UnixRights(test.fds...), nil); err != nil {
			t.Fatal(err)
		}
		if _, c, err := receive(conn, in, oob); err == nil || c != nil {
			t.Errorf("%.20s with %d descriptors was accepted", test.message, len(test.fds))
		}
		if now := count(t); now != before {
			t.Errorf("%.20s with %d descriptors: %d open, were %d", test.message, len(test.fds), now, before)
		}
	}
}

// While nobody takes channels only the newest of each module is kept.
func TestNewerChannelReplacesOneNotTaken(t *testing.T) {
	c := &Control{channels: make(chan Channel), arrived: make(chan Channel)}
	go c.deliver()
	var theirs []*net.UnixConn
	for _, module := range []int{0, 1, 0} {
		ours, far := pair(t)
		theirs = append(theirs, far)
		c.arrived <- Channel{Module: module, Conn: ours}
	}
	if n, err := theirs[0].Read(make([]byte, 1)); err == nil {
		t.Errorf("the first channel is open: %d bytes", n)
	}
	for i, want := range []int{1, 0} {
		got := <-c.Channels()
		if got.Module != want {
			t.Errorf("channel %d is of module %d", i, got.Module)
		}
		if _, err := got.Conn.Write([]byte{byte(i)}); err != nil {
			t.Error(err)
		}
		b := make([]byte, 1)
		if _, err := theirs[i+1].Read(b); err != nil || b[0] != byte(i) {
			t.Errorf("channel %d: %v, %v", i, b, err)
		}
	}
}

func TestConnectRefuses(t *testing.T) {
	if _, err := Connect(-1, nil); err == nil {
		t.Error("no descriptor was accepted")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	fd, err := unix.Dup(int(r.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	if _, err := Connect(fd, nil); err == nil {
		t.Error("a pipe was accepted")
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	if _, err := Connect(fds[1], nil); err == nil { // made by this process, not by its parent
		t.Error("a socket of somebody else was accepted")
	}
}
