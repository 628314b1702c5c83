package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"keyd/ceremony"
	"keyd/config"
	"keyd/hsm/module"
	"keyd/supervisor"
)

// Initialise carries out one step in which a production token gets its roster and master
// keys: the unlock child and one with the token run, and nothing else.
func Initialise(ctx context.Context, c *config.Config, request *module.InitRequest, log *slog.Logger) (*module.InitAnswer, error) {
	users, err := separate(c, Options{Log: log})
	if err != nil {
		return nil, err
	}
	encoded, err := ceremony.Encode(request)
	if err != nil {
		return nil, err
	}
	input, err := memoryFile("keyd-init", string(encoded))
	if err != nil {
		return nil, err
	}
	defer input.Close() //nolint:errcheck // gone with the last descriptor
	output, err := supervisor.RunOnce(ctx, supervisor.Config{
		Unlock:    supervisor.Command{Args: unlockArgs(c)},
		Provision: &supervisor.Command{Args: moduleArgs("init", c, Options{}, users), Env: environment(c), User: users.module, Input: input},
		Logger:    log,
	})
	if err != nil {
		return nil, err
	}
	defer output.Close() //nolint:errcheck // read only
	if _, err := output.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(output)
	if err != nil {
		return nil, err
	}
	answer, err := ceremony.Decode[module.InitAnswer](b, len(b))
	if err != nil {
		return nil, errors.New("the process with the token did not answer")
	}
	return answer, nil
}

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
