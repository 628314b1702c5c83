package checkpoints

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"

	"keyd/checkpoint"
	"keyd/hsm/module/internal/hostfile"
)

const (
	// MaxLogs is for how many logs there is room.
	MaxLogs = 64
	// FileSize is the size of the file, in bytes.
	FileSize = 2 * slotSize

	slotSize   = 12 << 10 // bytes
	headerSize = 8 + 8 + 8
	originSize = 1 + 127 // length and text
	recordSize = originSize + 8 + 32
	sumAt      = slotSize - 4
)

var magic = [8]byte{'k', 'e', 'y', 'd', 'c', 'p', '1', '\n'}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Errors of a memory. Their sentences go to the front.
var (
	ErrNone    = errors.New("they have no file for it")
	ErrDamaged = errors.New("their file is damaged")
	ErrFull    = errors.New("their file has no room for another log")
)

// Memory is the file as a module has it. It is safe for concurrent use.
type Memory struct {
	fd int
	mu sync.Mutex // record locks do not exclude threads
}

// Open uses the file with that descriptor. With -1 there is none, and everything is refused
// ([ErrNone]).
func Open(fd int) *Memory { return &Memory{fd: fd} }

// state is what is remembered: the trees by origin, in the order in which they came.
type state struct {
	count uint64 // how often it was written
	logs  []log
}

type log struct {
	origin string
	tree   checkpoint.Tree
}

// Last returns the last tree of a log that was signed; the one over nothing if there is none.
func (m *Memory) Last(origin string) (t checkpoint.Tree, err error) {
	err = m.locked(func() error {
		s, _, err := m.read()
		if err == nil {
			t = s.of(origin).tree
		}
		return err
	})
	return t, err
}

// Advance remembers that a tree is signed, after which the caller signs it. It refuses one that
// does not have all entries of the last one, by the proof. began says that there was none: the
// log begins with this tree. What is remembered already may be signed again.
//
// Errors are [checkpoint.ErrOlder] and [checkpoint.ErrInconsistent]; [ErrNone], [ErrDamaged] and
// [ErrFull]; and those of the file. After any of them nothing may be signed.
func (m *Memory) Advance(origin string, next checkpoint.Tree, proof []checkpoint.Hash) (began bool, err error) {
	if !checkpoint.ValidOrigin(origin) {
		return false, checkpoint.ErrNote
	}
	err = m.locked(func() error {
		s, slot, err := m.read()
		if err != nil {
			return err
		}
		at := s.of(origin)
		began = at.tree.Size == 0
		if err := next.Follows(at.tree, proof); err != nil {
			return err
		}
		// The same tree is written again too: that it is read back does not say that it is on
		// the disk, where an earlier write has failed.
		if at.origin == "" {
			if len(s.logs) == MaxLogs {
				return ErrFull
			}
			s.logs = append(s.logs, log{origin: origin})
			at = &s.logs[len(s.logs)-1]
		}
		at.tree = next
		s.count++
		return m.write(s, 1-slot)
	})
	return began && err == nil, err
}

// of returns a log's place, or an empty one.
func (s *state) of(origin string) *log {
	for i := range s.logs {
		if s.logs[i].origin == origin {
			return &s.logs[i]
		}
	}
	return &log{}
}

// locked excludes the other modules of the host. A module that dies has let go.
func (m *Memory) locked(do func() error) error {
	if m.fd < 0 {
		return ErrNone
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return hostfile.Alone(m.fd, do)
}

// read returns the newest state and its slot.
func (m *Memory) read() (*state, int, error) {
	b := make([]byte, FileSize)
	if err := hostfile.ReadAt(m.fd, b, 0); errors.Is(err, hostfile.ErrShort) {
		return nil, 0, ErrDamaged
	} else if err != nil {
		return nil, 0, fmt.Errorf("file of checkpoints: %w", err)
	}
	return newest(b)
}

// write writes a state to a slot, and has it on the disk.
func (m *Memory) write(s *state, slot int) error {
	if err := hostfile.WriteAt(m.fd, s.encode(), int64(slot*slotSize)); err != nil {
		return fmt.Errorf("file of checkpoints: %w", err)
	}
	return nil
}

// newest returns the newest state in a file, and the slot in which it is. A file of zeros is a
// new one. The error is [ErrDamaged].
func newest(b []byte) (*state, int, error) {
	var best *state
	slot := 1
	for i := range 2 {
		s := decode(b[i*slotSize : (i+1)*slotSize])
		if s != nil && (best == nil || s.count > best.count) {
			best, slot = s, i
		}
	}
	if best != nil {
		return best, slot, nil
	}
	if len(bytes.Trim(b, "\x00")) > 0 {
		return nil, 0, ErrDamaged
	}
	return &state{}, slot, nil
}

func (s *state) encode() []byte {
	b := make([]byte, headerSize, slotSize)
	copy(b, magic[:])
	binary.BigEndian.PutUint64(b[8:], s.count)
	binary.BigEndian.PutUint64(b[16:], uint64(len(s.logs)))
	for _, l := range s.logs {
		var text [originSize]byte
		text[0] = byte(len(l.origin))
		copy(text[1:], l.origin)
		b = append(b, text[:]...)
		b = binary.BigEndian.AppendUint64(b, l.tree.Size)
		b = append(b, l.tree.Root[:]...)
	}
	b = b[:slotSize]
	binary.BigEndian.PutUint32(b[sumAt:], crc32.Checksum(b[:sumAt], castagnoli))
	return b
}

// decode reads a slot; nil if it is none. It accepts exactly what encode returns.
func decode(b []byte) *state {
	if !bytes.HasPrefix(b, magic[:]) || binary.BigEndian.Uint32(b[sumAt:]) != crc32.Checksum(b[:sumAt], castagnoli) {
		return nil
	}
	s := &state{count: binary.BigEndian.Uint64(b[8:])}
	n := binary.BigEndian.Uint64(b[16:])
	if n > MaxLogs {
		return nil
	}
	for i := range int(n) {
		r := b[headerSize+i*recordSize:][:recordSize]
		if int(r[0]) > checkpoint.MaxOrigin {
			return nil
		}
		l := log{origin: string(r[1 : 1+r[0]])}
		l.tree.Size = binary.BigEndian.Uint64(r[originSize:])
		copy(l.tree.Root[:], r[originSize+8:])
		if !checkpoint.ValidOrigin(l.origin) || !l.tree.Valid() || s.of(l.origin).origin != "" {
			return nil
		}
		s.logs = append(s.logs, l)
	}
	if !bytes.Equal(s.encode(), b) {
		return nil
	}
	return s
}
