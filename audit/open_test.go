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
	path := write(t, 3)
	l := openLog(t, path)
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
	if report, err := Verify(bytes.NewReader(read(t, path))); err != nil || report.Entries != 4 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestOpenReadsOnlyTheEndOfALongLog(t *testing.T) {
	path := write(t, 1)
	line := read(t, path)
	long := bytes.Repeat(line, window/len(line)+2)
	// The front part is no chain, which only Verify can see; the end has to be one.
	e, err := sample().normalize()
	if err != nil {
		t.Fatal(err)
	}
	head := Head{Seq: 41}
	clock := ticking()
	start := len(long)
	for len(long) < start+window+maxLine {
		head.Seq++
		long, head.Hash = appendLine(long, head.Seq, clock(), appendBody(nil, &e), head.Hash)
	}
	if err := os.WriteFile(path, long, 0o600); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, path)
	if l.Head() != head {
		t.Errorf("head %+v, want %+v", l.Head(), head)
	}
	if _, err := Verify(bytes.NewReader(long)); !errors.Is(err, ErrChain) {
		t.Errorf("Verify: %v", err)
	}
}

// Wherever a write was cut off, the log opens, says so, and is a good one again.
func TestOpenMendsATornEnd(t *testing.T) {
	whole := read(t, write(t, 3))
	second := bytes.IndexByte(whole, '\n') + 1
	third := second + bytes.IndexByte(whole[second:], '\n') + 1
	path := filepath.Join(t.TempDir(), "audit.log")
	check := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(path, Options{Clock: ticking()})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := l.Close(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		records, err := Tail(path, 1)
		if err != nil || records[0].Decision != Event || !strings.Contains(records[0].Detail, "incomplete last line") {
			t.Fatalf("%s: %+v, %v", name, records, err)
		}
		mended := read(t, path)
		kept := content[:bytes.LastIndexByte(content, '\n')+1]
		if _, err := Verify(bytes.NewReader(mended)); err != nil || !bytes.HasPrefix(mended, kept) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for cut := third + 1; cut < len(whole); cut += 7 {
		check("cut", whole[:cut])
	}
	check("without line feed", whole[:len(whole)-1])
	check("first line cut", whole[:20])
	check("zeros", append(bytes.Clone(whole[:third]), make([]byte, 5000)...))
	check("cut, then zeros", append(bytes.Clone(whole[:third+50]), make([]byte, 5000)...))
	check("zeros only", make([]byte, 4096))
}

func TestOpenRefusesAnythingElse(t *testing.T) {
	whole := read(t, write(t, 4))
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
		"text after the end":   join(whole, []byte("x")),
		"entry of another log": join(whole, lines[1][:60]),
		"last line feed lost":  join(whole[:len(whole)-1], []byte(" ")),
		"endless line":         join(whole, []byte(`{"v":1,"seq":5,"time":"`), bytes.Repeat([]byte("x"), maxBatch)),
		"zeros without end":    make([]byte, window+1),
		"text without end":     bytes.Repeat([]byte("x"), window+1),
	} {
		path := filepath.Join(t.TempDir(), "audit.log")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(path, Options{})
		if !errors.Is(err, ErrChain) || l != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(read(t, path), content) {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

func TestOpenWritesAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	first := openLog(t, path)
	if l, err := Open(path, Options{}); !errors.Is(err, ErrLocked) || l != nil {
		t.Errorf("a second writer: %v", err)
	}
	add(t, first, sample())
	if records, err := Tail(path, 5); err != nil || len(records) != 1 {
		t.Errorf("a reader beside the writer: %d records, %v", len(records), err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if l := openLog(t, path); l.Head().Seq != 1 {
		t.Errorf("after the first: head %+v", l.Head())
	}
}

func TestOpenCreatesForTheOwnerOnly(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	path := filepath.Join(t.TempDir(), "audit.log")
	openLog(t, path)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestOpenRefusesOtherFiles(t *testing.T) {
	dir := t.TempDir()
	good := write(t, 1)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(open, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o640); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, pipe, open, dir, filepath.Join(dir, "none", "audit.log"), "/dev/full"} {
		if l, err := Open(path, Options{}); err == nil || l != nil {
			t.Errorf("%s was opened", path)
		}
	}
	if _, err := Tail(pipe+"x", 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Tail of nothing: %v", err)
	}
	if _, err := Tail(dir, 1); err == nil {
		t.Error("Tail of a directory")
	}
}
