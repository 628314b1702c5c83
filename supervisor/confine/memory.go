package confine

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// enoughToLock is the least RLIMIT_MEMLOCK, in bytes, with which all memory is locked.
// Address space counts, used or not, and Go reserves a lot of it.
const enoughToLock = 1 << 30

// lockMemory locks all memory, present and future, page by page as it is touched. It
// is one call, so that no page comes into being between two. Where the limit is
// small it must not be made: later allocations would fail and end the process. The
// regions for secrets are locked one by one in any case.
func (c *Confinement) lockMemory() error {
	const name = "memory-locked"
	has, err := capabilities()
	if err != nil {
		return err
	}
	if has&(1<<unix.CAP_IPC_LOCK) == 0 {
		var limit unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
			return fmt.Errorf("confine: read RLIMIT_MEMLOCK: %w", err)
		}
		size, err := addressSpace()
		if err != nil {
			return err
		}
		if need := max(enoughToLock, 2*size); limit.Cur != unix.RLIM_INFINITY && limit.Cur < need {
			c.note(name, Off, fmt.Sprintf("RLIMIT_MEMLOCK is %d bytes and CAP_IPC_LOCK is missing; needed are %d or unlimited", limit.Cur, need))
			return nil
		}
	}
	switch err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); {
	case err == nil:
		c.note(name, On, "")
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.EPERM), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EAGAIN):
		c.note(name, Off, "mlockall: "+err.Error())
	default:
		return fmt.Errorf("confine: mlockall: %w", err)
	}
	return nil
}

// addressSpace returns the size of the process's address space in bytes.
func addressSpace() (uint64, error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, fmt.Errorf("confine: %w", err)
	}
	first, _, _ := strings.Cut(string(b), " ")
	pages, err := strconv.ParseUint(first, 10, 64)
	if err != nil {
		return 0, errors.New("confine: /proc/self/statm is not a number of pages")
	}
	return pages * uint64(os.Getpagesize()), nil
}
