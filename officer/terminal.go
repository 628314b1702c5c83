package officer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

var (
	// ErrNoTerminal is returned where somebody must be asked and nobody is there.
	ErrNoTerminal = errors.New("there is no terminal to ask at: start this from one, or hand the value over by a descriptor")
	// ErrInterrupted is returned after Ctrl-C, Ctrl-D or a signal that ends a program. The
	// terminal is as it was, and nothing was taken over.
	ErrInterrupted = errors.New("interrupted: nothing was done")
)

// Terminal is where an officer is asked. Its dialogues set it to raw mode and back, also
// when they are interrupted or a signal arrives, and forget what was typed before the
// question stood there: a line that was pasted too early answers nothing, and the rest of
// one that was too long does not reach the shell. One dialogue is held at a time.
type Terminal struct {
	in, out *os.File
	owned   bool
}

// NewTerminal asks at the given files. Closing the Terminal leaves them open.
func NewTerminal(in, out *os.File) *Terminal { return &Terminal{in: in, out: out} }

// OpenTerminal asks at the controlling terminal, or where there is none, at standard input
// and standard error if that is a terminal. Otherwise the error is ErrNoTerminal.
func OpenTerminal() (*Terminal, error) {
	if tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
		return &Terminal{in: tty, out: tty, owned: true}, nil
	}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		return NewTerminal(os.Stdin, os.Stderr), nil
	}
	return nil, ErrNoTerminal
}

// Close closes what [OpenTerminal] opened.
func (t *Terminal) Close() error {
	if !t.owned {
		return nil
	}
	return t.in.Close()
}

// keyboard is a terminal in raw mode.
type keyboard struct {
	fd, wake int
	out      io.Writer
	failed   error // of the first write
}

// raw holds a dialogue in raw mode. It writes leave when it ends, however it ends.
func (t *Terminal) raw(leave string, dialogue func(*keyboard) error) (err error) {
	defer runtime.KeepAlive(t.in)
	fd := int(t.in.Fd())
	if !term.IsTerminal(fd) {
		return ErrNoTerminal
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("ask at the terminal: %w", err)
	}
	defer unix.Close(wake) //nolint:errcheck // nothing is written to it

	// Signals are caught before the mode changes, so that none ends the process in between.
	ended := make(chan os.Signal, 1)
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT} {
		if !signal.Ignored(s) {
			signal.Notify(ended, s)
		}
	}
	defer signal.Stop(ended)
	before, err := term.MakeRaw(fd)
	if err != nil {
		return fmt.Errorf("ask at the terminal: %w", err)
	}
	restore := sync.OnceFunc(func() {
		_ = unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH)
		_ = term.Restore(fd, before)
		_, _ = io.WriteString(t.out, leave) // last: it can hang
	})
	defer restore()
	_ = unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH)

	done, signalled := make(chan struct{}), false
	var watcher sync.WaitGroup
	watcher.Go(func() {
		select {
		case <-ended:
			signalled = true
			restore() // at once: the dialogue may hang in a write
			_, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		case <-done:
		}
	})
	defer func() {
		close(done)
		watcher.Wait()
		if signalled || len(ended) > 0 { // as the last key was read, perhaps
			err = ErrInterrupted
		}
	}()
	k := &keyboard{fd: fd, wake: wake, out: t.out}
	if err := dialogue(k); err != nil {
		return err
	}
	if k.failed != nil {
		return fmt.Errorf("write to the terminal: %w", k.failed)
	}
	return nil
}

// Control characters as a terminal in raw mode sends them.
const (
	ctrlC     = 0x03
	ctrlD     = 0x04
	backspace = 0x08
	ctrlU     = 0x15
	ctrlSlash = 0x1c
	escape    = 0x1b
	deleted   = 0x7f
)

// escapeWait is how long after an ESC the rest of a function key may take, in milliseconds.
const escapeWait = 50

// key returns the next byte that was typed. Ctrl-C, Ctrl-\ and a signal are
// ErrInterrupted. What function keys send is left out: it has letters that are digits.
func (k *keyboard) key() (byte, error) {
	for {
		b, err := k.read(-1)
		if err != nil {
			return 0, err
		}
		switch b {
		case ctrlC, ctrlSlash:
			return 0, ErrInterrupted
		case escape:
			if err := k.skipSequence(); err != nil {
				return 0, err
			}
		default:
			return b, nil
		}
	}
}

// skipSequence reads what follows an ESC: CSI and SS3 sequences (ECMA-48 §5.4), or one
// byte that was typed with Alt. Another ESC begins anew.
func (k *keyboard) skipSequence() error {
	for begun := false; ; {
		b, err := k.read(escapeWait)
		if errors.Is(err, errNothing) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case b == ctrlC || b == ctrlSlash:
			return ErrInterrupted
		case b == escape:
			begun = false
		case !begun && b != '[' && b != 'O':
			return nil
		case !begun:
			begun = true
		case b >= 0x40 && b <= 0x7e:
			return nil
		}
	}
}

var errNothing = errors.New("nothing was typed")

// read returns one byte. It waits for so many milliseconds, or without end if negative.
func (k *keyboard) read(wait int) (byte, error) {
	var buffer [1]byte
	defer clear(buffer[:])
	for {
		fds := []unix.PollFd{{Fd: int32(k.fd), Events: unix.POLLIN}, {Fd: int32(k.wake), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, wait)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("read from the terminal: %w", err)
		}
		if fds[1].Revents != 0 {
			return 0, ErrInterrupted
		}
		if n == 0 {
			return 0, errNothing
		}
		switch n, err := unix.Read(k.fd, buffer[:]); {
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
		case err != nil || n == 0:
			return 0, errors.New("the terminal was closed: nothing was done")
		default:
			return buffer[0], nil
		}
	}
}

// write keeps the first error for the end of the dialogue.
func (k *keyboard) write(text string) { k.writeBytes([]byte(text)) }

func (k *keyboard) writeBytes(text []byte) {
	if _, err := k.out.Write(text); err != nil && k.failed == nil {
		k.failed = err
	}
}

func (k *keyboard) ring() { k.write("\a") }

// shown makes a text fit for a terminal in raw mode: it may come from a server, and
// must not move the cursor.
func shown(text string) string {
	text = strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
	return strings.ReplaceAll(text, "\n", "\r\n")
}
