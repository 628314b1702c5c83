package wire

import (
	"bufio"
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"time"
)

// Errors of sending.
var (
	ErrClosed = errors.New("channel closed")                  // the writer has ended
	ErrFull   = errors.New("the other side reads too slowly") // [Writer.TrySend] only
)

// Writer sends encoded frames in order from one goroutine and flushes when nothing
// more is queued, so that frames of a busy moment share a system call.
type Writer struct {
	queue   chan *Buffer
	done    chan struct{}
	once    sync.Once
	broken  func(error)
	spacing time.Duration
}

// queueSize is how many frames may wait for the other side.
const queueSize = 1024

// Spacing is how far apart the flushes of a busy front are. Each one wakes a module, which
// carries out together what has come: that costs it little more for ten operations than
// for one.
const Spacing = 500 * time.Microsecond

// NewWriter starts a writer on w. broken is called once, from the writer's goroutine,
// when w fails. Where spacing is not 0, flushes keep that distance as long as frames come
// at more than some thousand a second; a frame that comes alone is flushed at once.
func NewWriter(w io.Writer, spacing time.Duration, broken func(error)) *Writer {
	writer := &Writer{queue: make(chan *Buffer, queueSize), done: make(chan struct{}), broken: broken, spacing: spacing}
	go writer.run(w)
	return writer
}

// Send queues what a buffer holds. It waits while the queue is full, but not beyond ctx.
func (w *Writer) Send(ctx context.Context, frames *Buffer) error {
	select {
	case <-w.done:
		return ErrClosed
	default:
	}
	select {
	case w.queue <- frames:
		return nil
	case <-w.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TrySend queues what a buffer holds or says that it cannot; it never waits.
func (w *Writer) TrySend(frames *Buffer) error {
	select {
	case <-w.done:
		return ErrClosed
	default:
	}
	select {
	case w.queue <- frames:
		return nil
	default:
		return ErrFull
	}
}

// Done is closed when the writer has ended.
func (w *Writer) Done() <-chan struct{} { return w.done }

// Break ends the writer as a failed write does.
func (w *Writer) Break() {
	w.Close()
	w.broken(ErrFull)
}

// Close ends the writer. Frames not yet written are dropped.
func (w *Writer) Close() { w.once.Do(func() { close(w.done) }) }

func (w *Writer) run(dst io.Writer) {
	out := bufio.NewWriterSize(dst, 64<<10)
	rhythm := rhythm{spacing: w.spacing}
	late := time.NewTimer(time.Hour)
	defer late.Stop()
	for {
		if out.Buffered() > 0 && len(w.queue) == 0 {
			runtime.Gosched() // whoever is about to send shares the system call
		}
		var due <-chan time.Time
		if out.Buffered() > 0 && len(w.queue) == 0 {
			wait := rhythm.wait()
			if wait <= 0 {
				if err := out.Flush(); err != nil {
					w.fail(err)
					return
				}
				rhythm.flushed = time.Now()
				continue
			}
			late.Reset(wait)
			due = late.C
		}
		select {
		case frames := <-w.queue:
			late.Stop()
			rhythm.count()
			_, err := out.Write(frames.b)
			frames.release()
			if err != nil {
				w.fail(err)
				return
			}
		case <-due:
		case <-w.done:
			return
		}
	}
}

func (w *Writer) fail(err error) {
	w.Close()
	w.broken(err)
}

// rhythm decides when to flush.
type rhythm struct {
	spacing time.Duration
	flushed time.Time

	begun       time.Time // of the present millisecond
	now, before int       // frames in it, and in the one before
}

// busyFrames is how many frames of a millisecond make the next one busy.
const busyFrames = 4

// count counts a frame.
func (r *rhythm) count() {
	if r.spacing == 0 {
		return
	}
	if t := time.Now(); t.Sub(r.begun) >= time.Millisecond {
		r.before = r.now
		if t.Sub(r.begun) >= 2*time.Millisecond {
			r.before = 0
		}
		r.begun, r.now = t, 0
	}
	r.now++
}

// wait returns how long the next flush has to wait.
func (r *rhythm) wait() time.Duration {
	if r.spacing == 0 || r.before < busyFrames {
		return 0
	}
	return r.spacing - time.Since(r.flushed)
}
