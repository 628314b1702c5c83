package wire

import (
	"bufio"
	"errors"
	"io"
	"sync"
)

// ErrClosed is returned by [Writer.Send] after the writer has ended.
var ErrClosed = errors.New("channel closed")

// Writer sends encoded frames in order from one goroutine and flushes when nothing
// more is queued, so that frames of a busy moment share a system call.
type Writer struct {
	queue chan []byte
	done  chan struct{}
	once  sync.Once
}

// NewWriter starts a writer on w. broken is called once, from the writer's
// goroutine, when w fails.
func NewWriter(w io.Writer, broken func(error)) *Writer {
	writer := &Writer{queue: make(chan []byte, 256), done: make(chan struct{})}
	go writer.run(w, broken)
	return writer
}

// Send queues one encoded frame. It blocks while the queue is full.
func (w *Writer) Send(frame []byte) error {
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
	}
}

// Close ends the writer. Frames not yet written are dropped.
func (w *Writer) Close() { w.once.Do(func() { close(w.done) }) }

func (w *Writer) run(dst io.Writer, broken func(error)) {
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
			err = out.Flush()
		}
		if err != nil {
			w.Close()
			broken(err)
			return
		}
	}
}
