package eavesdrop

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

//go:embed recorder/recorder.c
var recorder []byte

// Recording is a record that is being written.
type Recording struct {
	Library string // to load in place of the token's
	path    string
	from    int64
	spy     string // log of pkcs11-spy, or empty
	spyFrom int64
	counted int64 // of the record's bytes, in which there are
	count   int   // calls
}

// Record makes the library that records what crosses the interface of another. The process loads it
// once, and so makes one record.
func Record(t testing.TB, library string) *Recording {
	t.Helper()
	folder := t.TempDir()
	r := &Recording{Library: filepath.Join(folder, "recorder.so"), path: filepath.Join(folder, "record")}
	compile := exec.CommandContext(t.Context(), "cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-x", "c", "-o", r.Library, "-", "-ldl", "-lpthread")
	compile.Stdin = strings.NewReader(string(recorder))
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("the recorder: %v\n%s", err, out)
	}
	if err := os.WriteFile(r.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KEYD_RECORDED", library)
	t.Setenv("KEYD_RECORD", r.path)
	return r
}

// Mark says that from here on somebody listens. What was made before is there, and its values are not
// known.
func (r *Recording) Mark(t testing.TB) {
	t.Helper()
	info, err := os.Stat(r.path)
	if err != nil {
		t.Fatal(err)
	}
	r.from = info.Size()
	if r.spy == "" {
		return
	}
	if info, err = os.Stat(r.spy); err != nil {
		t.Fatal(err)
	}
	r.spyFrom = info.Size()
}

// Calls is how many calls have been recorded.
func (r *Recording) Calls(t testing.TB) int {
	t.Helper()
	f, err := os.Open(r.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()                                                   //nolint:errcheck // it was read
	text, err := io.ReadAll(io.NewSectionReader(f, r.counted, 1<<40)) // what came since the last count
	if err != nil {
		t.Fatal(err)
	}
	r.counted += int64(len(text))
	r.count += bytes.Count(text, []byte("\n"))
	return r.count
}

// call is one of the record's.
type call struct {
	number int
	name   string
	fields map[string]string
}

// calls reads the record: what came before the mark, and what came after.
func (r *Recording) calls() (before, after []call, err error) {
	text, err := os.ReadFile(r.path)
	if err != nil {
		return nil, nil, err
	}
	if before, err = parse(string(text[:r.from]), 0); err != nil {
		return nil, nil, err
	}
	after, err = parse(string(text[r.from:]), len(before))
	return before, after, err
}

func parse(text string, first int) (list []call, err error) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || !strings.HasSuffix(line, "\n") {
			return nil, fmt.Errorf("line %d of the record is not whole", first+len(list)+1)
		}
		c := call{number: first + len(list) + 1, name: words[0], fields: map[string]string{}}
		for _, w := range words[1:] {
			name, value, ok := strings.Cut(w, "=")
			if !ok {
				return nil, fmt.Errorf("line %d of the record: %q", c.number, w)
			}
			c.fields[name] = value
		}
		if c.name == "refused" {
			return nil, fmt.Errorf("line %d: a call that the recorder cannot write down", c.number)
		}
		list = append(list, c)
	}
	return list, nil
}

// done reports whether the call was carried out.
func (c call) done() bool { return c.fields["rv"] == "0" }

func (c call) String() string { return fmt.Sprintf("%s (call %d)", c.name, c.number) }

// number reads a field that every call of this name has.
func (c call) uint(field string) uint64 {
	n, err := strconv.ParseUint(c.fields[field], 16, 64)
	if err != nil {
		panic(fmt.Sprintf("%v: field %s of the record: %v", c, field, err)) // the recorder is of this package
	}
	return n
}

// bytes reads a buffer, nil where the call has none.
func (c call) bytes(field string) []byte {
	text, ok := c.fields[field]
	if !ok {
		return nil
	}
	b, err := hex.DecodeString(text)
	if err != nil {
		panic(fmt.Sprintf("%v: field %s of the record: %v", c, field, err))
	}
	return b
}

// attribute reads one of a template, nil where it is not there or without a value.
func (c call) attribute(template string, kind uint64) []byte {
	for _, one := range strings.Split(c.fields[template], ",") {
		name, value, _ := strings.Cut(one, ":")
		if n, err := strconv.ParseUint(name, 16, 64); err == nil && n == kind && value != "" {
			b, err := hex.DecodeString(value)
			if err != nil {
				panic(fmt.Sprintf("%v: attribute %x of the record: %v", c, kind, err))
			}
			return b
		}
	}
	return nil
}
