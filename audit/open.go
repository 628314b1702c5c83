package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Options are the settings of a log.
type Options struct {
	// Clock gives the time of an entry; time.Now if nil.
	Clock func() time.Time
}

// window is how many bytes at the end of a log [Open] checks: more than one write of
// the log can have left incomplete.
const window = 4 * maxBatch

// Open opens a log for writing, or creates it with mode 0600. A new file is created
// exclusively and its directory synced.
//
// One process at a time may have the log open; a second gets [ErrLocked]. The end of
// an existing log is checked (about 2 MiB; [Verify] checks the whole). The beginning of
// one more line, or zeros, is what a loss of power leaves of a write that was never
// acknowledged: it is removed, and an entry says so. For anything else that is wrong Open refuses with a
// [*ChainError], so that the file stays as it is for an officer to look at.
func Open(path string, o Options) (*Log, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	l, err := start(f, o)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l, nil
}

func openFile(path string) (*os.File, error) {
	const flags = unix.O_APPEND | unix.O_NOFOLLOW | unix.O_NONBLOCK // not to hang on a pipe
	f, err := os.OpenFile(path, os.O_RDWR|flags|os.O_CREATE|os.O_EXCL, 0o600)
	created := err == nil
	if errors.Is(err, fs.ErrExist) {
		f, err = os.OpenFile(path, os.O_RDWR|flags, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	if err := claim(f, created); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func claim(f *os.File, created bool) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open audit log: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("audit log %s is not a regular file", f.Name())
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("audit log %s has mode %04o, so others than its owner may touch it; run chmod 600 on it", f.Name(), mode)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%w: %s", ErrLocked, f.Name())
	}
	if err != nil {
		return fmt.Errorf("lock audit log: %w", err)
	}
	if !created {
		return nil
	}
	return syncDirectory(filepath.Dir(f.Name()))
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

// start checks the end of the log, mends it and starts the writer.
func start(f *os.File, o Options) (*Log, error) {
	size, err := regularSize(f)
	if err != nil {
		return nil, err
	}
	end, err := readEnd(f, size, window)
	if err != nil {
		return nil, err
	}
	c := chain{known: end.whole}
	for _, line := range end.lines {
		if _, err := c.next(line); err != nil {
			return nil, err
		}
	}
	if !c.known {
		return nil, c.broken("there is no entry at the end")
	}
	torn := int64(len(end.torn))
	if torn > 0 {
		if err := c.checkTorn(end.torn); err != nil {
			return nil, err
		}
		if err := truncate(f, size-torn); err != nil {
			return nil, fmt.Errorf("remove incomplete last line of audit log: %w", err)
		}
	}
	l := newLog(f, o.Clock, c.head)
	if torn > 0 {
		if err := l.recordTorn(torn); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
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
