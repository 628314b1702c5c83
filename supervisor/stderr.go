package supervisor

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// stderr is the standard error that children are given. Where it is a regular file,
// every child gets an open file description of its own: offset, append mode and the
// other status flags of one are then out of the others' reach. What cannot be opened
// a second time (a socket) or loses its meaning so (a terminal) is shared.
type stderr struct {
	shared *os.File
	again  bool
}

func newStderr(f *os.File) (stderr, error) {
	var status unix.Stat_t
	fd := int(f.Fd())
	if err := unix.Fstat(fd, &status); err != nil {
		return stderr{}, fmt.Errorf("supervisor: standard error: %w", err)
	}
	if status.Mode&unix.S_IFMT != unix.S_IFREG {
		return stderr{shared: f}, nil
	}
	// Several descriptions write to one file: all must append, the supervisor's too, or
	// they overwrite each other.
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil && flags&unix.O_APPEND == 0 {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags|unix.O_APPEND)
	}
	if err != nil {
		return stderr{}, fmt.Errorf("supervisor: append to standard error: %w", err)
	}
	return stderr{shared: f, again: true}, nil
}

// open returns the file for one child and what to do when the child has it. A file
// that this user was given but may not open is shared.
func (s stderr) open() (*os.File, func()) {
	if s.again {
		fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", s.shared.Fd()), unix.O_WRONLY|unix.O_APPEND|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err == nil {
			f := os.NewFile(uintptr(fd), "stderr")
			return f, func() { _ = f.Close() }
		}
	}
	return s.shared, func() {}
}
