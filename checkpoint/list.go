package checkpoint

import (
	"bytes"
	"fmt"
)

// A list of checkpoints is one after the other, each of five lines (signed by the log alone)
// with an empty line behind it, so that it can be appended to.

// listed is how many lines one has there.
const listed = 6

// AppendTo appends the checkpoint to a list.
func (c *Checkpoint) AppendTo(list []byte) []byte {
	return append(append(list, c.Note...), '\n')
}

// ParseList reads a list. rest is how many bytes at its end are the beginning of another
// one, which a loss of power has left: none, in a list that is whole. The error wraps
// [ErrNote].
func ParseList(list []byte) (all []*Checkpoint, rest int, err error) {
	for number := 1; len(list) > 0; number++ {
		end, lines := 0, 0
		for lines < listed {
			i := bytes.IndexByte(list[end:], '\n')
			if i < 0 {
				return all, len(list), nil
			}
			end, lines = end+i+1, lines+1
		}
		c, err := Parse(list[:end-1])
		if err != nil || list[end-2] != '\n' {
			return nil, 0, fmt.Errorf("%w: number %d of the list", ErrNote, number)
		}
		all, list = append(all, c), list[end:]
	}
	return all, 0, nil
}
