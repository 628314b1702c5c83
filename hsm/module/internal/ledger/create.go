package ledger

import (
	"bytes"
	"os"
	"path/filepath"

	"keyd/hsm/module/internal/hostfile"
)

// Create opens the file of a host for its modules, and makes it first if there is none. An
// existing file must be a regular one that only its owner can use, and whole. Nobody else gets
// it with Create ([hostfile.ErrInUse]) while the descriptor or a copy of it is open. The
// supervisor calls it.
func Create(path string) (*os.File, error) { return hostfile.Create(path, "ledger", accept) }

// Check says what is wrong with an existing file, but for its being in use.
func Check(path string) error {
	return hostfile.Check(path, "ledger", func(f *os.File) error {
		l := Open(int(f.Fd()))
		l.looking = true
		_, err := l.Count()
		return err
	})
}

// accept decides whether an opened file is one that modules may use. One that is empty, or was
// being made when the power went, becomes one.
func accept(f *os.File) error {
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
