package checkpoints

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrInUse says that another keyd has the file.
var ErrInUse = errors.New("it is in use by another keyd: stop it first, or wait until its modules have ended")

// Create opens the file of a host for its modules, and makes it first if there is none. An
// existing file must be a regular one that only its owner can use. Nobody else gets it with
// Create while the descriptor or a copy of it is open. The supervisor calls it.
func Create(path string) (*os.File, error) {
	f, err := open(path, os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("file of checkpoints %s: %w", path, err)
	}
	if err := accept(f); err != nil {
		return nil, errors.Join(fmt.Errorf("file of checkpoints %s: %w", path, err), f.Close())
	}
	return f, nil
}

// Check says what is wrong with an existing file, but for its being in use.
func Check(path string) error {
	f, err := open(path, 0)
	if err == nil {
		err = errors.Join(private(f), whole(f), f.Close())
	}
	if err != nil {
		return fmt.Errorf("file of checkpoints %s: %w", path, err)
	}
	return nil
}

// open opens a file without following a link or waiting for the other end of a pipe.
func open(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|flags, 0o600)
	if errors.Is(err, unix.ELOOP) {
		return nil, errors.New("it is a symbolic link: name the file itself")
	}
	return f, err
}

// private refuses what is no regular file, or open to others than its owner.
func private(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file: move it away, and start again")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("others than its owner have rights on it (%v): look at who may have changed it, then chmod 600", info.Mode().Perm())
	}
	return nil
}

// accept decides whether an opened file is one that modules may use. One that is empty, or was
// being made when the power went, becomes one.
func accept(f *os.File) error {
	if err := private(f); err != nil {
		return err
	}
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrInUse
	}
	if err != nil {
		return fmt.Errorf("lock it: %w", err)
	}
	content, err := content(f)
	if err != nil {
		return err
	}
	if len(content) < FileSize && len(bytes.Trim(content, "\x00")) == 0 {
		if _, err := f.WriteAt(make([]byte, FileSize), 0); err != nil {
			return fmt.Errorf("take %d bytes on the disk: %w", FileSize, err)
		}
		if err := f.Sync(); err != nil {
			return err
		}
		return syncDirectory(filepath.Dir(f.Name()))
	}
	return whole(f)
}

// whole refuses a file that no module could use.
func whole(f *os.File) error {
	b, err := content(f)
	if err != nil {
		return err
	}
	if len(b) != FileSize {
		return fmt.Errorf("it has %d bytes, not %d: move it away while keyd is stopped", len(b), FileSize)
	}
	if _, _, err := newest(b); err != nil {
		return fmt.Errorf("%w: look at what damaged it, then move it away while keyd is stopped; it begins anew", err)
	}
	return nil
}

// content reads as much as is looked at.
func content(f *os.File) ([]byte, error) {
	b := make([]byte, FileSize+1)
	n := 0
	for n < len(b) {
		m, err := f.ReadAt(b[n:], int64(n))
		n += m
		if err != nil || m == 0 {
			break
		}
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if int64(n) != min(info.Size(), int64(len(b))) {
		return nil, fs.ErrInvalid
	}
	return b[:n], nil
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
