package audit

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncData has what was written to a file on stable storage, and its size.
func syncData(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
