package service

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"keyd/hsm/module"
	"keyd/supervisor"
)

// withPage gives the modules the page of memory that they share, in which one sees that
// another has pinned an epoch. The front never gets it.
func withPage(s *supervisor.Config) (*os.File, error) {
	fd, err := unix.MemfdCreate("keyd-epoch", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memory for the modules: %w", err)
	}
	f := os.NewFile(uintptr(fd), "epoch")
	err = f.Truncate(module.EpochPageSize)
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("memory for the modules: %w", err), f.Close())
	}
	s.Module.Files = append(s.Module.Files, supervisor.Inherited{Flag: "--epoch-fd", File: f})
	return f, nil
}
