package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"keyd/checkpoint"
	"keyd/gather"
)

// Log is a log that is open for writing. Any number of goroutines may use it.
type Log struct {
	dir       string
	directory *os.File // with the lock
	options   Options
	origin    string
	tree      *tree
	torn      int64 // bytes that were removed when it was opened

	wake  chan struct{} // room for one: the queue is not empty, or the log closes
	ended chan struct{} // closed when the writer has ended

	coming *gather.Gate // requests that have begun and will append an entry

	// Of the writer alone, once it runs.
	file   *os.File
	size   int64     // bytes of the segment that are acknowledged
	since  time.Time // of the segment's first entry
	ends   []int     // of the lines in the buffer
	failed time.Time // since when nothing can be written
	stray  string    // a segment that was made, but not to last

	listed listed // of who adds checkpoints, one goroutine at a time

	mu      sync.Mutex
	segment segment // that is written
	queue   []*pending
	closed  bool
	err     error // why nothing can be written now
	final   bool  // and never will be
	head    Head  // the newest durable entry
	newest  *checkpoint.Checkpoint
	signing Signing
}

// pending is an entry on its way to the file. Its goroutine waits, so the queue is
// never longer than the number of requests in progress.
type pending struct {
	body []byte
	done chan error  // room for one: the writer waits for nobody
	late *time.Timer // stopped
}

// maxBatch bounds one write, in bytes.
const maxBatch = 512 << 10

// retryInterval is how long after a write that failed the log tries to go on.
const retryInterval = time.Second

func newLog(directory *os.File, dir string, o Options) *Log {
	return &Log{
		dir: dir, directory: directory, options: o, tree: new(tree),
		wake:   make(chan struct{}, 1),
		coming: gather.NewGate(),
		ended:  make(chan struct{}),

		signing: Signing{At: time.Now()},
	}
}

// Origin returns what names the log ([checkpoint.NewOrigin]).
func (l *Log) Origin() string { return l.origin }

// Directory returns where the log is.
func (l *Log) Directory() string { return l.dir }

// Begin tells the log that a request has begun, at whose end an entry comes, so that a
// write can wait for it. The function that it returns is called after that.
func (l *Log) Begin() (end func()) { return l.coming.Begin() }

// Append adds an entry and returns when it is on stable storage (fdatasync). Entries
// that come while a write is in progress share the next one.
//
// Errors: [ErrEntry] if the entry holds what none may; [ErrUnwritable] of a write that failed,
// and at once as long as nothing can be written; [ErrClosed]; or ctx's, after which the entry
// may or may not be in the log. After any error the caller has to withhold the answer that
// the entry is about.
func (l *Log) Append(ctx context.Context, e Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p, err := l.enter(e)
	if err != nil {
		return err
	}
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// entries are those that nobody uses, to be used again.
var entries = sync.Pool{New: func() any {
	p := &pending{body: make([]byte, 0, 512), done: make(chan error, 1), late: time.NewTimer(time.Hour)}
	p.late.Stop()
	return p
}}

// enter queues an entry.
func (l *Log) enter(e Entry) (*pending, error) {
	e.Log = "" // is the log's own to write
	e, err := e.normalize()
	if err != nil {
		return nil, err
	}
	p := entries.Get().(*pending)
	p.body = appendBody(p.body[:0], &e)
	return p, l.enqueue(p)
}

// Head returns the newest durable entry.
func (l *Log) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// Err returns why nothing can be written now, an [ErrUnwritable], or nil. A log whose disk was
// full goes on by itself once there is room.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Refuse has nothing written any more: what has to be looked at first was found. It is final.
func (l *Log) Refuse(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.final {
		l.err, l.final = fmt.Errorf("%w: %w", ErrUnwritable, why), true
	}
}

// Close writes what was appended before, unlocks the log and closes it. It returns
// the error that keeps the log from being written, if any. It may be called again.
func (l *Log) Close() error {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	l.mu.Unlock()
	l.signal()
	<-l.ended
	if !first {
		return l.Err()
	}
	return errors.Join(l.Err(), l.tree.sync(), l.closeFiles())
}

// closeFiles closes what is open.
func (l *Log) closeFiles() error {
	var errs []error
	for _, f := range []*os.File{l.file, l.tree.file, l.directory} {
		if f == nil {
			continue
		}
		if err := f.Close(); !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (l *Log) enqueue(p *pending) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.err != nil:
		return l.err
	case l.closed:
		return ErrClosed
	}
	l.queue = append(l.queue, p)
	l.signal()
	l.coming.Came(len(l.queue))
	return nil
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// write is the writer's goroutine, the only one that touches the segment.
func (l *Log) write() {
	defer close(l.ended)
	var spare []*pending
	buffer := make([]byte, 0, 64<<10)
	for {
		var retry <-chan time.Time
		if !l.failed.IsZero() {
			retry = time.After(retryInterval)
		}
		select {
		case <-l.wake:
		case <-retry:
			l.recover()
			continue
		}
		l.gather()
		l.mu.Lock()
		batch := l.queue
		l.queue = spare[:0]
		closed := l.closed
		l.mu.Unlock()
		for rest := batch; len(rest) > 0; {
			var n int
			n, buffer = l.writeSome(rest, buffer[:0])
			rest = rest[n:]
		}
		clear(batch)
		spare = batch
		if closed { // nothing can have been queued since
			return
		}
	}
}

// gather waits for entries that are on their way.
func (l *Log) gather() {
	l.mu.Lock()
	worthwhile := l.coming.Worthwhile(len(l.queue)) && !l.closed
	l.mu.Unlock()
	if worthwhile {
		l.coming.Wait(l.coming.Limit(), nil)
	}
}

// writeSome writes the first of the entries in one go, as many as fit, and answers
// them. It returns their number and the buffer for the next time.
func (l *Log) writeSome(entries []*pending, buffer []byte) (int, []byte) {
	head, err := l.state()
	if err != nil { // these came just before it was known
		for _, p := range entries {
			p.done <- err
		}
		return len(entries), buffer
	}
	l.ends = l.ends[:0]
	first := head.Seq + 1
	rotate := l.due()
	if rotate {
		buffer, head = l.appendNaming(buffer, head)
	}
	n := 0
	for n < len(entries) && len(buffer) < maxBatch-maxLine {
		head.Seq++
		buffer, head.Hash = appendLine(buffer, head.Seq, l.options.Clock(), entries[n].body, head.Hash)
		l.ends = append(l.ends, len(buffer))
		n++
	}
	if err := l.commit(first, buffer, rotate); err != nil {
		l.fail(err)
		for _, p := range entries[:n] {
			p.done <- fmt.Errorf("%w: %w", ErrUnwritable, err)
		}
		return n, buffer
	}
	// Who asks for the tree waits until it has what is acknowledged here; who appends does not.
	l.tree.mu.Lock()
	l.mu.Lock()
	l.head = head
	l.mu.Unlock()
	for _, p := range entries[:n] {
		p.done <- nil
	}
	l.grow(buffer)
	l.tree.mu.Unlock()
	return n, buffer
}

// grow adds the lines of the buffer to the tree. The caller has its lock.
func (l *Log) grow(buffer []byte) {
	start := 0
	for _, end := range l.ends {
		l.tree.grow(buffer[start : end-1])
		start = end
	}
	l.tree.grown()
}

func (l *Log) state() (Head, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head, l.err
}

// fail notes that nothing can be written until [Log.recover] can.
func (l *Log) fail(cause error) {
	if l.failed.IsZero() {
		l.failed = l.options.Clock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.final {
		l.err = fmt.Errorf("%w: %w", ErrUnwritable, cause)
	}
}

// due reports whether the next entry begins another segment.
func (l *Log) due() bool {
	return l.size >= l.options.SegmentSize || l.options.Clock().Sub(l.since) >= l.options.SegmentAge
}

// commit puts lines on stable storage, at the end of the segment or as the beginning of
// another one.
func (l *Log) commit(first uint64, lines []byte, rotate bool) error {
	if err := l.tree.room(); err != nil {
		return err
	}
	if rotate {
		return l.rotate(first, lines)
	}
	if _, err := l.file.Write(lines); err != nil {
		return err
	}
	if err := syncData(l.file); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	l.size += int64(len(lines))
	return nil
}

// appendNaming appends the entry with which a segment begins.
func (l *Log) appendNaming(b []byte, head Head) ([]byte, Head) {
	e := Entry{Method: "AuditLog/Segment", Decision: Event, Detail: "a segment of the log begins", Log: l.origin}
	if head.Seq == 0 {
		e.Detail = "the log begins"
	}
	head.Seq++
	b, head.Hash = appendLine(b, head.Seq, l.options.Clock(), appendBody(nil, &e), head.Hash)
	l.ends = append(l.ends, len(b))
	return b, head
}

// begin makes the first segment.
func (l *Log) begin() error {
	line, head := l.appendNaming(nil, Head{})
	if err := l.rotate(1, line); err != nil {
		return fmt.Errorf("begin audit log: %w", err)
	}
	l.head = head
	l.tree.mu.Lock()
	defer l.tree.mu.Unlock()
	l.grow(line)
	return nil
}

// rotate makes a segment that begins with these lines, and closes the one before. The file
// gets its name when it is whole on the disk, so no segment is without an entry; the hashes of
// what is before are on the disk by then, so the closed segment may be moved away.
func (l *Log) rotate(first uint64, lines []byte) (err error) {
	if err := l.tree.sync(); err != nil {
		return err
	}
	next := segment{first, filepath.Join(l.dir, segmentName(first))}
	unfinished := next.path + newSuffix
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := openFile(unfinished, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if _, err := f.Write(lines); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if _, err := os.Lstat(next.path); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is in the way: %w", next.path, os.ErrExist)
	}
	l.stray = next.path
	if err := os.Rename(unfinished, next.path); err != nil {
		return err
	}
	if err := l.directory.Sync(); err != nil {
		return err
	}
	l.stray = ""
	if old := l.file; old != nil {
		_ = old.Chmod(0o400) // against mistakes; Open does it again
		_ = old.Close()      // everything in it is on the disk
	}
	l.file, l.size, l.since = f, int64(len(lines)), l.options.Clock()
	l.mu.Lock()
	l.segment = next
	l.mu.Unlock()
	return nil
}

// recover goes on after a write that failed. What was acknowledged is on the disk, and
// everything behind it is removed; the entry that says so shows that there is room again.
func (l *Log) recover() {
	head, err := l.state()
	if l.isFinal() {
		l.failed = time.Time{}
		return
	}
	if err := l.restore(head); err != nil {
		if errors.Is(err, ErrChain) {
			l.Refuse(err)
		}
		return
	}
	var body []byte
	e, wrong := Entry{
		Method: "AuditLog/Recover", Decision: Event,
		Detail: fmt.Sprintf("the log could not be written for %s (%s); requests were refused meanwhile, and the entries of some are not in it",
			l.options.Clock().Sub(l.failed).Round(time.Second), cause(err)),
	}.normalize()
	if wrong != nil {
		return
	}
	body = appendBody(body, &e)
	l.ends = l.ends[:0]
	first := head.Seq + 1
	var line []byte
	rotate := l.due()
	if rotate {
		line, head = l.appendNaming(line, head)
	}
	head.Seq++
	line, head.Hash = appendLine(line, head.Seq, l.options.Clock(), body, head.Hash)
	l.ends = append(l.ends, len(line))
	if err := l.commit(first, line, rotate); err != nil {
		return // and again later
	}
	l.failed = time.Time{}
	l.tree.mu.Lock()
	l.mu.Lock()
	l.head = head
	if !l.final {
		l.err = nil
	}
	l.mu.Unlock()
	l.grow(line)
	l.tree.mu.Unlock()
}

func (l *Log) isFinal() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.final
}

// cause is what the system says of a failure, without a path.
func cause(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number.Error()
	}
	return "see the log of the service"
}

// restore brings the segment back to what was acknowledged, and looks that it is what was
// written.
func (l *Log) restore(head Head) error {
	if l.stray != "" {
		if err := os.Remove(l.stray); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := l.directory.Sync(); err != nil {
			return err
		}
		l.stray = ""
	}
	opened, err := l.file.Stat()
	if err != nil {
		return err
	}
	named, err := os.Lstat(l.segment.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err != nil || !os.SameFile(opened, named) || opened.Size() < l.size {
		return &ChainError{Seq: head.Seq, Problem: "the segment was replaced or cut while keyd was writing it"}
	}
	if err := truncate(l.file, l.size); err != nil {
		return err
	}
	end, err := readEnd(l.file, l.size, 2*maxLine)
	if err != nil {
		return err
	}
	if len(end.torn) > 0 || len(end.lines) == 0 {
		return &ChainError{Seq: head.Seq, Problem: "it is not there any more"}
	}
	rec, problem := parseLine(bytes.Clone(end.lines[len(end.lines)-1]))
	if problem != "" || rec.Seq != head.Seq || rec.Hash != head.Hash {
		return &ChainError{Seq: head.Seq, Problem: "it is not what was written"}
	}
	return nil
}

// recordTorn appends an entry about an incomplete last line that was removed.
func (l *Log) recordTorn(size int64) error {
	return l.Append(context.Background(), Entry{
		Method:   "AuditLog/Open",
		Decision: Event,
		Detail:   fmt.Sprintf("an incomplete last line of %d bytes, which was never acknowledged, was removed", size),
	})
}
