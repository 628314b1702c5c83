package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
)

// Head is the newest entry of a log. The zero value is the head of an empty log.
type Head struct {
	Seq  uint64
	Hash Hash
}

// Records reads a log of one segment from its first line on and yields each record once it and its
// link to the one before are checked. After an error, a [*ChainError] or the
// reader's, it ends.
func Records(r io.Reader) iter.Seq2[Record, error] { return chain{known: true}.records(r) }

// SegmentRecords is [Records] of any segment of a log: its first entry may have any number, and
// whoever reads the segment before holds its link against the entry there.
func SegmentRecords(r io.Reader) iter.Seq2[Record, error] { return chain{}.records(r) }

func (c chain) records(r io.Reader) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		c := c
		lines := bufio.NewReaderSize(r, maxLine)
		for number := 1; ; number++ {
			line, err := lines.ReadSlice('\n')
			if err == io.EOF && len(line) == 0 {
				return
			}
			var rec Record
			switch {
			case err == nil:
				rec, err = c.next(line[:len(line)-1])
			case err == io.EOF:
				err = c.torn(len(line))
			case errors.Is(err, bufio.ErrBufferFull):
				err = c.broken("longer than any entry")
			default:
				err = fmt.Errorf("read audit log: %w", err)
			}
			var place *ChainError
			if errors.As(err, &place) {
				place.Line = number
			}
			if !yield(rec, err) || err != nil {
				return
			}
		}
	}
}

// chain checks that one record follows another.
type chain struct {
	head  Head
	known bool // head is the record before the next one
}

// next checks a line without its line feed, and moves on to it.
func (c *chain) next(line []byte) (Record, error) {
	rec, problem := parseLine(line)
	if problem != "" {
		return Record{}, c.broken(problem)
	}
	if c.known {
		if rec.Seq != c.head.Seq+1 {
			return Record{}, c.broken(fmt.Sprintf("has number %d", rec.Seq))
		}
		if rec.Prev != c.head.Hash {
			return Record{}, c.broken("does not follow the entry before it")
		}
	} else if rec.Seq == 0 {
		return Record{}, c.broken("has number 0")
	}
	c.head, c.known = Head{rec.Seq, rec.Hash}, true
	return rec, nil
}

func (c *chain) broken(problem string) error {
	e := &ChainError{Problem: problem}
	if c.known {
		e.Seq = c.head.Seq + 1
	}
	return e
}

func (c *chain) torn(size int) error {
	e := &ChainError{Problem: fmt.Sprintf("%v (%d bytes)", ErrTorn, size), torn: true}
	if c.known {
		e.Seq = c.head.Seq + 1
	}
	return e
}
