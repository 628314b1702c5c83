package pinopstest

import (
	"strings"

	"keyd/hsm"
)

// fills collects what blocks that leave are filled with.
type fills struct {
	letters [14]map[rune]int // format 3, by place
	tails   map[string]bool  // format 4
	twice   int              // tails that were seen before
}

func newFills() *fills {
	f := &fills{tails: map[string]bool{}}
	for i := range f.letters {
		f.letters[i] = map[rune]int{}
	}
	return f
}

// take takes the fill of a field, which is one.
func (f *fills) take(format hsm.Format, fill string, field []byte) {
	switch format {
	case hsm.Format3:
		for i, c := range fill {
			f.letters[14-len(fill)+i][c]++
		}
	case hsm.Format4:
		tail := string(field[8:])
		if f.tails[tail] {
			f.twice++
		}
		f.tails[tail] = true
	}
}

// enough is how many fill digits of a place must have come before one that is missing is no chance:
// (5/6)^400 is 2e-32.
const enough = 400

// judge reports fill that is not random: that of format 3 must have every letter at every place, that
// of format 4 must never come again.
func (f *fills) judge(b *bench) {
	for place, counts := range f.letters {
		n := 0
		for _, count := range counts {
			n += count
		}
		for _, letter := range "ABCDEF" {
			if n >= enough && counts[letter] == 0 {
				b.Errorf("fill digit %d of format 3 is never %c in %d blocks: %v", place, letter, n, counts)
			}
		}
		for letter := range counts {
			if !strings.ContainsRune("ABCDEF", letter) {
				b.Errorf("fill digit %d of format 3 is %c", place, letter)
			}
		}
	}
	if f.twice > 0 {
		b.Errorf("%d random fields of format 4 were not new", f.twice)
	}
}
