package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"keyd/checkpoint"
)

// tree is the Merkle tree over a log's lines (RFC 6962), with its hashes in a file in the
// order of [tlog.StoredHashIndex]: 64 bytes an entry. The file can be computed anew from the
// lines, and does not hold their writing up: it is written later, and synced when a segment
// ends and when somebody signs for it.
type tree struct {
	mu      sync.Mutex
	file    *os.File
	top     frontier
	stored  int64  // hashes in the file
	pending []byte // hashes that follow
}

// maxPending bounds what waits for the file, in bytes: of some 65,000 entries.
const maxPending = 4 << 20

// flushAt is how much waits before it is written, in bytes.
const flushAt = 64 << 10

// frontier is what is needed of a tree to grow it: the roots of its complete subtrees, the
// largest first.
type frontier struct {
	size uint64
	tops []tlog.Hash
}

// add adds a leaf. Each hash that is complete with it is handed to made, in the order in which
// they are stored.
func (f *frontier) add(leaf tlog.Hash, made func(tlog.Hash)) {
	made(leaf)
	for n := f.size; n&1 == 1; n >>= 1 {
		last := len(f.tops) - 1
		leaf = tlog.NodeHash(f.tops[last], leaf)
		f.tops = f.tops[:last]
		made(leaf)
	}
	f.tops = append(f.tops, leaf)
	f.size++
}

// tree returns size and root.
func (f *frontier) tree() checkpoint.Tree {
	if f.size == 0 {
		return checkpoint.Tree{}
	}
	last := len(f.tops) - 1
	root := f.tops[last]
	for i := last - 1; i >= 0; i-- {
		root = tlog.NodeHash(f.tops[i], root)
	}
	return checkpoint.Tree{Size: f.size, Root: root}
}

// frontierAt reads the frontier of a tree of that size from its stored hashes.
func frontierAt(size uint64, from tlog.HashReader) (frontier, error) {
	var indexes []int64
	done := uint64(0)
	for level := 62; level >= 0; level-- {
		if size>>level&1 == 1 {
			indexes = append(indexes, tlog.StoredHashIndex(level, int64(done>>level)))
			done += 1 << level
		}
	}
	if len(indexes) == 0 {
		return frontier{}, nil
	}
	tops, err := from.ReadHashes(indexes)
	return frontier{size: size, tops: tops}, err
}

// hashFile reads stored hashes of a file.
type hashFile struct{ io.ReaderAt }

func (f hashFile) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if _, err := f.ReadAt(hashes[i][:], index*tlog.HashSize); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("read the hashes of the audit log: %w", err)
		}
	}
	return hashes, nil
}

// grow adds a line that has been written, without its line feed. The caller has the lock.
func (t *tree) grow(line []byte) {
	t.top.add(tlog.RecordHash(line), func(h tlog.Hash) { t.pending = append(t.pending, h[:]...) })
}

// grown writes what waits, if it has become much. The caller has the lock.
func (t *tree) grown() {
	if len(t.pending) >= flushAt {
		_ = t.flush() // it is tried again, and [tree.room] looks how much waits
	}
}

// room says why no more entries may be added: the file has not been written for too long.
func (t *tree) room() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pending) < maxPending {
		return nil
	}
	return t.flush()
}

// flush writes what waits. The caller has the lock.
func (t *tree) flush() error {
	if len(t.pending) == 0 {
		return nil
	}
	if _, err := t.file.WriteAt(t.pending, t.stored*tlog.HashSize); err != nil {
		return fmt.Errorf("write the hashes of the audit log: %w", err)
	}
	t.stored += int64(len(t.pending) / tlog.HashSize)
	t.pending = t.pending[:0]
	return nil
}

// sync has the file on stable storage, as far as the tree goes.
func (t *tree) sync() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.flush(); err != nil {
		return err
	}
	return syncData(t.file)
}

// head returns size and root.
func (t *tree) head() checkpoint.Tree {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.top.tree()
}

// ReadHashes returns stored hashes.
func (t *tree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.flush(); err != nil {
		return nil, err
	}
	return hashFile{t.file}.ReadHashes(indexes)
}

// at returns the tree over the first entries.
func (t *tree) at(size uint64) (checkpoint.Tree, error) {
	now := t.head()
	switch {
	case size == 0:
		return checkpoint.Tree{}, nil
	case size == now.Size:
		return now, nil
	case size > now.Size:
		return checkpoint.Tree{}, checkpoint.ErrOlder
	}
	root, err := tlog.TreeHash(int64(size), t)
	return checkpoint.Tree{Size: size, Root: root}, err
}
