package checkpoints

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"keyd/checkpoint"
	"keyd/hsm/module/internal/hostfile"
)

// history is a log of lines with its trees and proofs.
type history struct {
	t      testing.TB
	stored []tlog.Hash
	count  int64
}

func (h *history) ReadHashes(indexes []int64) (list []tlog.Hash, err error) {
	for _, i := range indexes {
		list = append(list, h.stored[i])
	}
	return list, nil
}

func (h *history) add(lines ...string) *history {
	for _, line := range lines {
		more, err := tlog.StoredHashes(h.count, []byte(line), h)
		if err != nil {
			h.t.Fatal(err)
		}
		h.stored = append(h.stored, more...)
		h.count++
	}
	return h
}

func (h *history) tree(n int64) checkpoint.Tree {
	root, err := tlog.TreeHash(n, h)
	if err != nil {
		h.t.Fatal(err)
	}
	return checkpoint.Tree{Size: uint64(n), Root: root}
}

func (h *history) proof(from, to int64) []checkpoint.Hash {
	proof, err := tlog.ProveTree(to, from, h)
	if err != nil {
		h.t.Fatal(err)
	}
	return proof
}

func origin(n int) string { return fmt.Sprintf("keyd/%032x", n) }

func memory(t testing.TB) (*Memory, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "checkpoints")
	f, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return Open(int(f.Fd())), path
}

func TestOnlyWhatFollowsIsSigned(t *testing.T) {
	m, _ := memory(t)
	h := (&history{t: t}).add("a", "b", "c", "d", "e")
	other := (&history{t: t}).add("a", "b", "x", "d", "e", "f")
	steps := []struct {
		name  string
		tree  checkpoint.Tree
		proof []checkpoint.Hash
		began bool
		want  error
	}{
		{"the first that is shown", h.tree(3), nil, true, nil},
		{"the same again", h.tree(3), nil, false, nil},
		{"another of that size", other.tree(3), nil, false, checkpoint.ErrInconsistent},
		{"one that is cut", h.tree(2), nil, false, checkpoint.ErrOlder},
		{"cut, with the proof the other way", h.tree(2), h.proof(2, 3), false, checkpoint.ErrOlder},
		{"longer without proof", h.tree(5), nil, false, checkpoint.ErrInconsistent},
		{"another history", other.tree(5), other.proof(3, 5), false, checkpoint.ErrInconsistent},
		{"longer", h.tree(5), h.proof(3, 5), false, nil},
		{"back to where it was", h.tree(3), nil, false, checkpoint.ErrOlder},
		{"another history that goes on", other.tree(6), other.proof(5, 6), false, checkpoint.ErrInconsistent},
	}
	last := checkpoint.Tree{}
	for _, s := range steps {
		began, err := m.Advance(origin(1), s.tree, s.proof)
		if !errors.Is(err, s.want) || began != s.began {
			t.Errorf("%s: %t, %v", s.name, began, err)
		}
		if err == nil {
			last = s.tree
		}
		if now, err := m.Last(origin(1)); err != nil || now != last {
			t.Errorf("%s: %v is remembered, %v", s.name, now, err)
		}
	}
	if now, err := m.Last(origin(2)); err != nil || now.Size != 0 {
		t.Errorf("of another log: %v, %v", now, err)
	}
	if _, err := m.Advance("keyd ceremony record 1", h.tree(1), nil); err == nil {
		t.Error("an origin that is none")
	}
	if _, err := Open(-1).Advance(origin(1), h.tree(1), nil); !errors.Is(err, ErrNone) {
		t.Errorf("without a file: %v", err)
	}
}

func TestRoomForLogs(t *testing.T) {
	m, _ := memory(t)
	tree := (&history{t: t}).add("a").tree(1)
	for i := range MaxLogs {
		if began, err := m.Advance(origin(i), tree, nil); err != nil || !began {
			t.Fatal(i, err)
		}
	}
	if _, err := m.Advance(origin(MaxLogs), tree, nil); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	for i := range MaxLogs { // none was forgotten
		if now, err := m.Last(origin(i)); err != nil || now != tree {
			t.Error(i, now, err)
		}
	}
}

// The power goes at any byte of a write: what is found is the state before, or the new one.
func TestLossOfPower(t *testing.T) {
	h := (&history{t: t}).add("a", "b", "c", "d")
	m, path := memory(t)
	for n := int64(1); n <= 3; n++ {
		var proof []checkpoint.Hash
		if n > 1 {
			proof = h.proof(n-1, n)
		}
		if _, err := m.Advance(origin(1), h.tree(n), proof); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Advance(origin(1), h.tree(4), h.proof(3, 4)); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range after {
		for _, torn := range [][]byte{append(bytes.Clone(after[:cut]), before[cut:]...), append(bytes.Clone(before[:cut]), after[cut:]...)} {
			s, _, err := newest(torn)
			if err != nil {
				t.Fatalf("at %d: %v", cut, err)
			}
			if got := s.of(origin(1)).tree.Size; got != 3 && got != 4 {
				t.Fatalf("at %d: tree of %d", cut, got)
			}
		}
	}
	// While the file is made.
	for _, size := range []int{0, 1, 512, FileSize - 1} {
		path := filepath.Join(t.TempDir(), "checkpoints")
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Create(path)
		if err != nil {
			t.Fatal(size, err)
		}
		if _, err := Open(int(f.Fd())).Advance(origin(1), h.tree(1), nil); err != nil {
			t.Error(size, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A damaged file is not believed, and not made anew by anybody but a person.
func TestDamage(t *testing.T) {
	h := (&history{t: t}).add("a", "b")
	m, path := memory(t)
	if _, err := m.Advance(origin(1), h.tree(1), nil); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < FileSize; i += 97 {
		changed := bytes.Clone(content)
		changed[i] ^= 1
		s, _, err := newest(changed)
		if err == nil && s.of(origin(1)).tree != h.tree(1) {
			t.Errorf("byte %d: %+v", i, s)
		}
	}
	content[100]++ // in the one slot that is written
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Advance(origin(1), h.tree(1), nil); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	if _, err := m.Last(origin(1)); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	if err := Check(path); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	if err := os.Truncate(path, 5000); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Last(origin(1)); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

func TestCreateRefuses(t *testing.T) {
	_, used := memory(t)
	if f, err := Create(used); !errors.Is(err, hostfile.ErrInUse) || f != nil {
		t.Errorf("a second keyd: %v", err)
	}
	if err := Check(used); err != nil {
		t.Errorf("beside a keyd: %v", err)
	}
	dir := t.TempDir()
	link, pipe, open, foreign := filepath.Join(dir, "link"), filepath.Join(dir, "pipe"), filepath.Join(dir, "open"), filepath.Join(dir, "foreign")
	if err := errors.Join(os.Symlink(used, link), unix.Mkfifo(pipe, 0o600), os.WriteFile(open, nil, 0o640), os.Chmod(open, 0o640), os.WriteFile(foreign, []byte("text"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, pipe, open, foreign, dir, filepath.Join(dir, "none", "file")} {
		if f, err := Create(path); err == nil || f != nil {
			t.Errorf("%s was taken", path)
		}
	}
	if b, err := os.ReadFile(foreign); err != nil || string(b) != "text" {
		t.Errorf("a foreign file was changed: %q, %v", b, err)
	}
}

// Two modules, each with a descriptor of its own, never sign two histories, and neither
// overwrites what the other has remembered.
func TestModulesShareTheFile(t *testing.T) {
	m, path := memory(t)
	const logs, steps = 4, 20
	h := &history{t: t}
	for i := range steps {
		h.add(fmt.Sprint(i))
	}
	var wait sync.WaitGroup
	for range 2 {
		for l := range logs {
			wait.Go(func() {
				for n := int64(1); n <= steps; n++ {
					last, err := m.Last(origin(l))
					if err != nil {
						t.Error(err)
						return
					}
					if last.Size >= uint64(n) {
						continue
					}
					var proof []checkpoint.Hash
					if last.Size > 0 {
						proof = h.proof(int64(last.Size), n)
					}
					if _, err := m.Advance(origin(l), h.tree(n), proof); err != nil && !errors.Is(err, checkpoint.ErrOlder) && !errors.Is(err, checkpoint.ErrInconsistent) {
						t.Error(err)
					}
				}
			})
		}
	}
	wait.Wait()
	for l := range logs {
		if last, err := m.Last(origin(l)); err != nil || last != h.tree(steps) {
			t.Errorf("log %d: %v, %v", l, last, err)
		}
	}
	if err := Check(path); err != nil {
		t.Error(err)
	}
}

// FuzzFile: whatever stands in the file, it is refused, or it is what would be written.
func FuzzFile(f *testing.F) {
	s := &state{count: 7, logs: []log{{origin(1), checkpoint.Tree{Size: 3}}}}
	f.Add(s.encode(), []byte{})
	f.Add([]byte{}, s.encode())
	f.Fuzz(func(t *testing.T, a, b []byte) {
		file := make([]byte, FileSize)
		copy(file[:slotSize], a)
		copy(file[slotSize:], b)
		s, slot, err := newest(file)
		if err != nil {
			if !errors.Is(err, ErrDamaged) || s != nil {
				t.Fatal(s, err)
			}
			return
		}
		if s.count > 0 && !bytes.Equal(s.encode(), file[slot*slotSize:(slot+1)*slotSize]) {
			t.Errorf("%+v", s)
		}
	})
}
