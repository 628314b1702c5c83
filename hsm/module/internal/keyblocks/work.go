package keyblocks

import "keyd/hsm/module/internal/token"

// WorkSize is how much of a session's locked memory, counted from its end, this package works
// in.
const WorkSize = 16 << 10

// work is that memory, divided.
type work struct {
	all     []byte
	message []byte // header and payload of one block; a block has 9,999 characters at most
	derived []byte // the value of a derived key, in whole cipher blocks
	mac     []byte // one cipher block
	chained []byte // what CBC makes of a part of a message
}

func workOf(s *token.Session) work {
	all := s.Scratch()[token.ScratchSize-WorkSize:][:WorkSize]
	return work{all: all, message: all[:10_000], derived: all[10_000:10_032], mac: all[10_032:10_048], chained: all[10_048:12_096]}
}

func (w work) wipe() { clear(w.all) }
