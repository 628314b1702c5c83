package velocity

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"keyd/hsm/module/internal/hostfile"
)

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "velocity") }

func TestCreate(t *testing.T) {
	path := newPath(t)
	f, err := Create(path, minEntries+1)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != fileSize(2*minEntries/places) || info.Mode() != 0o600 {
		t.Errorf("%d bytes, %v", info.Size(), info.Mode())
	}
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		t.Fatal(err)
	}
	if stat.Blocks*512 < info.Size() {
		t.Errorf("only %d blocks are taken", stat.Blocks)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
	if _, err := Create(path, 2*minEntries); !errors.Is(err, hostfile.ErrInUse) {
		t.Errorf("in use: %v", err)
	}

	// An operator's process gets it all the same.
	beside, err := Attach(path)
	if err != nil {
		t.Fatal(err)
	}
	c := newTestClock()
	table, operators := openTable(t, f, 1, threeFiveEight, c), openTable(t, beside, 1, threeFiveEight, c)
	if got := allowed(table, Verification, numbered(1), 2) + allowed(operators, Verification, numbered(1), 2); got != 3 {
		t.Errorf("%d allowed", got)
	}
	closeTable(t, table)
	closeTable(t, operators)
	if err := errors.Join(f.Close(), beside.Close()); err != nil {
		t.Fatal(err)
	}

	// It is there again for the next keyd, if that wants the same size.
	if _, err := Create(path, minEntries); err == nil || !strings.Contains(err.Error(), "it has 2048 entries, the configuration says 1024") {
		t.Errorf("other size: %v", err)
	}
	if f, err = Create(path, 2*minEntries); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := allowed(openTable(t, f, 1, threeFiveEight, c), Verification, numbered(1), 5); got != 0 {
		t.Errorf("%d allowed", got)
	}
}

func TestCreateRefuses(t *testing.T) {
	foreign := func(content string, mode os.FileMode) func(string) error {
		return func(path string) error {
			return errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode))
		}
	}
	whole := func(path string) error {
		f, err := Create(path, minEntries)
		if err != nil {
			return err
		}
		return f.Close()
	}
	for name, c := range map[string]struct {
		prepare func(path string) error
		want    string
	}{
		"foreign":   {foreign("these are somebody's notes, not a table", 0o600), "not one of keyd's"},
		"empty":     {foreign("", 0o600), "not one of keyd's"},
		"readable":  {func(path string) error { return errors.Join(whole(path), os.Chmod(path, 0o640)) }, "chmod 600"},
		"writable":  {func(path string) error { return errors.Join(whole(path), os.Chmod(path, 0o602)) }, "chmod 600"},
		"shortened": {func(path string) error { return errors.Join(whole(path), os.Truncate(path, 5000)) }, "damaged"},
		"extended":  {func(path string) error { return errors.Join(whole(path), os.Truncate(path, 1<<20)) }, "damaged"},
		"newer": {func(path string) error {
			if err := whole(path); err != nil {
				return err
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte{2}, 8)
			return errors.Join(err, f.Close())
		}, "version 2"},
		"link":      {func(path string) error { return errors.Join(whole(path+".real"), os.Symlink(path+".real", path)) }, "symbolic link"},
		"directory": {func(path string) error { return os.Mkdir(path, 0o700) }, "is a directory"},
		"pipe":      {func(path string) error { return unix.Mkfifo(path, 0o600) }, "not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			if err := c.prepare(path); err != nil {
				t.Fatal(err)
			}
			for _, f := range []func() (*os.File, error){
				func() (*os.File, error) { return Create(path, minEntries) },
				func() (*os.File, error) { return Attach(path) },
			} {
				if file, err := f(); err == nil || !strings.Contains(err.Error(), c.want) || file != nil {
					t.Errorf("%v; want %q", err, c.want)
				}
			}
		})
	}
	for _, entries := range []int{-1, 0, minEntries - 1, maxEntries + 1} {
		if _, err := Create(newPath(t), entries); err == nil {
			t.Errorf("%d entries are accepted", entries)
		}
	}
	if _, err := Create(filepath.Join(t.TempDir(), "missing", "velocity"), minEntries); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a directory that there is not: %v", err)
	}
	if _, err := Attach(newPath(t)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("attach to a file that there is not: %v", err)
	}
}

// What a keyd left that died while it made the file is used or removed.
func TestCreateAfterADeath(t *testing.T) {
	t.Run("half written", func(t *testing.T) {
		path := newPath(t)
		if err := os.WriteFile(path+".new", []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Create(path, minEntries)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
			t.Errorf("%v, %v", left, err)
		}
	})
	t.Run("both names, then moved away", func(t *testing.T) {
		path := newPath(t)
		f, err := Create(path, minEntries)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Close(), os.Link(path, path+".new"), os.Rename(path, path+".old")); err != nil {
			t.Fatal(err)
		}
		if f, err = Create(path, 4*minEntries); err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if old, err := os.Stat(path + ".old"); err != nil || old.Size() != fileSize(minEntries/places) {
			t.Errorf("the file that was moved away has been changed: %v", err)
		}
	})
}

func TestOneKeydOnly(t *testing.T) {
	path := newPath(t)
	var got [8]*os.File
	var group sync.WaitGroup
	for i := range got {
		group.Go(func() {
			f, err := Create(path, minEntries)
			if err != nil && !errors.Is(err, hostfile.ErrInUse) {
				t.Error(err)
			}
			got[i] = f
		})
	}
	group.Wait()
	n := 0
	for _, f := range got {
		if f != nil {
			n++
			if same, err := same(f, path); err != nil || !same {
				t.Errorf("not the file of that name: %v", err)
			}
			defer f.Close()
		}
	}
	if n != 1 {
		t.Errorf("%d have the file", n)
	}
}

func TestFullDisk(t *testing.T) {
	cmd := again(t, "full disk", nil)
	cmd.Env = append(cmd.Env, pathVariable+"="+t.TempDir())
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "on the disk: ") || !strings.Contains(string(out), "make room, or set fewer velocity entries") {
		t.Errorf("%s", out)
	}
	t.Logf("%s", out)
}

// A file system that cannot allocate room gets it by writing.
func TestZeros(t *testing.T) {
	f := memoryFile(t)
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if err := zeros(f, 3<<20+5); err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != 3<<20+5 {
		t.Errorf("%v, %v", info.Size(), err)
	}
}
