package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Tail returns the newest n records of a log, oldest first, or all if there are
// fewer: of a directory with its segments, or of one segment. It checks them and their links
// but not what is before. A line that is being written is left out, so a log may be followed
// while keyd writes it.
func Tail(path string, n int) (records []Record, err error) {
	if n <= 0 {
		return nil, nil
	}
	list, err := given(path)
	if err != nil {
		return nil, err
	}
	for i := len(list) - 1; i >= 0 && len(records) < n; i-- {
		more, err := tail(list[i].path, n-len(records))
		if err != nil {
			return nil, err
		}
		if len(records) > 0 && len(more) > 0 {
			last := more[len(more)-1]
			c := chain{head: Head{last.Seq, last.Hash}, known: last.Seq+1 == records[0].Seq}
			if _, err := c.next(records[0].Line()); err != nil {
				return nil, err
			}
		}
		records = append(more, records...)
	}
	return records, nil
}

// given lists the segments that a path names: a directory's, or itself.
func given(path string) ([]segment, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	if info.IsDir() {
		list, err := segments(path)
		if err == nil && len(list) == 0 {
			err = fmt.Errorf("open audit log: %s has no segment (files named %s)", path, segmentName(1))
		}
		return list, err
	}
	f, err := openReading(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	rec, err := firstRecord(f)
	if err != nil {
		return nil, err
	}
	return []segment{{rec.Seq, path}}, nil
}

// openReading opens a segment, or a copy of one, for reading.
func openReading(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	if _, err := regularSize(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// tail is [Tail] of one segment.
func tail(path string, n int) ([]Record, error) {
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
		var c chain // the first link is not checked
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
