package velocity

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
)

// identity is what the table knows of a subject.
type identity struct {
	who    uint64 // 48 bits and 16 zeros, never 0
	set    uint64 // any number; its low bits are the number of the set
	permit uint64
}

// identifier computes HMAC-SHA-256 under one key, without allocating.
type identifier struct{ free sync.Pool }

// state is an HMAC in the course of its computation. What goes in and out is copied to
// buf, so that nothing of the caller's escapes to the heap.
type state struct {
	mac hash.Hash
	buf [64]byte
}

func newIdentifier(key [32]byte) *identifier {
	return &identifier{free: sync.Pool{New: func() any { return &state{mac: hmac.New(sha256.New, key[:])} }}}
}

// identify computes the identity of a subject of a kind. Kind 0 and no subject make
// the check value of the key.
func (i *identifier) identify(kind Kind, subject []byte) identity {
	s := i.free.Get().(*state)
	s.mac.Reset()
	s.buf[0] = byte(kind)
	n := 1 + copy(s.buf[1:], subject)
	_, _ = s.mac.Write(s.buf[:n]) // a hash never fails
	for subject = subject[n-1:]; len(subject) > 0; subject = subject[n:] {
		n = copy(s.buf[:], subject)
		_, _ = s.mac.Write(s.buf[:n])
	}
	sum := s.mac.Sum(s.buf[:0])
	id := identity{
		who:    binary.BigEndian.Uint64(sum) << 16,
		set:    binary.BigEndian.Uint64(sum[8:]),
		permit: binary.BigEndian.Uint64(sum[16:]),
	}
	if id.who == 0 {
		id.who = 1 << 16
	}
	clear(s.buf[:])
	i.free.Put(s)
	return id
}
