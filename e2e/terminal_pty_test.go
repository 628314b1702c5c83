package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// console is a keyd on a terminal of its own, as a person sees it.
type console struct {
	t      *testing.T
	args   []string
	cmd    *exec.Cmd
	master *os.File
	mu     sync.Mutex
	seen   bytes.Buffer
	read   int // as far as expect has looked
	ended  chan struct{}
}

// openConsole starts keyd as the leader of a session on a new pseudo-terminal.
func openConsole(t *testing.T, args ...string) *console {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := &console{t: t, args: args, cmd: exec.Command(keydBinary, args...), master: master, ended: make(chan struct{})}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = slave, slave, slave
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := slave.Close(); err != nil {
		t.Error(err)
	}
	go func() {
		defer close(c.ended)
		chunk := make([]byte, 4096)
		for {
			n, err := master.Read(chunk)
			c.mu.Lock()
			c.seen.Write(chunk[:n])
			c.mu.Unlock()
			if err != nil {
				return // EIO: nobody has the other end any more
			}
		}
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // it has ended, where all went well
		_ = master.Close()
	})
	return c
}

func (c *console) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen.String()
}

// expect waits until a text is on the screen, behind what was expected before.
func (c *console) expect(text string) {
	c.t.Helper()
	waitUntil(c.t, fmt.Sprintf("keyd %s: %q in\n%s", strings.Join(c.args, " "), text, c.text()), func() bool {
		all := c.text()
		at := strings.Index(all[c.read:], text)
		if at >= 0 {
			c.read += at + len(text)
		}
		return at >= 0
	})
}

// say types a line.
func (c *console) say(line string) {
	c.t.Helper()
	if _, err := c.master.WriteString(line + "\r"); err != nil {
		c.t.Fatal(err)
	}
}

// end waits for the process, and returns its status and all that was on the screen.
func (c *console) end() (status int, screen string) {
	c.t.Helper()
	done := make(chan error, 1)
	go func() { done <- c.cmd.Wait() }()
	select {
	case err := <-done:
		<-c.ended
		var failed *exec.ExitError
		if err != nil && !errors.As(err, &failed) {
			c.t.Fatal(err)
		}
		return c.cmd.ProcessState.ExitCode(), c.text()
	case <-time.After(time.Minute):
		c.t.Fatalf("keyd %s does not end:\n%s", strings.Join(c.args, " "), c.text())
		return 0, ""
	}
}
