package service

import (
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
// as wanted: what POSIX modes say, since access lists and the like cannot be asked
// about another user.
func checkAccess(field string, u *supervisor.User, path string, want fs.FileMode) error {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if !allows(u, dir, enter) {
			return fmt.Errorf("%s (user %d) cannot enter %s on the way to %s", field, u.UID, dir, path)
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		want |= enter
	}
	if !allows(u, path, want) {
		return fmt.Errorf("%s (user %d) may not use %s: give it to that user", field, u.UID, path)
	}
	return nil
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
