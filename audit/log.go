package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"keyd/gather"
)

// Log is a log that is open for writing. Any number of goroutines may use it.
type Log struct {
	file  *os.File
	clock func() time.Time
	wake  chan struct{} // room for one: the queue is not empty, or the log closes
	ended chan struct{} // closed when the writer has ended

	coming *gather.Gate // requests that have begun and will append an entry

	mu     sync.Mutex
	queue  []*pending
	closed bool
	err    error // why nothing can be written any more
	head   Head  // the newest durable entry
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

func newLog(f *os.File, clock func() time.Time, head Head) *Log {
	l := &Log{
		file:   f,
		clock:  clock,
		wake:   make(chan struct{}, 1),
		coming: gather.NewGate(),
		ended:  make(chan struct{}),
		head:   head,
	}
	go l.write()
	return l
}

// Begin tells the log that a request has begun, at whose end an entry comes, so that a
// write can wait for it. The function that it returns is called after that.
func (l *Log) Begin() (end func()) { return l.coming.Begin() }

// Append adds an entry and returns when it is on stable storage (fdatasync). Entries
// that come while a write is in progress share the next one.
//
// Errors: [ErrEntry] if the entry holds what none may; [ErrUnwritable], at once and
// for ever after the first write that failed; [ErrClosed]; or ctx's, after which the
// entry may or may not be in the log. After any error the caller has to withhold the
// answer that the entry is about.
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

// AppendWithin is [Log.Append] that waits for at most that long: [ErrSlow] then.
func (l *Log) AppendWithin(limit time.Duration, e Entry) error {
	p, err := l.enter(e)
	if err != nil {
		return err
	}
	p.late.Reset(limit)
	select {
	case err := <-p.done:
		p.late.Stop()
		entries.Put(p)
		return err
	case <-p.late.C:
		return ErrSlow // the writer has p
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

// Err returns why nothing can be written any more, an [ErrUnwritable], or nil.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close writes what was appended before, unlocks the file and closes it. It returns
// the error that kept the log from being written, if any. It may be called again.
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
	return errors.Join(l.Err(), l.file.Close())
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

// write is the writer's goroutine, the only one that touches the file.
func (l *Log) write() {
	defer close(l.ended)
	var spare []*pending
	buffer := make([]byte, 0, 64<<10)
	for range l.wake {
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
		l.coming.Wait(gather.Limit, nil)
	}
}

// writeSome writes the first of the entries in one go, as many as fit, and answers
// them. It returns their number and the buffer for the next time.
func (l *Log) writeSome(entries []*pending, buffer []byte) (int, []byte) {
	head, err := l.state()
	n := 0
	for n < len(entries) && len(buffer) < maxBatch-maxLine {
		head.Seq++
		buffer, head.Hash = appendLine(buffer, head.Seq, l.clock(), entries[n].body, head.Hash)
		n++
	}
	if err == nil {
		err = l.store(buffer)
	}
	l.mu.Lock()
	if err == nil {
		l.head = head
	} else {
		l.err = err
	}
	l.mu.Unlock()
	for _, p := range entries[:n] {
		p.done <- err
	}
	return n, buffer
}

func (l *Log) state() (Head, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head, l.err
}

// store puts lines on stable storage. What a failed write left in the file was never
// acknowledged; it stays, since this log is only ever appended to.
func (l *Log) store(lines []byte) error {
	if _, err := l.file.Write(lines); err != nil {
		return fmt.Errorf("%w: %w", ErrUnwritable, err)
	}
	for {
		err := unix.Fdatasync(int(l.file.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("%w: sync: %w", ErrUnwritable, err)
		}
	}
}

// recordTorn appends an entry about an incomplete last line that was removed.
func (l *Log) recordTorn(size int64) error {
	return l.Append(context.Background(), Entry{
		Method:   "AuditLog/Open",
		Decision: Event,
		Detail:   fmt.Sprintf("an incomplete last line of %d bytes, which was never acknowledged, was removed", size),
	})
}
