package audit

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestVerify(t *testing.T) {
	path := write(t, 9)
	report := verify(t, filepath.Dir(path))
	if report.Entries != 10 || report.Head.Seq != 10 || report.Tree.Size != 10 || report.Decisions[Event] != 1 || report.Decisions[Allowed] != 3 || report.Decisions[Denied] != 3 || report.Decisions[Failed] != 3 {
		t.Errorf("report %+v", report)
	}
	if report.First.Location() != time.UTC || !report.Last.After(report.First) {
		t.Errorf("from %v to %v", report.First, report.Last)
	}
	records, err := Tail(path, 1)
	if err != nil || len(records) != 1 || records[0].Hash != report.Head.Hash {
		t.Errorf("tail %+v, %v", records, err)
	}
}

// Every single byte, changed in any of three ways, is found, and at its own line.
func TestVerifyFindsEveryChangedByte(t *testing.T) {
	log := read(t, write(t, 3))
	dir := lay(t, log)
	for i := range log {
		for _, flip := range []byte{0x01, 0x20, 0x80} {
			changed := bytes.Clone(log)
			changed[i] ^= flip
			put(t, firstSegment(dir), i, changed[i])
			report, err := VerifyDir(dir, Trust{})
			var place *ChainError
			if !errors.Is(err, ErrChain) || !errors.As(err, &place) {
				t.Fatalf("byte %d with %#x: %v", i, flip, err)
			}
			line := bytes.Count(log[:i], []byte("\n")) + 1
			if place.Line != line {
				t.Errorf("byte %d of line %d was found in line %d", i, line, place.Line)
			}
			if report != nil {
				t.Errorf("byte %d: a report beside an error", i)
			}
			put(t, firstSegment(dir), i, log[i])
		}
	}
}

func TestVerifyFindsChangedOrder(t *testing.T) {
	log := string(read(t, write(t, 4)))
	other := string(read(t, write(t, 6)))
	lines, others := strings.SplitAfter(log, "\n")[:5], strings.SplitAfter(other, "\n")
	for name, c := range map[string]struct {
		lines []string
		line  int
	}{
		"first removed":    {lines[1:], 1},
		"middle removed":   {slices.Delete(slices.Clone(lines), 2, 3), 3},
		"two exchanged":    {[]string{lines[0], lines[2], lines[1], lines[3], lines[4]}, 2},
		"one repeated":     {slices.Insert(slices.Clone(lines), 3, lines[2]), 4},
		"cut in a line":    {append(slices.Clone(lines[:2]), lines[2][:40]+"\n", lines[3], lines[4]), 3},
		"joined lines":     {append(slices.Clone(lines[:2]), strings.TrimSuffix(lines[2], "\n")+lines[3], lines[4]), 3},
		"empty line":       {slices.Insert(slices.Clone(lines), 1, "\n"), 2},
		"space before":     {slices.Insert(slices.Clone(lines), 1, " "), 2},
		"foreign line":     {append(slices.Clone(lines), others[6]), 6},
		"carriage returns": {[]string{strings.TrimSuffix(lines[0], "\n") + "\r\n"}, 1},
		"too long":         {append(slices.Clone(lines), strings.Repeat("x", 3*maxLine)+"\n"), 6},
	} {
		_, err := VerifyDir(lay(t, []byte(strings.Join(c.lines, ""))), Trust{})
		var place *ChainError
		if !errors.As(err, &place) || place.Line != c.line || errors.Is(err, ErrTorn) {
			t.Errorf("%s: %v, want line %d", name, err, c.line)
		}
	}
}

func TestVerifyTellsTornEnd(t *testing.T) {
	log := read(t, write(t, 3))
	ends := 0
	for cut := range len(log) {
		report, err := VerifyDir(lay(t, log[:cut]), Trust{})
		if cut == 0 {
			if !errors.Is(err, ErrChain) {
				t.Error(err)
			}
			continue
		}
		if log[cut-1] == '\n' {
			ends++
			// A log that ends between entries is a good one: only hashes and checkpoints tell.
			if err != nil || report.Entries != uint64(ends) {
				t.Errorf("cut at %d: %v", cut, err)
			}
			continue
		}
		if !errors.Is(err, ErrTorn) || !errors.Is(err, ErrChain) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
	if ends != 3 {
		t.Errorf("%d ends of lines", ends)
	}
}

func TestRecordsPassReadErrorsOn(t *testing.T) {
	log := read(t, write(t, 2))
	last := func(r io.Reader) (err error) {
		for _, err = range Records(r) {
			continue
		}
		return err
	}
	if err := last(iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(log)))); !errors.Is(err, iotest.ErrTimeout) || errors.Is(err, ErrChain) {
		t.Error(err)
	}
	broken := errors.New("disk")
	if err := last(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestRecordsCanStop(t *testing.T) {
	n := 0
	for rec, err := range Records(bytes.NewReader(read(t, write(t, 5)))) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if rec.Seq == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("%d records", n)
	}
}

func TestTail(t *testing.T) {
	const entries = 300 // more than the first window of Tail holds
	path := write(t, entries-1)
	if size := len(read(t, path)); size < 2*maxLine {
		t.Fatalf("the log has only %d bytes", size)
	}
	for n, want := range map[int]int{-1: 0, 0: 0, 1: 1, 10: 10, 200: 200, entries: entries, entries + 5: entries} {
		records, err := Tail(path, n)
		if err != nil || len(records) != want {
			t.Errorf("Tail of %d: %d records, %v", n, len(records), err)
			continue
		}
		for i, rec := range records {
			if rec.Seq != uint64(entries-want+1+i) {
				t.Errorf("Tail of %d: record %d has number %d", n, i, rec.Seq)
			}
		}
	}
	log := read(t, path)
	if err := os.WriteFile(path, append(log, log[:25]...), 0o600); err != nil {
		t.Fatal(err)
	}
	if records, err := Tail(path, 1); err != nil || records[0].Seq != entries {
		t.Errorf("beside a line in progress: %v", err)
	}
	log[len(log)-100] ^= 1
	if err := os.WriteFile(path, log, 0o600); err != nil {
		t.Fatal(err)
	}
	if records, err := Tail(path, 5); !errors.Is(err, ErrChain) || records != nil {
		t.Errorf("with a changed byte: %v", err)
	}
}
