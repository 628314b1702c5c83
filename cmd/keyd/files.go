package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Files that officers keep are never overwritten.

// writeNew writes a file that is not there yet, whole and durably.
func writeNew(path string, text []byte, mode fs.FileMode) error {
	f, err := createNew(path, mode)
	if err != nil {
		return err
	}
	return f.finish(text)
}

// newFile is a file that was created exclusively and is still empty: it is created before
// something is done that must not happen without it.
type newFile struct{ *os.File }

func createNew(path string, mode fs.FileMode) (*newFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s exists, and is not overwritten: choose another name", path)
	}
	if err != nil {
		return nil, err
	}
	return &newFile{f}, nil
}

// finish writes the content.
func (f *newFile) finish(text []byte) error {
	_, err := f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(f.Name()) // ours
		return err
	}
	dir, err := os.Open(filepath.Dir(f.Name()))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// discard removes the file again.
func (f *newFile) discard() {
	_ = f.Close()
	_ = os.Remove(f.Name())
}
