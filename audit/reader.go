package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// Reader reads the entries of a log one after the other, also while it is written. It checks
// each and its link to the one before, but where a segment is missing in between. One goroutine
// uses it.
type Reader struct {
	dir   string // empty: one segment alone
	from  uint64
	file  *os.File
	chain chain
	buf   []byte // read and not yet returned
}

// OpenReader opens a log, a directory or one segment, at its entry number from, or at the first
// that is there behind it.
func OpenReader(path string, from uint64) (*Reader, error) {
	list, err := given(path)
	if err != nil {
		return nil, err
	}
	r := &Reader{from: from}
	if filepath.Dir(list[0].path) == filepath.Clean(path) {
		r.dir = path
	}
	at := 0
	for i, s := range list {
		if s.first <= from {
			at = i
		}
	}
	return r, r.open(list[at])
}

func (r *Reader) open(s segment) error {
	f, err := openReading(s.path)
	if err != nil {
		return err
	}
	if r.file != nil {
		_ = r.file.Close() // only read
	}
	r.file, r.buf = f, r.buf[:0]
	return nil
}

// Close closes the files.
func (r *Reader) Close() error { return r.file.Close() }

// Next returns the next entry, or io.EOF when there is none now: it may be called again
// later. Any other error, a [*ChainError] for one, is final.
func (r *Reader) Next() (Record, error) {
	for {
		line, err := r.line()
		if errors.Is(err, io.EOF) && len(r.buf) == 0 {
			more, err := r.follow()
			if err != nil {
				return Record{}, err
			}
			if more {
				continue
			}
			return Record{}, io.EOF
		}
		if err != nil {
			return Record{}, err
		}
		if seq, ok := numberOf(line); ok && seq < r.from && !r.chain.known {
			r.chain.head.Seq = seq
			continue
		}
		return r.chain.next(line)
	}
}

// line returns the next whole line of the segment without its line feed, or io.EOF.
func (r *Reader) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(r.buf, '\n'); i >= 0 {
			line := r.buf[:i]
			r.buf = r.buf[i+1:]
			return line, nil
		}
		if len(r.buf) > maxLine {
			return nil, r.chain.broken("longer than any entry")
		}
		grown := make([]byte, len(r.buf), len(r.buf)+256<<10)
		copy(grown, r.buf)
		n, err := r.file.Read(grown[len(grown):cap(grown)])
		r.buf = grown[:len(grown)+n]
		if n == 0 {
			if err != nil && !errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("read audit log: %w", err)
			}
			return nil, io.EOF
		}
	}
}

// follow goes on to the next segment, if there is one.
func (r *Reader) follow() (bool, error) {
	if r.dir == "" {
		return false, nil
	}
	list, err := segments(r.dir)
	if err != nil {
		return false, err
	}
	for _, s := range list {
		if s.first <= r.chain.head.Seq {
			continue
		}
		r.chain.known = r.chain.known && s.first == r.chain.head.Seq+1
		// What came to the old one last is read before the new one.
		if line, err := r.line(); err == nil {
			r.buf = append(append(bytes.Clone(line), '\n'), r.buf...)
			return true, nil
		}
		return true, r.open(s)
	}
	return false, nil
}

// numberOf reads an entry's number without looking at the rest of its line.
func numberOf(line []byte) (uint64, bool) {
	rest, ok := bytes.CutPrefix(line, appendNumber(nil))
	if !ok {
		return 0, false
	}
	i := bytes.IndexByte(rest, ',')
	if i < 0 {
		return 0, false
	}
	seq, err := strconv.ParseUint(string(rest[:i]), 10, 64)
	return seq, err == nil
}
