package wire

import (
	"bufio"
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
)

// Errors of sending.
var (
	ErrClosed = errors.New("channel closed")                  // the writer has ended
	ErrFull   = errors.New("the other side reads too slowly") // [Writer.TrySend] only
)

// Writer sends encoded frames in order from one goroutine and flushes when nothing
// more is queued, so that frames of a busy moment share a system call.
type Writer struct {
	queue  chan []byte
	done   chan struct{}
	once   sync.Once
	broken func(error)
}

// queueSize is how many frames may wait for the other side.
const queueSize = 1024

// NewWriter starts a writer on w. broken is called once, from the writer's
// goroutine, when w fails.
func NewWriter(w io.Writer, broken func(error)) *Writer {
	writer := &Writer{queue: make(chan []byte, queueSize), done: make(chan struct{}), broken: broken}
	go writer.run(w)
	return writer
}

// Send queues one encoded frame. It waits while the queue is full, but not beyond ctx.
func (w *Writer) Send(ctx context.Context, frame []byte) error {
	select {
	case <-w.done:
		return ErrClosed
	default:
	}
	select {
	case w.queue <- frame:
		return nil
	case <-w.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TrySend queues one encoded frame or says that it cannot; it never waits.
func (w *Writer) TrySend(frame []byte) error {
	select {
	case <-w.done:
		return ErrClosed
	default:
	}
	select {
	case w.queue <- frame:
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
	for {
		var frame []byte
		select {
		case frame = <-w.queue:
		case <-w.done:
			return
		}
		_, err := out.Write(frame)
		if err == nil && len(w.queue) == 0 {
			runtime.Gosched() // whoever is about to send shares the system call
			if len(w.queue) == 0 {
				err = out.Flush()
			}
		}
		if err != nil {
			w.Close()
			w.broken(err)
			return
		}
	}
}
