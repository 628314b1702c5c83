package officer

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pty is a pseudo-terminal: what the test types into the master, and what a program sees.
type pty struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	seen   bytes.Buffer // of the program's output
	from   int          // where the next wait begins
}

func newPTY(t *testing.T) *pty {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	must(t, err)
	p := &pty{t: t, master: os.NewFile(uintptr(fd), "master")}
	t.Cleanup(func() { p.master.Close() })
	must(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	must(t, err)
	p.slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { p.slave.Close() })
	return p
}

func (p *pty) terminal() *Terminal { return NewTerminal(p.slave, p.slave) }

// await reads until the program has shown the text, and returns what came before it.
func (p *pty) await(text string) string {
	p.t.Helper()
	must(p.t, p.master.SetReadDeadline(time.Now().Add(20*time.Second)))
	buffer := make([]byte, 4096)
	for {
		if i := bytes.Index(p.seen.Bytes()[p.from:], []byte(text)); i >= 0 {
			before := string(p.seen.Bytes()[p.from:][:i])
			p.from += i + len(text)
			return before
		}
		n, err := p.master.Read(buffer)
		p.seen.Write(buffer[:n])
		if err != nil {
			p.t.Fatalf("%q was not shown: %v; there is %q", text, err, p.seen.String())
		}
	}
}

func (p *pty) typed(keys string) {
	p.t.Helper()
	if _, err := p.master.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pty) mode() unix.Termios {
	p.t.Helper()
	mode, err := unix.IoctlGetTermios(int(p.slave.Fd()), unix.TCGETS)
	must(p.t, err)
	return *mode
}

// dialogue runs a prompt in the background. Its end is waited for, and the terminal must
// then be as it was.
func dialogue[T any](p *pty, run func(*Terminal) (T, error)) (end func() (T, error)) {
	type result struct {
		value T
		err   error
	}
	before := p.mode()
	done := make(chan result, 1)
	go func() {
		value, err := run(p.terminal())
		done <- result{value, err}
	}()
	return func() (T, error) {
		p.t.Helper()
		r := <-done
		if p.mode() != before {
			p.t.Error("the terminal is not as it was")
		}
		return r.value, r.err
	}
}

// screen is what a terminal shows after output: enough of one for these tests.
func screen(output string) []string {
	var rows [][]byte
	x, y := 0, 0
	at := func() *byte {
		for len(rows) <= y {
			rows = append(rows, nil)
		}
		for len(rows[y]) <= x {
			rows[y] = append(rows[y], ' ')
		}
		return &rows[y][x]
	}
	for i := 0; i < len(output); i++ {
		switch c := output[i]; c {
		case '\r':
			x = 0
		case '\n':
			y++
		case '\b':
			x--
		case '\a':
		case 0x1b:
			var n int
			if strings.HasPrefix(output[i:], "\x1b[A") {
				y--
				i += 2
			} else if _, err := fmt.Sscanf(output[i:], "\x1b[%dC", &n); err == nil {
				x += n
				i += strings.IndexByte(output[i:], 'C')
			} else {
				panic("unknown control sequence")
			}
		default:
			*at() = c
			x++
		}
	}
	var lines []string
	for _, row := range rows {
		lines = append(lines, strings.TrimRight(string(row), " "))
	}
	return lines
}
