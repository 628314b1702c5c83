package front

import (
	"io/fs"
	"testing"
)

func TestMayRead(t *testing.T) {
	const me, mine, other = 100, 200, 300
	for _, c := range []struct {
		mode     fs.FileMode
		uid, gid uint32
		want     bool
	}{
		{0o600, me, mine, true}, {0o600, other, mine, false}, {0o640, other, mine, true}, {0o640, other, other, false}, {0o644, other, other, true},
		{0o044, me, mine, false},    // the owner's own right counts
		{0o604, other, mine, false}, // and the group's
		{0o600, 0, 0, false}, {0o644, 0, 0, true},
	} {
		if got := mayRead(c.mode, c.uid, c.gid, me, mine); got != c.want {
			t.Errorf("%04o %d:%d: %v", c.mode, c.uid, c.gid, got)
		}
	}
}
