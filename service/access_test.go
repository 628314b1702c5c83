package service

import (
	"os"
	"path/filepath"
	"testing"

	"keyd/supervisor"
)

func TestCheckAccess(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	for p := filepath.Dir(dir); p != "/"; p = filepath.Dir(p) {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm()&1 == 0 {
			if err := os.Chmod(p, 0o711); err != nil { // the test's own directory above
				t.Fatal(err)
			}
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	own := &supervisor.User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	other := &supervisor.User{UID: own.UID + 4242, GID: own.GID + 4242}
	for name, c := range map[string]struct {
		user  *supervisor.User
		mode  os.FileMode
		want  os.FileMode
		allow bool
	}{
		"its own":                     {own, 0o600, read | write, true},
		"its own, read-only":          {own, 0o400, read | write, false},
		"another's, private":          {other, 0o600, read, false},
		"another's, for all to read":  {other, 0o644, read, true},
		"another's, for all, written": {other, 0o644, write, false},
	} {
		if err := os.Chmod(file, c.mode); err != nil {
			t.Fatal(err)
		}
		if err := checkAccess("user", c.user, file, c.want); (err == nil) != c.allow {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := checkAccess("user", other, file, read); err == nil {
		t.Error("a file in a directory that the user cannot enter")
	}
}
