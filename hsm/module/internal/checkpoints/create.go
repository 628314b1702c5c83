package checkpoints

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"keyd/hsm/module/internal/hostfile"
)

// Create opens the file of a host for its modules, and makes it first if there is none. An
// existing file must be a regular one that only its owner can use. Nobody else gets it with
// Create while the descriptor or a copy of it is open. The supervisor calls it.
func Create(path string) (*os.File, error) {
	return hostfile.Create(path, "file of checkpoints", accept)
}

// Check says what is wrong with an existing file, but for its being in use.
func Check(path string) error { return hostfile.Check(path, "file of checkpoints", whole) }

// accept decides whether an opened file is one that modules may use. One that is empty, or was
// being made when the power went, becomes one.
func accept(f *os.File) error {
	content, err := content(f)
	if err != nil {
		return err
	}
	if len(content) < FileSize && len(bytes.Trim(content, "\x00")) == 0 {
		if _, err := f.WriteAt(make([]byte, FileSize), 0); err != nil {
			return fmt.Errorf("take %d bytes on the disk: %w", FileSize, err)
		}
		if err := f.Sync(); err != nil {
			return err
		}
		return hostfile.SyncDirectory(filepath.Dir(f.Name()))
	}
	return whole(f)
}

// whole refuses a file that no module could use.
func whole(f *os.File) error {
	b, err := content(f)
	if err != nil {
		return err
	}
	if len(b) != FileSize {
		return fmt.Errorf("it has %d bytes, not %d: move it away while keyd is stopped", len(b), FileSize)
	}
	if _, _, err := newest(b); err != nil {
		return fmt.Errorf("%w: look at what damaged it, then move it away while keyd is stopped; it begins anew", err)
	}
	return nil
}

// content reads as much as is looked at.
func content(f *os.File) ([]byte, error) {
	b := make([]byte, FileSize+1)
	n := 0
	for n < len(b) {
		m, err := f.ReadAt(b[n:], int64(n))
		n += m
		if err != nil || m == 0 {
			break
		}
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if int64(n) != min(info.Size(), int64(len(b))) {
		return nil, fs.ErrInvalid
	}
	return b[:n], nil
}
