package service

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"keyd/supervisor"
)

// What a user may do with a file, as in its mode.
const (
	enter fs.FileMode = 1
	write fs.FileMode = 2
	read  fs.FileMode = 4
)

// checkAccess says why a user without supplementary groups cannot reach path or use it
// as wanted, and what to do: what POSIX modes say, since access lists and the like cannot
// be asked about another user. That a path does not exist is for others to say.
func checkAccess(field string, u *supervisor.User, path string, want fs.FileMode, remedy string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if !allows(u, dir, enter) {
			return fmt.Errorf("%s (user %d) cannot enter %s on the way to %s: chmod o+x it, or choose another place", field, u.UID, dir, path)
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		want |= enter
	}
	if !allows(u, path, want) {
		verb := "read"
		if want&write != 0 {
			verb = "write to"
		}
		return fmt.Errorf("%s (user %d) cannot %s %s: %s", field, u.UID, verb, path, remedy)
	}
	return nil
}

// checkTree looks for something in a directory that its user cannot read, as a token's store
// holds after root has initialised the token, and says what to do. It stops at the first.
func checkTree(field string, u *supervisor.User, dir, remedy string) (problem error) {
	// What cannot be looked at here is no fault of the configuration.
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		want := read
		switch {
		case err != nil || d.Type()&fs.ModeSymlink != 0:
			return nil
		case d.IsDir():
			want |= enter
		}
		if allows(u, path, want) {
			return nil
		}
		if _, err := os.Stat(path); err != nil {
			return nil // it has gone meanwhile
		}
		problem = fmt.Errorf("%s (user %d) cannot read %s: %s", field, u.UID, path, remedy)
		return fs.SkipAll
	})
	return problem
}

func allows(u *supervisor.User, path string, want fs.FileMode) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	mode := info.Mode().Perm()
	switch {
	case owner.Uid == u.UID:
		mode >>= 6
	case owner.Gid == u.GID:
		mode >>= 3
	}
	return mode&want == want
}
