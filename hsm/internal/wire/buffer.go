package wire

import (
	"sync"

	"google.golang.org/protobuf/proto"
)

// Buffer holds encoded frames for one way through a [Writer], which takes over what it
// has accepted: the sender must not use that again.
type Buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any { return &Buffer{make([]byte, 0, 2<<10)} }}

// maxKept is the size from which a buffer is not kept for the next frame, in bytes.
const maxKept = 16 << 10

// NewBuffer returns an empty buffer.
func NewBuffer() *Buffer { return buffers.Get().(*Buffer) }

// Append adds the frame of message m. After an error the buffer is as before.
func (b *Buffer) Append(id uint64, op Op, m proto.Message) error {
	more, err := Append(b.b, id, op, m)
	if err == nil {
		b.b = more
	}
	return err
}

// release gives the buffer to whoever asks for the next one.
func (b *Buffer) release() {
	if cap(b.b) > maxKept {
		return
	}
	b.b = b.b[:0]
	buffers.Put(b)
}
