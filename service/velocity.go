package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"keyd/config"
	"keyd/hsm/module"
	"keyd/supervisor"
)

// velocityFlag names the file by which modules limit tries.
const velocityFlag = "--velocity-fd"

// limited reports whether tries are limited at all: always in production, where a
// configuration has limits even if it names none.
func limited(v config.Velocity) bool {
	none := config.Limits{}
	return v.Verify != none || v.Translate != none || v.Card != none
}

// withVelocity gives the modules the file, which is made if it is missing. The function
// it returns is called when all of them have ended.
func withVelocity(c *config.Config, s *supervisor.Config) (end func() error, err error) {
	if !limited(c.Velocity) {
		return func() error { return nil }, nil
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(c.Velocity.File); errors.Is(err, fs.ErrNotExist) {
		s.Logger.Warn("a new velocity file is made: no tries are remembered", "file", c.Velocity.File)
	}
	f, err := module.CreateVelocity(c.Velocity.File, c.Velocity.Entries)
	if err != nil {
		return nil, fmt.Errorf("velocity.file: %w", err)
	}
	s.Module.Args = append(s.Module.Args, velocityArgs(c, boot)...)
	s.Module.Files = append(s.Module.Files, supervisor.Inherited{Flag: velocityFlag, File: f})
	return func() error { return errors.Join(module.EndVelocity(f, boot), f.Close()) }, nil
}

func velocityArgs(c *config.Config, boot string) []string {
	return []string{
		"--boot-id", boot,
		"--verify-limits", limitsArg(c.Velocity.Verify.Split(c.Fleet.Size)),
		"--translate-limits", limitsArg(c.Velocity.Translate.Split(c.Fleet.Size)),
		"--card-limits", limitsArg(c.Velocity.Card.Split(c.Fleet.Size)),
	}
}

func limitsArg(l config.Limits) string {
	return fmt.Sprintf("%d,%d,%d", max(l.Minute, 0), max(l.Hour, 0), max(l.Day, 0)) // Unlimited is 0 there
}

// bootID names the present run of the kernel: what a file holds is whole as long as it
// lasts, whatever happens to processes.
func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot ID: %w", err)
	}
	return strings.ReplaceAll(strings.TrimSpace(string(b)), "-", ""), nil
}

// Permit lets the tries of an account be reset once within a time, beside the service
// that runs with this configuration. It takes the token's PIN, like a start of the
// service; the permit is redeemed over the network (keyd.v1.VelocityService).
func Permit(ctx context.Context, c *config.Config, o Options, pan string, translations bool, valid time.Duration) error {
	users, err := separate(c, o)
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	f, err := module.AttachVelocity(c.Velocity.File)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no velocity file %s: name the configuration of the service that runs, or start keyd once with tries limited", c.Velocity.File)
	}
	if err != nil {
		return fmt.Errorf("velocity.file: %w", err)
	}
	defer f.Close() //nolint:errcheck // written through memory, which the child has synced
	account, err := memoryFile("account", pan)
	if err != nil {
		return err
	}
	defer account.Close() //nolint:errcheck // gone with the last descriptor
	unlock, vaultFiles, err := unlockOnly(c)
	if err != nil {
		return err
	}
	defer vaultFiles.Close() //nolint:errcheck // gone with the last descriptor
	args := append(moduleArgs("permit", c, o, users), velocityArgs(c, boot)...)
	args = append(args, fmt.Sprintf("--translations=%t", translations), "--valid", valid.String())
	output, err := supervisor.RunOnce(ctx, supervisor.Config{
		Unlock: unlock,
		Provision: &supervisor.Command{
			Args: args, Env: environment(c), User: users.module, Input: account,
			Files: []supervisor.Inherited{{Flag: velocityFlag, File: f}},
		},
		Logger: o.Log,
	})
	if err == nil {
		err = output.Close()
	}
	return errors.Join(err, module.EndPermit(f, boot))
}

// memoryFile holds a text that belongs on no command line and on no disk.
func memoryFile(name, text string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err = f.WriteString(text); err == nil {
		_, err = f.Seek(0, 0)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
