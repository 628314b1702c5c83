package audit

import (
	"bytes"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"keyd/checkpoint"
)

// Tree returns the tree over what is durable.
func (l *Log) Tree() checkpoint.Tree { return l.tree.head() }

// TreeAt returns the tree over the first entries. The error is [checkpoint.ErrOlder] if there
// are not so many.
func (l *Log) TreeAt(size uint64) (checkpoint.Tree, error) { return l.tree.at(size) }

// Consistency returns the proof that a tree over so many entries has those of an earlier one:
// none from 0, and between equal ones.
func (l *Log) Consistency(from, to uint64) ([]checkpoint.Hash, error) {
	if to > l.Tree().Size || from > to {
		return nil, checkpoint.ErrOlder
	}
	return consistency(from, to, l.tree)
}

func consistency(from, to uint64, hashes tlog.HashReader) ([]checkpoint.Hash, error) {
	if from == 0 || from == to {
		return nil, nil
	}
	return tlog.ProveTree(int64(to), int64(from), hashes)
}

// Inclusion returns the proof that entry number seq is in the tree over the first size
// entries.
func (l *Log) Inclusion(seq, size uint64) ([]checkpoint.Hash, error) {
	if size > l.Tree().Size || seq == 0 || seq > size {
		return nil, checkpoint.ErrOlder
	}
	return tlog.ProveRecord(int64(size), int64(seq-1), l.tree)
}

// Checkpoint returns the newest checkpoint, or nil before there is one.
func (l *Log) Checkpoint() *checkpoint.Checkpoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest
}

// AddCheckpoint keeps a checkpoint that was signed with this key, durably: behind the others
// that were made while this segment was the newest, as the newest one, and the key beside
// them. One goroutine calls it at a time. It refuses what is not of this log as it is.
func (l *Log) AddCheckpoint(c *checkpoint.Checkpoint, key *ecdsa.PublicKey) error {
	if err := c.Verify(key); err != nil {
		return err
	}
	if c.Origin != l.origin {
		return fmt.Errorf("%w: it is of another log", checkpoint.ErrNote)
	}
	at, err := l.tree.at(c.Size)
	if err != nil {
		return err
	}
	if at != c.Tree {
		return checkpoint.ErrInconsistent
	}
	if err := l.tree.sync(); err != nil { // who has the checkpoint can prove from the files
		return err
	}
	if err := l.keepKey(key); err != nil {
		return err
	}
	l.mu.Lock()
	s := l.segment
	l.mu.Unlock()
	if err := l.appendList(s.list(), c); err != nil {
		return fmt.Errorf("keep checkpoint: %w", err)
	}
	if err := replaceFile(filepath.Join(l.dir, checkpointFile), c.Note); err != nil {
		return fmt.Errorf("keep checkpoint: %w", err)
	}
	l.mu.Lock()
	l.newest = c
	l.mu.Unlock()
	return nil
}

// keepKey adds a key to the file of those that sign, unless it is there.
func (l *Log) keepKey(key *ecdsa.PublicKey) error {
	pem, err := checkpoint.KeyPEM(key)
	if err != nil {
		return err
	}
	path := filepath.Join(l.dir, keysFile)
	have, err := readSmall(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keep the key of checkpoints: %w", err)
	}
	if bytes.Contains(have, pem) {
		return nil
	}
	if err := replaceFile(path, append(have, pem...)); err != nil {
		return fmt.Errorf("keep the key of checkpoints: %w", err)
	}
	return nil
}

// KeyOf returns the key that signed a checkpoint of the log, in PEM.
func (l *Log) KeyOf(c *checkpoint.Checkpoint) ([]byte, error) {
	b, err := readSmall(filepath.Join(l.dir, keysFile))
	if err != nil {
		return nil, fmt.Errorf("the key of the checkpoint: %w", err)
	}
	keys, err := checkpoint.ParseKeys(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keysFile, err)
	}
	for _, key := range keys {
		if c.Verify(key) == nil {
			return checkpoint.KeyPEM(key)
		}
	}
	return nil, checkpoint.ErrSignature
}

// listed is the list to which checkpoints are appended, and how much of it is whole: it is
// read once.
type listed struct {
	path  string
	whole int64 // bytes
}

// appendList appends a checkpoint to a list. What an earlier attempt, or a loss of power, has
// left of one is removed first.
func (l *Log) appendList(path string, c *checkpoint.Checkpoint) (err error) {
	f, err := openFile(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := regularSize(f)
	if err != nil {
		return err
	}
	at := l.listed
	if at.path != path {
		have, err := io.ReadAll(f)
		if err != nil {
			return err
		}
		_, rest, err := checkpoint.ParseList(have)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		at = listed{path, int64(len(have) - rest)}
	}
	if size < at.whole {
		return fmt.Errorf("%s: %w: it has become shorter", path, checkpoint.ErrNote)
	}
	if size > at.whole {
		if err := truncate(f, at.whole); err != nil {
			return err
		}
	}
	text := c.AppendTo(nil)
	if _, err := f.WriteAt(text, at.whole); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if at.whole == 0 {
		if err := syncDirectory(filepath.Dir(path)); err != nil {
			return err
		}
	}
	at.whole += int64(len(text))
	l.listed = at
	return nil
}

// replaceFile replaces a file as a whole, mode 0600, durably.
func replaceFile(path string, content []byte) (err error) {
	unfinished := path + newSuffix
	f, err := openFile(unfinished, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(unfinished, path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

// readSmall reads a small file of the log.
func readSmall(path string) ([]byte, error) { return readBounded(path, checkpoint.MaxNote) }

func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		return nil, fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return b, err
}

// cutList removes what a loss of power has left of a checkpoint at the end of a list.
func cutList(path string, rest int) (err error) {
	f, err := openFile(path, os.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := regularSize(f)
	if err != nil {
		return err
	}
	if err := truncate(f, size-int64(rest)); err != nil {
		return fmt.Errorf("remove an incomplete checkpoint: %w", err)
	}
	return nil
}

// readList reads the checkpoints that belong to a segment; none if there is no file.
func readList(path string) (all []*checkpoint.Checkpoint, rest int, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("checkpoints: %w", err)
	}
	if all, rest, err = checkpoint.ParseList(b); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	return all, rest, nil
}

// resumeCheckpoints compares the log with its newest checkpoint.
func (l *Log) resumeCheckpoints(list []segment) error {
	var newest *checkpoint.Checkpoint
	for _, s := range list[max(0, len(list)-2):] { // just after a segment has ended it is the one before
		all, rest, err := readList(s.list())
		if err != nil {
			return err
		}
		if rest > 0 {
			if err := cutList(s.list(), rest); err != nil {
				return err
			}
		}
		if n := len(all); n > 0 {
			newest = all[n-1]
		}
	}
	alone, err := readSmall(filepath.Join(l.dir, checkpointFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("checkpoint: %w", err)
	default:
		c, err := checkpoint.Parse(alone)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(l.dir, checkpointFile), err)
		}
		if newest == nil || c.Size > newest.Size {
			newest = c
		}
		if err := l.compare(c.Origin, c.Tree, "its newest checkpoint"); err != nil {
			return err
		}
	}
	if newest == nil {
		return nil
	}
	if err := l.compare(newest.Origin, newest.Tree, "its newest checkpoint"); err != nil {
		return err
	}
	l.newest = newest
	return nil
}

// compare refuses a log that is not what it was when somebody noted a tree of it.
func (l *Log) compare(origin string, was checkpoint.Tree, who string) error {
	if origin != l.origin {
		return fmt.Errorf("%w: it is %s, and %s is of %s: files of two logs lie in one directory", ErrCut, l.origin, who, origin)
	}
	now, err := l.tree.at(was.Size)
	switch {
	case errors.Is(err, checkpoint.ErrOlder):
		return fmt.Errorf("%w: it has %d entries, and %s says %d: it was cut or put back; keep it as it is, find out who did that, and put the newest copy in its place", ErrCut, l.Tree().Size, who, was.Size)
	case err != nil:
		return err
	case now != was:
		return fmt.Errorf("%w: it has other entries among the first %d than %s says: it was altered; keep it as it is, find out who did that, and put the newest copy in its place", ErrCut, was.Size, who)
	}
	return nil
}

// Compare refuses a log that is not what it was when a module signed a tree of it: [ErrCut].
// An empty tree is none.
func (l *Log) Compare(was checkpoint.Tree) error {
	if was.Size == 0 {
		return nil
	}
	return l.compare(l.origin, was, "the newest checkpoint that the modules have signed")
}
