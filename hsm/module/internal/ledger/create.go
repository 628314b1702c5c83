package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"keyd/hsm/module/internal/hostfile"
)

// Create opens the file of a host for its modules, and makes it first if there is none. An
// existing file must be a regular one that only its owner can use, and whole. Nobody else gets
// it with Create ([hostfile.ErrInUse]) while the descriptor or a copy of it is open. The
// supervisor calls it.
func Create(path string) (*os.File, error) {
	f, err := hostfile.Open(path, os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("ledger %s: %w", path, err)
	}
	if err := accept(f); err != nil {
		return nil, errors.Join(fmt.Errorf("ledger %s: %w", path, err), f.Close())
	}
	return f, nil
}

// Check says what is wrong with an existing file, but for its being in use.
func Check(path string) error {
	f, err := hostfile.Open(path, 0)
	if err == nil {
		if err = hostfile.Private(f); err == nil {
			_, err = Open(int(f.Fd())).Count()
		}
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("ledger %s: %w", path, err)
	}
	return nil
}

// accept decides whether an opened file is one that modules may use. One that is empty, or was
// being made when the power went, becomes one.
func accept(f *os.File) error {
	if err := hostfile.Private(f); err != nil {
		return err
	}
	if err := hostfile.Claim(f); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() <= headSize {
		b := make([]byte, info.Size())
		if err := hostfile.ReadAt(int(f.Fd()), b, 0); err != nil {
			return err
		}
		if bytes.HasPrefix(emptyHead(), b) || len(bytes.Trim(b, "\x00")) == 0 {
			if err := hostfile.WriteAt(int(f.Fd()), emptyHead(), 0); err != nil {
				return err
			}
			if err := f.Sync(); err != nil {
				return err
			}
			return hostfile.SyncDirectory(filepath.Dir(f.Name()))
		}
	}
	_, err = Open(int(f.Fd())).Count()
	return err
}
