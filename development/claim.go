package development

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// markFile makes a directory a development service's, and is the lock by which one
// keyd dev at a time has it.
const markFile = ".keyd-dev"

// made is what a development service consists of besides the mark.
var made = []string{"certs", "config", "front", "token", "terminals", "pin", "ca.key", "velocity", "checkpoints", "ledger", addressFile}

// claim takes the directory: a development service already, or one that holds nothing
// of the names that a service uses. What is there of other names is left alone.
func (s *Service) claim() error {
	if err := os.MkdirAll(s.Dir, 0o711); err != nil {
		return fmt.Errorf("development directory: %w", err)
	}
	info, err := os.Lstat(s.Dir)
	if err != nil {
		return fmt.Errorf("development directory: %w", err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to somebody else: choose a directory of your own", s.Dir)
	}
	if err := s.mayClaim(info); err != nil {
		return err
	}
	s.lock, err = os.OpenFile(s.path(markFile), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("development directory: %w", err)
	}
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errors.Join(fmt.Errorf("%s is in use by another keyd dev: stop that one, or choose another directory", s.Dir), s.lock.Close())
	}
	return nil
}

func (s *Service) mayClaim(info fs.FileInfo) error {
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", s.Dir)
	}
	_, err := os.Lstat(s.path(markFile))
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("development directory: %w", err)
	}
	content, err := os.ReadDir(s.Dir)
	if err != nil {
		return fmt.Errorf("development directory: %w", err)
	}
	for _, entry := range content {
		if slices.Contains(made, entry.Name()) {
			return fmt.Errorf("%s holds %s, which is not of a development service: choose another directory", s.Dir, entry.Name())
		}
	}
	if len(content) > 0 {
		return nil
	}
	// It is empty and this user's: others may pass through, for the users of front
	// and modules.
	if err := os.Chmod(s.Dir, info.Mode().Perm()|0o111); err != nil {
		return fmt.Errorf("development directory: %w", err)
	}
	return nil
}

// Close gives the directory free.
func (s *Service) Close() error { return s.lock.Close() }
