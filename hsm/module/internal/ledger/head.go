package ledger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"

	"keyd/hsm/module/internal/hostfile"
)

// The head has two slots, each with how many entries there are that count for good. It is
// written after entries, in turns, and no sync waits for it: what is in it after a loss of power
// may be older, and is true in any case.
const (
	slotSize = 64
	headSize = 2 * slotSize
	countAt  = 8
)

var magic = [8]byte{'k', 'e', 'y', 'd', 'l', 'e', 'd', '\n'}

// slot returns the slot that says a count.
func slot(count uint64) []byte {
	b := make([]byte, slotSize)
	copy(b, magic[:])
	binary.BigEndian.PutUint64(b[countAt:], count)
	binary.BigEndian.PutUint32(b[slotSize-4:], crc32.Checksum(b[:slotSize-4], castagnoli))
	return b
}

// emptyHead is that of a new ledger.
func emptyHead() []byte { return append(slot(0), slot(0)...) }

// readHead returns how many entries count for good, and the slot that says so.
func readHead(fd int) (count uint64, in int, err error) {
	b := make([]byte, headSize)
	if err := hostfile.ReadAt(fd, b, 0); err != nil && !errors.Is(err, hostfile.ErrShort) {
		return 0, 0, err
	}
	found := false
	for i := range 2 {
		s := b[i*slotSize:][:slotSize]
		n := binary.BigEndian.Uint64(s[countAt:])
		if bytes.Equal(s, slot(n)) && (!found || n > count) {
			found, count, in = true, n, i
		}
	}
	if !found {
		return 0, 0, ErrDamaged
	}
	return count, in, nil
}
