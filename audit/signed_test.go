package audit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"keyd/checkpoint"
)

// Here a key in memory signs, in the place of a module, which has tests of its own.

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // the fastest
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign has the log as it is signed.
func sign(t testing.TB, l *Log, key *ecdsa.PrivateKey) *checkpoint.Checkpoint {
	t.Helper()
	c := signature(t, l.Origin(), l.Tree(), key)
	if err := l.AddCheckpoint(c, &key.PublicKey); err != nil {
		t.Fatal(err)
	}
	return c
}

func signature(t testing.TB, origin string, tree checkpoint.Tree, key *ecdsa.PrivateKey) *checkpoint.Checkpoint {
	t.Helper()
	der, err := checkpoint.Sign(key, origin, tree)
	if err != nil {
		t.Fatal(err)
	}
	c, err := checkpoint.Assemble(origin, tree, &key.PublicKey, der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func trust(key *ecdsa.PrivateKey) Trust { return Trust{Keys: []*ecdsa.PublicKey{&key.PublicKey}} }

// segmented makes a closed log of several small segments, with a checkpoint in each and behind
// the last entry.
func segmented(t *testing.T, key *ecdsa.PrivateKey) (dir string) {
	t.Helper()
	dir = newDir(t)
	l, err := Open(dir, Options{Clock: ticking(), SegmentSize: 3000, Node: "host-1"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 24 {
		fill(t, l, 1)
		if i%5 == 4 {
			sign(t, l, key)
		}
	}
	sign(t, l, key)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func list(t *testing.T, dir string) []segment {
	t.Helper()
	all, err := segments(dir)
	if err != nil || len(all) < 4 {
		t.Fatalf("%d segments, %v", len(all), err)
	}
	return all
}

// The tree is that of RFC 6962 over the lines, at every size, and its hashes are stored as
// package tlog orders them.
func TestTreeIsThatOfTheLines(t *testing.T) {
	dir := newDir(t)
	l, err := Open(dir, Options{Clock: ticking(), SegmentSize: 2000})
	if err != nil {
		t.Fatal(err)
	}
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (hashes []tlog.Hash, err error) {
		for _, i := range indexes {
			hashes = append(hashes, stored[i])
		}
		return hashes, nil
	})
	for range 70 {
		fill(t, l, 1)
		for seq := l.Head().Seq; ; { // what is new, a segment's first entry included
			from := int64(0)
			for tlog.StoredHashCount(from) < int64(len(stored)) {
				from++
			}
			if uint64(from) == seq {
				break
			}
			records, err := Tail(dir, int(seq)-int(from))
			if err != nil {
				t.Fatal(err)
			}
			more, err := tlog.StoredHashes(from, records[0].Line(), reader)
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored, more...)
		}
		n := l.Head().Seq
		want, err := tlog.TreeHash(int64(n), reader)
		if got := l.Tree(); err != nil || got.Size != n || got.Root != want {
			t.Fatalf("%d: %v, want %v (%v)", n, got, want, err)
		}
	}
	all := l.Tree()
	for was := range all.Size + 1 {
		before, err := l.TreeAt(was)
		if err != nil {
			t.Fatal(err)
		}
		proof, err := l.Consistency(was, all.Size)
		if err != nil {
			t.Fatal(err)
		}
		if err := all.Follows(before, proof); err != nil {
			t.Errorf("from %d: %v", was, err)
		}
	}
	if _, err := l.TreeAt(all.Size + 1); !errors.Is(err, checkpoint.ErrOlder) {
		t.Error(err)
	}
	if _, err := l.Inclusion(all.Size+1, all.Size+1); !errors.Is(err, checkpoint.ErrOlder) {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var want []byte
	for _, h := range stored {
		want = append(want, h[:]...)
	}
	if got := read(t, filepath.Join(dir, treeFile)); !bytes.Equal(got, want) {
		t.Errorf("%d bytes of hashes, want %d", len(got), len(want))
	}
	// Whatever a loss of power has left of them, they are made anew from the lines.
	for _, size := range []int{0, 31, 64, len(want) / 2, len(want) - 1} {
		if err := os.WriteFile(filepath.Join(dir, treeFile), want[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		again := openLog(t, dir)
		if again.Tree() != all {
			t.Errorf("from %d bytes: %v", size, again.Tree())
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		if got := read(t, filepath.Join(dir, treeFile)); !bytes.Equal(got, want) {
			t.Errorf("from %d bytes: other hashes", size)
		}
	}
}

func TestSegments(t *testing.T) {
	key := newKey(t)
	dir := segmented(t, key)
	all := list(t, dir)
	for i, s := range all {
		info, err := os.Stat(s.path)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]os.FileMode{true: 0o600, false: 0o400}[i == len(all)-1]; info.Mode() != want {
			t.Errorf("%s has mode %v", s.path, info.Mode())
		}
	}
	r, err := VerifyDir(dir, trust(key))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Segments) != len(all) || r.Missing != nil || r.Unproven != nil || r.Checkpoints != 5 || r.Unchecked != 0 || r.Uncovered != 0 ||
		!r.Vouched() || r.Newest.Tree != r.Tree || r.Tree.Size != r.Entries || !strings.HasPrefix(r.Origin, "keyd/host-1/") {
		t.Errorf("%+v", r)
	}
	// By age.
	now := time.Now()
	l, err := Open(newDir(t), Options{Clock: func() time.Time { return now }, SegmentAge: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, l, 2)
	now = now.Add(time.Hour)
	fill(t, l, 1)
	if l.Head().Seq != 5 || l.segment.first != 4 {
		t.Errorf("head %+v, segment of %d", l.Head(), l.segment.first)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// Closed segments may be moved away: the log goes on without them, and what is there is proven
// all the same. The newest may not.
func TestArchivedSegments(t *testing.T) {
	key := newKey(t)
	dir := segmented(t, key)
	all := list(t, dir)
	archive := t.TempDir()
	for _, s := range all[:len(all)-1] {
		if err := os.Rename(s.path, filepath.Join(archive, filepath.Base(s.path))); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(s.list(), filepath.Join(archive, filepath.Base(s.list()))); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	l := openLog(t, dir)
	fill(t, l, 3)
	sign(t, l, key)
	tree := l.Tree()
	proof, err := l.Consistency(3, tree.Size)
	if err != nil {
		t.Fatal(err)
	}
	before, err := l.TreeAt(3)
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Follows(before, proof); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := VerifyDir(dir, trust(key))
	if err != nil || r.Tree != tree || len(r.Missing) != 1 || r.Missing[0] != (Range{1, all[len(all)-1].first - 1}) || r.Unproven != nil || r.Checkpoints < 2 {
		t.Errorf("%+v, %v", r, err)
	}
	// What is in the archive, with the hashes and the newest checkpoint.
	for _, name := range []string{treeFile, checkpointFile, keysFile} {
		if err := os.WriteFile(filepath.Join(archive, name), read(t, filepath.Join(dir, name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	second := filepath.Join(archive, filepath.Base(all[1].path))
	r, err = VerifyDir(second, trust(key))
	if !errors.Is(err, ErrCut) { // the newest checkpoint says that there is more
		t.Errorf("%+v, %v", r, err)
	}
	if err := os.Remove(filepath.Join(archive, checkpointFile)); err != nil {
		t.Fatal(err)
	}
	r, err = VerifyDir(archive, trust(key))
	if err != nil || r.Entries != all[len(all)-1].first-1 || r.Unproven != nil || r.Checkpoints < 3 {
		t.Errorf("%+v, %v", r, err)
	}
	// One alone, without the hashes: a chain, and no more.
	if err := os.Remove(filepath.Join(archive, treeFile)); err != nil {
		t.Fatal(err)
	}
	r, err = VerifyDir(second, trust(key))
	if err != nil || len(r.Unproven) != 1 || r.Unproven[0].First != all[1].first || r.Tree.Size != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	// Hashes and segments are missing.
	if err := os.Remove(filepath.Join(dir, treeFile)); err != nil {
		t.Fatal(err)
	}
	if l, err := Open(dir, Options{}); err == nil || l != nil || !strings.Contains(err.Error(), "put all archived segments back") {
		t.Error(err)
	}
	for _, s := range all[:len(all)-1] {
		if err := os.Rename(filepath.Join(archive, filepath.Base(s.path)), s.path); err != nil {
			t.Fatal(err)
		}
	}
	if l := openLog(t, dir); l.Tree() != tree {
		t.Errorf("%v, want %v", l.Tree(), tree)
	}
}

// A log that was put back, cut or exchanged is refused at the next start, and found.
func TestPutBackAndCut(t *testing.T) {
	key := newKey(t)
	for name, spoil := range map[string]func(t *testing.T, dir string, all []segment) error{
		"the newest segment is gone": func(_ *testing.T, _ string, all []segment) error { return os.Remove(all[len(all)-1].path) },
		"and the hashes are shortened": func(_ *testing.T, dir string, all []segment) error {
			return errors.Join(os.Remove(all[len(all)-1].path), os.Truncate(filepath.Join(dir, treeFile), 32*tlog.StoredHashCount(int64(all[len(all)-1].first-1))))
		},
		"every segment is gone": func(_ *testing.T, _ string, all []segment) (err error) {
			for _, s := range all {
				err = errors.Join(err, os.Remove(s.path))
			}
			return err
		},
		"the last entry is cut off, of hashes too": func(t *testing.T, dir string, all []segment) error {
			last := all[len(all)-1]
			b := read(t, last.path)
			at := bytes.LastIndexByte(b[:len(b)-1], '\n') + 1
			n := int64(last.first) - 1 + int64(bytes.Count(b[:at], []byte("\n")))
			return errors.Join(os.Truncate(last.path, int64(at)), os.Truncate(filepath.Join(dir, treeFile), 32*tlog.StoredHashCount(n)))
		},
		"the last entry is another": func(t *testing.T, _ string, all []segment) error {
			last := all[len(all)-1]
			b := read(t, last.path)
			at := bytes.LastIndexByte(b[:len(b)-1], '\n') + 1
			rec, problem := parseLine(b[at : len(b)-1])
			if problem != "" {
				t.Fatal(problem)
			}
			rec.Identity = "spiffe://dev.keyd/nobody"
			forged, _ := appendLine(bytes.Clone(b[:at]), rec.Seq, rec.Time, appendBody(nil, &rec.Entry), rec.Prev)
			return os.WriteFile(last.path, forged, 0o600)
		},
		"another log's checkpoint": func(t *testing.T, dir string, _ []segment) error {
			return os.WriteFile(filepath.Join(dir, checkpointFile), read(t, filepath.Join(segmented(t, key), checkpointFile)), 0o600)
		},
	} {
		dir := segmented(t, key)
		if err := spoil(t, dir, list(t, dir)); err != nil {
			t.Fatal(name, err)
		}
		if l, err := Open(dir, Options{}); !errors.Is(err, ErrCut) || l != nil {
			t.Errorf("%s: it opens: %v", name, err)
		}
		if r, err := VerifyDir(dir, trust(key)); err == nil || r != nil {
			t.Errorf("%s: it verifies", name)
		}
	}
	// The whole directory, put back: nothing in it tells, but what was noted elsewhere does.
	dir := newDir(t)
	l := openLog(t, dir)
	fill(t, l, 3)
	sign(t, l, key)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	old := t.TempDir()
	if err := os.CopyFS(filepath.Join(old, "audit"), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, dir)
	fill(t, l, 3)
	noted := sign(t, l, key)
	if _, err := VerifyDir(filepath.Join(old, "audit"), trust(key)); err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyDir(filepath.Join(old, "audit"), trust(key), noted); !errors.Is(err, ErrCut) {
		t.Errorf("beside a noted checkpoint: %v", err)
	}
	for _, path := range []string{"audit", filepath.Join("audit", treeFile), filepath.Join("audit", segmentName(1)), filepath.Join("audit", checkpointFile), filepath.Join("audit", "audit-0000000000000001.checkpoints"), filepath.Join("audit", keysFile)} {
		mode := os.FileMode(0o600)
		if path == "audit" {
			mode = 0o700
		}
		if err := os.Chmod(filepath.Join(old, path), mode); err != nil {
			t.Fatal(err)
		}
	}
	back := openLog(t, filepath.Join(old, "audit"))
	if err := back.Compare(noted.Tree); !errors.Is(err, ErrCut) {
		t.Errorf("beside what the modules remember: %v", err)
	}
	back.Refuse(errors.New("put back"))
	if err := back.Append(t.Context(), sample()); !errors.Is(err, ErrUnwritable) {
		t.Errorf("it is written to: %v", err)
	}
}

// Every bit of every file, turned, is found: of entries, checkpoints, hashes and keys.
func TestEveryTurnedBitIsFound(t *testing.T) {
	key := newKey(t)
	dir := newDir(t)
	l, err := Open(dir, Options{Clock: ticking(), SegmentSize: 900})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		fill(t, l, 1)
		sign(t, l, key)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyDir(dir, Trust{}); err != nil {
		t.Fatal(err)
	}
	turned := 0
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		content := read(t, path)
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		for i := range content {
			put(t, path, i, content[i]^1<<(i%8))
			if r, err := VerifyDir(dir, Trust{}); err == nil || r != nil {
				t.Errorf("%s: byte %d, turned bit %d, is not found", f.Name(), i, i%8)
			}
			put(t, path, i, content[i])
			turned++
		}
	}
	if turned < 3000 {
		t.Errorf("only %d bits", turned)
	}
}

func TestKeysThatSign(t *testing.T) {
	first, second := newKey(t), newKey(t)
	dir := newDir(t)
	l := openLog(t, dir)
	fill(t, l, 2)
	sign(t, l, first)
	fill(t, l, 2)
	sign(t, l, second) // another token
	fill(t, l, 1)
	both := Trust{Keys: []*ecdsa.PublicKey{&first.PublicKey}}
	fingerprint, err := checkpoint.Fingerprint(&second.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyDir(dir, both); !errors.Is(err, checkpoint.ErrSignature) {
		t.Errorf("one of two: %v", err)
	}
	both.Fingerprints = []string{fingerprint}
	if r, err := VerifyDir(dir, both); err != nil || !r.Vouched() || r.Checkpoints != 2 || r.Uncovered != 1 {
		t.Errorf("both: %+v, %v", r, err)
	}
	if r, err := VerifyDir(dir, Trust{}); err != nil || r.Vouched() || len(r.Keys) != 2 {
		t.Errorf("nobody vouches: %+v, %v", r, err)
	}
	// The log takes no checkpoint that is not of it.
	for name, c := range map[string]*checkpoint.Checkpoint{
		"another log":  signature(t, "keyd/0123456789abcdef0123456789abcdef", l.Tree(), first),
		"another root": signature(t, l.Origin(), checkpoint.Tree{Size: 3}, first),
		"more entries": signature(t, l.Origin(), checkpoint.Tree{Size: 300}, first),
		"another key":  signature(t, l.Origin(), l.Tree(), second),
	} {
		if err := l.AddCheckpoint(c, &first.PublicKey); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	// What a loss of power leaves of a checkpoint is written over.
	path := l.segment.list()
	whole := read(t, path)
	torn := append(bytes.Clone(whole), whole[:100]...)
	if err := os.WriteFile(path, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := VerifyDir(dir, both); !errors.Is(err, checkpoint.ErrNote) || r != nil {
		t.Errorf("with a part of a checkpoint: %v", err)
	}
	sign(t, l, second)
	if again := read(t, path); !bytes.HasPrefix(again, whole) || slices.Equal(again, whole) {
		t.Errorf("%s", again)
	}
	if r, err := VerifyDir(dir, both); err != nil || r.Checkpoints != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole = read(t, path)
	if err := os.WriteFile(path, append(bytes.Clone(whole), make([]byte, 50)...), 0o600); err != nil {
		t.Fatal(err)
	}
	openLog(t, dir)
	if !bytes.Equal(read(t, path), whole) {
		t.Error("the start leaves a part of a checkpoint")
	}
}

func TestReaderFollows(t *testing.T) {
	dir := newDir(t)
	l, err := Open(dir, Options{Clock: ticking(), SegmentSize: 1500})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, l, 4)
	from := openReader(t, dir, 3)
	next := uint64(3)
	for range 12 {
		for next <= l.Head().Seq {
			rec, err := from.Next()
			if err != nil || rec.Seq != next {
				t.Fatalf("entry %d: %d, %v", next, rec.Seq, err)
			}
			next++
		}
		if rec, err := from.Next(); err == nil || rec.Seq != 0 {
			t.Fatalf("behind the end: %d, %v", rec.Seq, err)
		}
		fill(t, l, 2)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	all := list(t, dir)
	if err := os.Remove(all[2].path); err != nil {
		t.Fatal(err)
	}
	r := openReader(t, dir, 0)
	var seen []uint64
	for rec, err := r.Next(); err == nil; rec, err = r.Next() {
		seen = append(seen, rec.Seq)
	}
	if uint64(len(seen)) != l.Head().Seq-(all[3].first-all[2].first) || seen[len(seen)-1] != l.Head().Seq {
		t.Errorf("%d", seen)
	}
}

func openReader(t *testing.T, dir string, from uint64) *Reader {
	t.Helper()
	r, err := OpenReader(dir, from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}
