package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// maxSecretFile bounds a file with a token or a secret-id, in bytes.
const maxSecretFile = 16 << 10

// readPrivate reads a file that nobody but its owner may use. fs.ErrNotExist is passed on.
func readPrivate(what, path string) ([]byte, error) {
	// First what can be asked without opening: Landlock opens nothing but files.
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink == 0 {
		if err := CheckPrivate(what, path, info); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case errors.Is(err, unix.ELOOP):
		return nil, refused("%s: %s is a symbolic link: name the file itself", what, path)
	case err != nil:
		return nil, refused("%s: %v: it must belong to the user that starts keyd", what, err)
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	if err != nil {
		return nil, refused("%s: %v", what, err)
	}
	if err := CheckPrivate(what, path, info); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecretFile+1))
	if err == nil && len(b) > maxSecretFile {
		err = fmt.Errorf("more than %d bytes", maxSecretFile)
	}
	if err != nil {
		return nil, refused("%s: %s: %v", what, path, err)
	}
	return b, nil
}

// CheckPrivate wants a regular file that only its owner may use.
func CheckPrivate(what, path string, info fs.FileInfo) error {
	switch {
	case !info.Mode().IsRegular():
		return refused("%s: %s is not a regular file", what, path)
	case info.Mode().Perm()&0o077 != 0:
		return refused("%s: others may use %s: chmod 600 it, and replace what it holds if anyone may have read it", what, path)
	}
	return nil
}

// oneLine returns the one line of a file, without its end.
func oneLine(what, path string, b []byte) (string, error) {
	line, rest, _ := bytes.Cut(b, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 || len(bytes.TrimSpace(rest)) > 0 {
		return "", refused("%s: %s must hold one line and nothing else", what, path)
	}
	for _, r := range line {
		if r <= ' ' || r > '~' {
			return "", refused("%s: %s holds characters that none of Vault's has", what, path)
		}
	}
	return string(line), nil
}
