package confine

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dropCapabilities leaves a front nothing and the others CAP_IPC_LOCK, if they have it, so
// that they can lock memory beyond the limit; and an unlock CAP_CHOWN, so that a key that it
// makes can be the front's.
func (c *Confinement) dropCapabilities() error {
	var keep uint64
	switch c.kind {
	case Module:
		keep = 1 << unix.CAP_IPC_LOCK
	case Unlock:
		keep = 1<<unix.CAP_IPC_LOCK | 1<<unix.CAP_CHOWN
	}
	has, err := capabilities()
	if err != nil {
		return err
	}
	bounded := c.dropBounding(keep) // needs CAP_SETPCAP, which goes next
	if err := allThreads(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("confine: clear ambient capabilities: %w", err)
	}
	keep &= has
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // PID 0: the calling thread
	sets := [2]unix.CapUserData{
		{Effective: uint32(keep), Permitted: uint32(keep)},
		{Effective: uint32(keep >> 32), Permitted: uint32(keep >> 32)},
	}
	err = allThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets[0])), 0)
	runtime.KeepAlive(&header)
	runtime.KeepAlive(&sets)
	if err != nil {
		return fmt.Errorf("confine: drop capabilities: %w", err)
	}
	if left, err := capabilities(); err != nil || left != keep {
		return errors.Join(errors.New("confine: capabilities could not be dropped"), err)
	}
	c.note("capabilities", On, "")
	if bounded != nil {
		c.note("capability-bounding-set", Partial, "not permitted to this user ("+bounded.Error()+"); no new privileges makes up for it")
	} else {
		c.note("capability-bounding-set", On, "")
	}
	return nil
}

// dropBounding empties the bounding set but for keep. It stops at the first refusal.
func (c *Confinement) dropBounding(keep uint64) error {
	for n := range uintptr(64) {
		if keep&(1<<n) != 0 {
			continue
		}
		set, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, n, 0, 0, 0)
		if err != nil {
			return nil // beyond the last capability this kernel knows
		}
		if set == 0 {
			continue
		}
		if err := allThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n, 0); err != nil {
			return err
		}
	}
	return nil
}

// capabilities returns the calling thread's permitted and effective capabilities.
func capabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return 0, fmt.Errorf("confine: read capabilities: %w", err)
	}
	low, high := sets[0].Permitted|sets[0].Effective, sets[1].Permitted|sets[1].Effective
	return uint64(high)<<32 | uint64(low), nil
}
