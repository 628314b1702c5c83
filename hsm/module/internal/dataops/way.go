package dataops

import (
	"crypto/cipher"
	"encoding/binary"

	"keyd/hsm"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/token"
)

// way is one message on its way through a side, a part at a time: all parts but the last
// are whole blocks.
type way struct {
	*side
	iv      *[16]byte // of the next part; in CTR mode the next counter block
	chained []byte    // the part of iv that the mode uses
}

// start begins a message with its initialization vector.
func (d *side) start(iv []byte) *way {
	w := &way{side: d, iv: new([16]byte)} // by itself: C code gets a pointer to it
	w.chained = w.iv[:copy(w.iv[:], iv)]
	return w
}

// encrypt enciphers the next part.
func (w *way) encrypt(dst, src []byte) error {
	if w.request.Mode == hsm.CTR {
		return w.ctr(w.session.EncryptCTR, dst, src)
	}
	var err error
	if w.memory != nil {
		erase.Do(func() { cipher.NewCBCEncrypter(w.memory, w.chained).CryptBlocks(dst, src) })
	} else {
		err = w.session.EncryptCBC(w.mechanism(), w.chained, w.object, dst, src)
	}
	copy(w.chained, dst[len(dst)-len(w.chained):])
	return err
}

// decrypt deciphers the next part.
func (w *way) decrypt(dst, src []byte) error {
	if w.request.Mode == hsm.CTR {
		return w.ctr(w.session.DecryptCTR, dst, src)
	}
	var err error
	if w.memory != nil {
		erase.Do(func() { cipher.NewCBCDecrypter(w.memory, w.chained).CryptBlocks(dst, src) })
	} else {
		err = w.session.DecryptCBC(w.mechanism(), w.chained, w.object, dst, src)
	}
	copy(w.chained, src[len(src)-len(w.chained):])
	return err
}

// ctr does a part in CTR mode, in two calls if the counter starts again at 0 on the way:
// tokens refuse to do that in one.
func (w *way) ctr(call func(counter *[16]byte, key token.Object, out, in []byte) error, dst, src []byte) error {
	for len(src) > 0 {
		n := len(src)
		if left := w.blocksLeft(); left != 0 && left < uint64(n+15)/16 {
			n = int(left) * 16
		}
		if err := call(w.iv, w.object, dst[:n], src[:n]); err != nil {
			return err
		}
		w.count(n)
		dst, src = dst[n:], src[n:]
	}
	return nil
}

// blocksLeft is how many blocks there are before the counter starts again; 0 stands for
// 2^64 or more.
func (w *way) blocksLeft() uint64 {
	if binary.BigEndian.Uint64(w.iv[:]) != 1<<64-1 {
		return 0
	}
	return -binary.BigEndian.Uint64(w.iv[8:])
}

// count moves the counter block, all 128 bits of it, past n bytes.
func (w *way) count(n int) {
	blocks := uint64((n + 15) / 16)
	low := binary.BigEndian.Uint64(w.iv[8:]) + blocks
	if low < blocks {
		binary.BigEndian.PutUint64(w.iv[:], binary.BigEndian.Uint64(w.iv[:])+1)
	}
	binary.BigEndian.PutUint64(w.iv[8:], low)
}
