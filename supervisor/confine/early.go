package confine

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// Early takes the measures that need nothing but the process itself. supervisor is the
// process that must be the parent ([keyd/supervisor/child.Control.Supervisor]).
func (c *Confinement) Early(supervisor int) error {
	if err := c.enter(early); err != nil {
		return err
	}
	// Core files first: whatever fails below must not leave memory on a disk.
	for _, measure := range []func() error{
		c.noCoreFile,
		c.notDumpable,
		func() error { return c.dieWithParent(supervisor) },
		c.noNewPrivileges, // before capabilities: nothing can give them back
		c.dropCapabilities,
	} {
		if err := measure(); err != nil {
			return err
		}
	}
	if c.kind != Front {
		return c.lockMemory() // after capabilities: with those that remain
	}
	return nil
}

// noCoreFile covers core files that the kernel writes itself. It ignores the limit
// when core_pattern is a pipe; notDumpable covers that.
func (c *Confinement) noCoreFile() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("confine: set RLIMIT_CORE: %w", err)
	}
	c.note("core-limit", On, "")
	return nil
}

// notDumpable also gives /proc/PID to root: another process of the same user can
// neither trace this one nor open its memory or descriptors.
func (c *Confinement) notDumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("confine: PR_SET_DUMPABLE: %w", err)
	}
	c.note("not-dumpable", On, "")
	return nil
}

// dieWithParent repeats what the supervisor asked for when it forked, because a
// change of user clears it; then it checks that the supervisor had not gone already.
func (c *Confinement) dieWithParent(supervisor int) error {
	if err := allThreads(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0); err != nil {
		return fmt.Errorf("confine: PR_SET_PDEATHSIG: %w", err)
	}
	if os.Getppid() != supervisor {
		return errors.New("confine: the supervisor has gone")
	}
	c.note("parent-death-signal", On, "")
	return nil
}

func (c *Confinement) noNewPrivileges() error {
	if err := allThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("confine: PR_SET_NO_NEW_PRIVS: %w", err)
	}
	c.note("no-new-privileges", On, "")
	return nil
}

// allThreads makes a system call on every thread of the process.
func allThreads(number, a, b, c uintptr) error {
	if _, _, errno := psx.Syscall6(number, a, b, c, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}
