// Package hostfile opens the files that the modules of a host share, and that no front gets.
// The supervisor opens them and hands their descriptors to each module.
package hostfile

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInUse says that another keyd has the file.
var ErrInUse = errors.New("it is in use by another keyd: stop it first, or wait until its modules have ended")

// ErrShort is returned for a file that ends before what is to be read of it.
var ErrShort = errors.New("the file ends too early")

// Open opens a file, to read and to write, without following a link or waiting for the other
// end of a pipe. With os.O_CREATE among the flags a file that is made belongs to its owner alone.
func Open(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|flags, 0o600)
	if errors.Is(err, unix.ELOOP) {
		return nil, errors.New("it is a symbolic link: name the file itself")
	}
	return f, err
}

// Create opens a file of a host for its modules, claims it, and has accept decide whether it is
// one that they may use, or make it one. what names it in errors. An existing file must be a
// regular one that only its owner can use.
func Create(path, what string, accept func(*os.File) error) (*os.File, error) {
	f, err := Open(path, os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", what, path, err)
	}
	if err = Private(f); err == nil {
		if err = Claim(f); err == nil {
			err = accept(f)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s %s: %w", what, path, err), f.Close())
	}
	return f, nil
}

// Check has look say what is wrong with an existing file, but for its being in use.
func Check(path, what string, look func(*os.File) error) error {
	f, err := Open(path, 0)
	if err == nil {
		if err = Private(f); err == nil {
			err = look(f)
		}
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, path, err)
	}
	return nil
}

// Private refuses what is no regular file, or open to others than its owner.
func Private(f *os.File) error {
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

// Claim takes a file for one keyd: nobody else gets it ([ErrInUse]) while the descriptor or a
// copy of it is open.
func Claim(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrInUse
	}
	if err != nil {
		return fmt.Errorf("lock it: %w", err)
	}
	return nil
}

// ErrBusy is returned where another module has a file for longer than anything takes there.
var ErrBusy = errors.New("another module has the file, whose disk does not answer")

// Patience is how long [Alone] waits.
const Patience = time.Second

// Alone carries something out while no other module does, by a lock on a byte of the file. A
// module that dies has let go. Threads of one process are not kept apart. It waits for a second
// ([ErrBusy]): a module that hangs in its disk must not have the others hang with it.
func Alone(fd int, do func() error) (err error) {
	region := unix.Flock_t{Type: unix.F_WRLCK, Len: 1}
	for until := time.Now().Add(Patience); ; time.Sleep(pause) {
		err = unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &region)
		if err == nil {
			break
		}
		switch {
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("lock: %w", err)
		case time.Now().After(until):
			return ErrBusy
		}
	}
	defer func() {
		region.Type = unix.F_UNLCK
		err = errors.Join(err, unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &region))
	}()
	return do()
}

// pause is how long it waits before it looks again.
const pause = 200 * time.Microsecond

// ReadAt reads exactly what there is room for. The error is [ErrShort] where the file ends before.
func ReadAt(fd int, b []byte, at int64) error {
	for n := 0; n < len(b); {
		got, err := unix.Pread(fd, b[n:], at+int64(n))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("read: %w", err)
		case got == 0:
			return ErrShort
		}
		n += max(got, 0)
	}
	return nil
}

// WriteAt writes all of b, and has it on the disk.
func WriteAt(fd int, b []byte, at int64) error {
	if err := Put(fd, b, at); err != nil {
		return err
	}
	for {
		err := unix.Fdatasync(fd)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("sync: %w", err)
		}
		return nil
	}
}

// Put writes all of b, and leaves it to the system when it is on the disk.
func Put(fd int, b []byte, at int64) error {
	for n := 0; n < len(b); {
		wrote, err := unix.Pwrite(fd, b[n:], at+int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		n += wrote
	}
	return nil
}

// SyncDirectory has the names in a directory on the disk.
func SyncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
