// Package unlock is the short-lived child that fetches the token PIN and leaves it
// where modules find it. The front never asks for the PIN, and the supervisor never
// sees it.
package unlock

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"keyd/supervisor/pinfile"
)

// maxPIN bounds a token PIN in bytes.
const maxPIN = 256

// FromFile reads the PIN from the first line of a file that nobody but its owner may
// read, and stores it in the PIN file behind fd.
func FromFile(path string, fd int) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("token PIN: %w", err)
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("token PIN: %w", err)
	}
	if err := checkMode(path, info); err != nil {
		return err
	}
	buffer := make([]byte, maxPIN+2)
	defer clear(buffer)
	n, err := f.Read(buffer)
	if err != nil {
		return fmt.Errorf("token PIN: %s: %w", path, err)
	}
	pin, rest, _ := bytes.Cut(buffer[:n], []byte("\n"))
	pin = bytes.TrimSuffix(pin, []byte("\r"))
	if len(pin) == 0 || len(pin) > maxPIN || len(bytes.TrimSpace(rest)) > 0 {
		return fmt.Errorf("token PIN: %s must hold the PIN on one line and nothing else", path)
	}
	return pinfile.Write(fd, pin)
}

// FromTerminal asks for the PIN on the controlling terminal, without echo.
func FromTerminal(label string, fd int) error {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return errors.New("token PIN: pin_file is prompt, but keyd has no terminal; start it from one, or name a file")
	}
	defer tty.Close() //nolint:errcheck // nothing buffered
	restore(tty)
	if _, err := fmt.Fprintf(tty, "PIN of token %q: ", label); err != nil {
		return fmt.Errorf("token PIN: %w", err)
	}
	pin, err := term.ReadPassword(int(tty.Fd()))
	defer clear(pin)
	fmt.Fprintln(tty) //nolint:errcheck // the answer was read already
	if err != nil {
		return fmt.Errorf("token PIN: %w", err)
	}
	if len(pin) == 0 || len(pin) > maxPIN {
		return errors.New("token PIN: nothing was typed")
	}
	return pinfile.Write(fd, pin)
}

// restore brings the terminal's echo back when the prompt is interrupted.
func restore(tty *os.File) {
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		return
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	go func() {
		<-interrupted
		_ = term.Restore(int(tty.Fd()), before)
		os.Exit(1)
	}()
}

func checkMode(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("token PIN: %s is not a regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("token PIN: others may read %s: chmod 600 it", path)
	}
	return nil
}
