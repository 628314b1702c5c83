package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"keyd/checkpoint"
)

// Options are the settings of a log.
type Options struct {
	// Clock gives the time of an entry; time.Now if nil.
	Clock func() time.Time

	// Node is a name for where the log is written, for the origin of a new log; may be empty
	// ([checkpoint.ValidNode]).
	Node string

	// SegmentSize is from how many bytes on a segment is closed and another one begun, 256 MiB
	// if 0; a segment is larger by at most one write.
	SegmentSize int64

	// SegmentAge is after how long a segment is closed, counted from its first entry, 24 hours
	// if 0. It is looked at when an entry comes.
	SegmentAge time.Duration
}

// What segments are cut by where the options are silent.
const (
	DefaultSegmentSize = 64 << 20
	DefaultSegmentAge  = 24 * time.Hour
)

// window is how many bytes at the end of a log [Open] parses: more than one write of
// the log can have left incomplete.
const window = 4 * maxBatch

// Open opens the log in a directory for writing, or creates both, with modes 0700 and 0600.
//
// One process at a time may have the log open; a second gets [ErrLocked]. Of an existing log
// the newest segment is hashed again and its end is checked entry by entry (about 2 MiB;
// [VerifyDir] checks everything). The beginning of one more line, or zeros, is what a loss of
// power leaves of a write that was never acknowledged: it is removed, and an entry says so.
// For anything else that is wrong Open refuses with a [*ChainError], and for a log that is
// shorter than its hashes or its newest checkpoint say, or another than that, with [ErrCut]:
// the files stay as they are for somebody to look at.
//
// Closed segments may be missing, because they were archived; the newest one may not.
func Open(dir string, o Options) (*Log, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = DefaultSegmentSize
	}
	if o.SegmentAge == 0 {
		o.SegmentAge = DefaultSegmentAge
	}
	d, err := openDirectory(dir)
	if err != nil {
		return nil, err
	}
	l := newLog(d, dir, o)
	if err := l.open(); err != nil {
		return nil, errors.Join(err, l.closeFiles())
	}
	return l, nil
}

// open opens what is in the directory, and starts the writer.
func (l *Log) open() error {
	if err := removeUnfinished(l.dir); err != nil {
		return err
	}
	list, err := segments(l.dir)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		err = l.create(l.options.Node)
	} else {
		err = l.resume(list)
	}
	if err != nil {
		return err
	}
	go l.write()
	if l.torn == 0 {
		return nil
	}
	if err := l.recordTorn(l.torn); err != nil {
		return errors.Join(err, l.Close())
	}
	return nil
}

func openDirectory(dir string) (*os.File, error) {
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		err = syncDirectory(filepath.Dir(dir))
	} else if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	d, err := os.OpenFile(dir, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("audit log %s is not a directory: name the directory itself", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	if err := claim(d, "700"); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		err = fmt.Errorf("%w: %s", ErrLocked, dir)
	case err != nil:
		err = fmt.Errorf("lock audit log: %w", err)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// claim refuses what others than the owner may touch.
func claim(f *os.File, mode string) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open audit log: %w", err)
	}
	if !info.Mode().IsRegular() && !info.IsDir() {
		return fmt.Errorf("audit log %s is not a regular file", f.Name())
	}
	if has := info.Mode().Perm(); has&0o077 != 0 {
		return fmt.Errorf("audit log %s has mode %04o, so others than its owner may touch it; run chmod %s on it", f.Name(), has, mode)
	}
	return nil
}

// openFile opens a file of the log without following a link or hanging on a pipe.
func openFile(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("audit log %s is not a regular file", path)
	}
	if err == nil {
		err = claim(f, "600")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// removeUnfinished removes what was on its way when a process ended: nothing in it was
// acknowledged.
func removeUnfinished(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), newSuffix) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("remove what was not finished of the audit log: %w", err)
		}
	}
	return nil
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync directory of audit log: %w", err)
	}
	err = d.Sync()
	if err = errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("sync directory of audit log: %w", err)
	}
	return nil
}

// create begins a log, with an entry that names it.
func (l *Log) create(node string) (err error) {
	for _, name := range []string{treeFile, checkpointFile} {
		info, err := os.Lstat(filepath.Join(l.dir, name))
		if err == nil && info.Size() > 0 {
			return fmt.Errorf("%w: %s has no segment, but what is left of a log: put its newest segment back, or, if what it recorded is lost, move the directory away: a new log then begins", ErrCut, l.dir)
		}
	}
	if l.origin, err = checkpoint.NewOrigin(node); err != nil {
		return err
	}
	if l.tree.file, err = openFile(filepath.Join(l.dir, treeFile), os.O_RDWR|os.O_CREATE); err != nil {
		return err
	}
	return l.begin()
}

// resume goes on with a log, after looking at its end.
func (l *Log) resume(list []segment) error {
	last := list[len(list)-1]
	f, err := openFile(last.path, os.O_RDWR|os.O_APPEND)
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w: a newer segment is missing: %w (put it back; only closed segments are moved away)", ErrCut, err)
	}
	if err != nil {
		return err
	}
	l.file, l.segment = f, last
	size, err := regularSize(f)
	if err != nil {
		return err
	}
	end, err := readEnd(f, size, window)
	if err != nil {
		return err
	}
	c := chain{head: Head{Seq: last.first - 1}, known: end.whole && last.first == 1}
	for i, line := range end.lines {
		rec, err := c.next(line)
		if err != nil {
			return err
		}
		if i == 0 && end.whole && rec.Seq != last.first {
			return c.broken(fmt.Sprintf("the segment begins with entry %d", rec.Seq))
		}
	}
	if len(end.lines) == 0 {
		return c.broken("there is no entry at the end")
	}
	torn := int64(len(end.torn))
	if torn > 0 {
		if err := c.checkTorn(end.torn); err != nil {
			return err
		}
	}
	l.head, l.size = c.head, size-torn
	first, err := firstRecord(f)
	if err != nil {
		return err
	}
	if first.Log == "" || first.Seq != last.first {
		return &ChainError{Line: 1, Seq: last.first, Problem: "the segment does not begin with the entry that names the log"}
	}
	l.origin, l.since = first.Log, first.Time
	if err := l.recompute(list); err != nil {
		return err
	}
	if err := l.resumeCheckpoints(list); err != nil {
		return err
	}
	for _, s := range list[:len(list)-1] {
		_ = os.Chmod(s.path, 0o400) // where a kill came in between
	}
	if torn > 0 {
		if err := truncate(f, l.size); err != nil {
			return fmt.Errorf("remove incomplete last line of audit log: %w", err)
		}
	}
	l.torn = torn
	return nil
}

// firstRecord reads the first line of a segment.
func firstRecord(f io.ReaderAt) (Record, error) {
	line, err := bufio.NewReaderSize(io.NewSectionReader(f, 0, maxLine), maxLine).ReadSlice('\n')
	if err != nil {
		return Record{}, &ChainError{Line: 1, Problem: "not an entry"}
	}
	rec, problem := parseLine(line[:len(line)-1])
	if problem != "" {
		return Record{}, &ChainError{Line: 1, Problem: problem}
	}
	return rec, nil
}

// recompute opens the file of hashes and hashes again what follows the last place up to which
// it is known to be on the disk: the beginning of the newest segment.
func (l *Log) recompute(list []segment) (err error) {
	if l.tree.file, err = openFile(filepath.Join(l.dir, treeFile), os.O_RDWR|os.O_CREATE); err != nil {
		return err
	}
	size, err := regularSize(l.tree.file)
	if err != nil {
		return err
	}
	if size/tlog.HashSize > tlog.StoredHashCount(int64(l.head.Seq)) {
		return fmt.Errorf("%w: it ends with entry %d, and %s has hashes of more", ErrCut, l.head.Seq, treeFile)
	}
	from := len(list) - 1
	for from >= 0 && tlog.StoredHashCount(int64(list[from].first-1))*tlog.HashSize > size {
		from--
	}
	if from < 0 {
		return fmt.Errorf("the hashes of the audit log (%s) are missing or cut, and so is the segment that begins with entry 1: put all archived segments back into %s and start again, then they can be moved away once more",
			filepath.Join(l.dir, treeFile), l.dir)
	}
	if l.tree.top, err = frontierAt(list[from].first-1, hashFile{l.tree.file}); err != nil {
		return err
	}
	l.tree.stored = tlog.StoredHashCount(int64(l.tree.top.size))
	for i, s := range list[from:] {
		if s.first != l.tree.top.size+1 {
			return fmt.Errorf("the hashes of the audit log are missing or cut, and so are the entries %d to %d: put all archived segments back into %s and start again", l.tree.top.size+1, s.first-1, l.dir)
		}
		end := int64(-1)
		if i == len(list[from:])-1 {
			end = l.size
		}
		if err := l.rehash(s, end); err != nil {
			return err
		}
	}
	if l.tree.top.size != l.head.Seq {
		return &ChainError{Seq: l.head.Seq, Problem: fmt.Sprintf("it is line %d of the log", l.tree.top.size)}
	}
	return nil
}

// rehash adds a segment's lines to the tree, all of them or those of its first bytes.
func (l *Log) rehash(s segment, end int64) error {
	f, err := openFile(s.path, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	var in io.Reader = f
	if end >= 0 {
		in = io.LimitReader(f, end)
	}
	lines := bufio.NewReaderSize(in, 256<<10)
	l.tree.mu.Lock()
	defer l.tree.mu.Unlock()
	for {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return l.tree.flush()
		}
		if err != nil || len(line) > maxLine {
			return &ChainError{Seq: l.tree.top.size + 1, Problem: fmt.Sprintf("no whole line in %s", filepath.Base(s.path))}
		}
		l.tree.grow(line[:len(line)-1])
		if len(l.tree.pending) >= flushAt {
			if err := l.tree.flush(); err != nil {
				return err
			}
		}
	}
}

// checkTorn refuses an end that a write of this log cannot have left: the bytes of the
// next line up to some place, or zeros where the file had grown but its content had
// not arrived. Without this check a wrong path could cost another file its content.
func (c *chain) checkTorn(torn []byte) error {
	text := bytes.TrimRight(torn, "\x00")
	begin := appendStart(nil, c.head.Seq+1)
	n := min(len(text), len(begin))
	if len(torn) > maxBatch || !bytes.Equal(text[:n], begin[:n]) {
		return c.broken("what follows the last entry is no part of another")
	}
	if i := bytes.LastIndex(text, []byte(lineEnd[:2])); i >= 0 && i+2 < len(text) {
		if _, problem := parseLine(text[:i+2]); problem == "" {
			return c.broken("a whole entry is not followed by a line feed")
		}
	}
	return nil
}

func truncate(f *os.File, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Sync()
}
