package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// Tail returns the newest n records of a log, oldest first, or all if there are
// fewer. It checks them and their links but not what is before. A line that is being
// written is left out, so a log may be followed while keyd writes it.
func Tail(path string, n int) ([]Record, error) {
	if n <= 0 {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	size, err := regularSize(f)
	if err != nil {
		return nil, err
	}
	for window := int64(maxLine); ; window *= 4 {
		end, err := readEnd(f, size, window)
		if err != nil {
			return nil, err
		}
		if !end.whole && len(end.lines) < n {
			continue
		}
		c := chain{known: end.whole && n >= len(end.lines)} // else its first link is not checked
		records := make([]Record, 0, min(n, len(end.lines)))
		for _, line := range end.lines[max(0, len(end.lines)-n):] {
			rec, err := c.next(line)
			if err != nil {
				return nil, err
			}
			records = append(records, rec)
		}
		return records, nil
	}
}

// ending is the end of a log.
type ending struct {
	whole bool     // it is the whole log
	lines [][]byte // complete lines without their line feed
	torn  []byte   // what is after the last line feed
}

// readEnd reads about the last window bytes of a log of that size. Unless this is the
// whole log, the first line in the window may be a part of one and is left out.
func readEnd(f io.ReaderAt, size, window int64) (ending, error) {
	start := max(0, size-window)
	b := make([]byte, size-start)
	if _, err := f.ReadAt(b, start); err != nil && !errors.Is(err, io.EOF) {
		return ending{}, fmt.Errorf("read audit log: %w", err)
	}
	e := ending{whole: start == 0}
	if !e.whole {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			e.torn = b
			return e, nil
		}
		b = b[i+1:]
	}
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			e.torn = b
			return e, nil
		}
		e.lines = append(e.lines, b[:i])
		b = b[i+1:]
	}
}

func regularSize(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("open audit log: %w", err)
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("audit log %s is not a regular file", f.Name())
	}
	return info.Size(), nil
}
