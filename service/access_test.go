package service

import (
	"os"
	"path/filepath"
	"strings"
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
		if err := checkAccess("user", c.user, file, c.want, "do"); (err == nil) != c.allow {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := checkAccess("user", other, file, read, "do"); err == nil {
		t.Error("a file in a directory that the user cannot enter")
	}
}

// TestCheckAccessLeavesMissingFilesToOthers: nobody wants to read twice that a file is missing,
// the second time with advice that cannot be followed.
func TestCheckAccessLeavesMissingFilesToOthers(t *testing.T) {
	other := &supervisor.User{UID: uint32(os.Getuid()) + 4242, GID: uint32(os.Getgid()) + 4242}
	if err := checkAccess("user", other, filepath.Join(t.TempDir(), "none"), read, "do"); err != nil {
		t.Error(err)
	}
}

// TestCheckTree: a store that another user wrote, as root's softhsm2-util does, is found.
func TestCheckTree(t *testing.T) {
	own := &supervisor.User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	other := &supervisor.User{UID: own.UID + 4242, GID: own.GID + 4242}
	dir := t.TempDir()
	inner := filepath.Join(dir, "token")
	file := filepath.Join(inner, "token.object")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := checkTree("user", own, dir, "do"); err != nil {
		t.Errorf("one's own: %v", err)
	}
	if err := checkTree("user", other, dir, "do"); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("another's: %v", err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := checkTree("user", other, dir, "do"); err != nil {
		t.Errorf("another's, for all to read: %v", err)
	}
}
