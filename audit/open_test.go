package audit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpenContinuesTheChain(t *testing.T) {
	path := write(t, 2)
	l := openLog(t, filepath.Dir(path))
	head := l.Head()
	if head.Seq != 3 {
		t.Fatalf("head %+v", head)
	}
	add(t, l, sample())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	records, err := Tail(path, 1)
	if err != nil || records[0].Seq != 4 || records[0].Prev != head.Hash {
		t.Errorf("%+v, %v", records, err)
	}
	if report := verify(t, filepath.Dir(path)); report.Entries != 4 || report.Tree.Size != 4 {
		t.Errorf("%+v", report)
	}
}

// Wherever a write was cut off, the log opens, says so, and is a good one again.
func TestOpenMendsATornEnd(t *testing.T) {
	whole := read(t, write(t, 2))
	second := bytes.IndexByte(whole, '\n') + 1
	third := second + bytes.IndexByte(whole[second:], '\n') + 1
	check := func(name string, content []byte) {
		t.Helper()
		dir := lay(t, content)
		l, err := Open(dir, Options{Clock: ticking()})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := l.Close(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		records, err := Tail(dir, 1)
		if err != nil || records[0].Decision != Event || !strings.Contains(records[0].Detail, "incomplete last line") {
			t.Fatalf("%s: %+v, %v", name, records, err)
		}
		mended := read(t, firstSegment(dir))
		kept := content[:bytes.LastIndexByte(content, '\n')+1]
		if verify(t, dir); !bytes.HasPrefix(mended, kept) {
			t.Fatal(name)
		}
	}
	for cut := third + 1; cut < len(whole); cut += 7 {
		check("cut", whole[:cut])
	}
	check("without line feed", whole[:len(whole)-1])
	check("zeros", append(bytes.Clone(whole[:third]), make([]byte, 5000)...))
	check("cut, then zeros", append(bytes.Clone(whole[:third+50]), make([]byte, 5000)...))
}

func TestOpenRefusesAnythingElse(t *testing.T) {
	whole := read(t, write(t, 3))
	lines := bytes.SplitAfter(whole, []byte("\n"))
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	flipped := bytes.Clone(whole)
	flipped[len(whole)/2] ^= 1
	for name, content := range map[string][]byte{
		"changed byte":         flipped,
		"removed line":         join(lines[0], lines[2], lines[3]),
		"first line missing":   join(lines[1], lines[2], lines[3]),
		"cut in the middle":    join(lines[0], lines[1][:30], lines[2], lines[3]),
		"another file":         []byte("-----BEGIN CERTIFICATE-----"),
		"first line cut":       whole[:20], // a segment gets its name with its first entry
		"zeros only":           make([]byte, 4096),
		"nothing":              {},
		"text after the end":   join(whole, []byte("x")),
		"entry of another log": join(whole, lines[1][:60]),
		"last line feed lost":  join(whole[:len(whole)-1], []byte(" ")),
		"endless line":         join(whole, []byte(`{"v":2,"seq":5,"time":"`), bytes.Repeat([]byte("x"), maxBatch)),
		"zeros without end":    make([]byte, window+1),
		"text without end":     bytes.Repeat([]byte("x"), window+1),
	} {
		dir := lay(t, content)
		l, err := Open(dir, Options{})
		if !errors.Is(err, ErrChain) || l != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(read(t, firstSegment(dir)), content) {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

func TestOpenWritesAlone(t *testing.T) {
	path := newDir(t)
	first := openLog(t, path)
	if l, err := Open(path, Options{}); !errors.Is(err, ErrLocked) || l != nil {
		t.Errorf("a second writer: %v", err)
	}
	add(t, first, sample())
	if records, err := Tail(path, 5); err != nil || len(records) != 2 {
		t.Errorf("a reader beside the writer: %d records, %v", len(records), err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if l := openLog(t, path); l.Head().Seq != 2 {
		t.Errorf("after the first: head %+v", l.Head())
	}
}

func TestOpenCreatesForTheOwnerOnly(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	dir := newDir(t)
	openLog(t, dir)
	for path, want := range map[string]os.FileMode{dir: os.ModeDir | 0o700, firstSegment(dir): 0o600, filepath.Join(dir, treeFile): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: mode %v, %v", path, info.Mode(), err)
		}
	}
}

func TestOpenRefusesOtherFiles(t *testing.T) {
	good := filepath.Dir(write(t, 1))
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	open := newDir(t)
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o750); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	paths := []string{link, open, file, filepath.Join(open, "none", "audit"), "/dev/full"}
	for name, spoil := range map[string]func(path string) error{
		"a link in place of the segment": func(path string) error {
			return errors.Join(os.Rename(path, path+".x"), os.Symlink(path+".x", path))
		},
		"a pipe in place of the segment": func(path string) error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)) },
		"a segment open to the group":    func(path string) error { return os.Chmod(path, 0o640) },
		"a pipe in place of the hashes": func(path string) error {
			tree := filepath.Join(filepath.Dir(path), treeFile)
			return errors.Join(os.Remove(tree), unix.Mkfifo(tree, 0o600))
		},
	} {
		path := write(t, 1)
		if err := spoil(path); err != nil {
			t.Fatal(name, err)
		}
		paths = append(paths, filepath.Dir(path))
	}
	for _, path := range paths {
		if l, err := Open(path, Options{}); err == nil || l != nil {
			t.Errorf("%s was opened", path)
		}
	}
	if _, err := Tail(link+"x", 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Tail of nothing: %v", err)
	}
	if _, err := Tail(t.TempDir(), 1); err == nil {
		t.Error("Tail of an empty directory")
	}
}
