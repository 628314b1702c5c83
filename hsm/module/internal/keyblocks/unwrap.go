package keyblocks

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"reflect"
	"slices"

	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/token"
	"keyd/keyblock"
)

// Unwrap verifies a key block and writes the key in it to out, which is locked memory of the
// caller's that has room for it and lies before the last [WorkSize] bytes of the session's. It
// returns the key's size: 1 byte to as much as the payload holds, whatever the algorithm.
//
// A KBPK that does not fit gives what [KBPK.Check] returns, a block that package keyblock did not
// read [ErrBlock]; then come [ErrMAC], [ErrBits], [ErrNoKey], [ErrLength] and [ErrOutput], in this
// order, or a token error. out is as it was then.
func Unwrap(s *token.Session, k KBPK, b *keyblock.Block, out []byte) (n int, err error) {
	if !consistent(b) {
		return 0, ErrBlock
	}
	if err := k.Check(b.Header.Version); err != nil {
		return 0, err
	}
	w := workOf(s)
	defer w.wipe()
	at := copy(w.message, b.HeaderText)
	payload := w.message[at : at+len(b.Encrypted)]
	switch b.Header.Version {
	case 'B', 'D':
		err = k.openDerived(s, w, b, payload)
	default:
		err = k.openVariant(s, w, b, payload)
	}
	if err != nil {
		return 0, err
	}
	erase.Do(func() { n, err = take(out, payload) })
	return n, err
}

// openDerived deciphers and verifies a block of version B or D. The MAC is over what is
// deciphered, and the initial vector of its cipher.
func (k *KBPK) openDerived(s *token.Session, w work, b *keyblock.Block, payload []byte) error {
	u := k.suite()
	return k.withDerived(s, w.derived, token.MayDecrypt, func(kbek, kbak token.Object) error {
		if err := s.DecryptCBC(u.cbc, b.MAC, kbek, payload, b.Encrypted); err != nil {
			return err
		}
		if err := sign(s, u, kbak, w.mac[:u.block], w.message[:len(b.HeaderText)+len(payload)]); err != nil {
			return err
		}
		return verified(w.mac[:u.block], b.MAC)
	})
}

// openVariant verifies and deciphers a block of version A or C.
func (k *KBPK) openVariant(s *token.Session, w work, b *keyblock.Block, payload []byte) error {
	u := k.suite()
	if err := k.cbcMAC(s, w, b.HeaderText, b.Encrypted); err != nil {
		return err
	}
	if err := verified(w.mac[:len(b.MAC)], b.MAC); err != nil {
		return err
	}
	return s.DecryptCBC(u.cbc, b.HeaderText[:u.block], k.EncryptionVariant, payload, b.Encrypted)
}

// cbcMAC makes the CBC-MAC of a header and a ciphertext, whole cipher blocks both, and leaves it
// in w.mac (X9.143-2021 clause 7, variant binding).
func (k *KBPK) cbcMAC(s *token.Session, w work, header, ciphertext []byte) error {
	u := k.suite()
	chain := w.mac[:u.block]
	clear(chain)
	for _, part := range [][]byte{header, ciphertext} {
		for piece := range slices.Chunk(part, len(w.chained)) {
			if err := s.EncryptCBC(u.cbc, chain, k.MACVariant, w.chained, piece); err != nil {
				return err
			}
			copy(chain, w.chained[len(piece)-u.block:])
		}
	}
	return nil
}

// verified compares in constant time.
func verified(computed, claimed []byte) error {
	if subtle.ConstantTimeCompare(computed, claimed) != 1 {
		return ErrMAC
	}
	return nil
}

// take copies the key out of a payload that was verified: its length in bits, the key, padding
// (X9.143-2021 7.3.1, table 26).
func take(out, payload []byte) (int, error) {
	bits := int(binary.BigEndian.Uint16(payload))
	size := bits / 8
	switch {
	case bits%8 != 0:
		return 0, ErrBits
	case size == 0:
		return 0, ErrNoKey
	case size > len(payload)-lengthSize:
		return 0, ErrLength
	case size > len(out):
		return 0, ErrOutput
	}
	return copy(out, payload[lengthSize:lengthSize+size]), nil
}

// consistent tells whether a block is as keyblock.Parse makes them. The MAC covers the header's
// text, so the header must be what the text says.
func consistent(b *keyblock.Block) bool {
	again, err := keyblock.Parse(b.Text())
	if err != nil || !bytes.Equal(again.HeaderText, b.HeaderText) || !bytes.Equal(again.MAC, b.MAC) {
		return false
	}
	given, read := b.Header, again.Header
	same := slices.Equal(given.Blocks, read.Blocks)
	given.Blocks, read.Blocks = nil, nil
	return same && reflect.DeepEqual(given, read)
}
