package officer

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Guard keeps this process's memory, which is about to hold an officer's key or a component,
// out of core files and away from other processes of the same user.
func Guard() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	return nil
}
