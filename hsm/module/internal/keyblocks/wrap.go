package keyblocks

import (
	"crypto/rand"
	"encoding/binary"

	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/token"
	"keyd/keyblock"
)

// Sizes of a payload.
const (
	lengthSize = 2 // of the length in bits
	maxKey     = 4096

	// Keys of these algorithms are padded to the longest, which hides their length, as
	// X9.143-2021 demands. TR-31:2018 does not.
	longestTDES = 24
	longestAES  = 32
)

// Wrap writes a key block of version B, C or D in its strict form: upper case, a padding block
// where the header needs one, random padding after the key, and the length of TDES and AES keys
// hidden. value is locked memory of the caller's, 1 to 4,096 bytes ([ErrKeyLength]), that lies
// before the last [WorkSize] bytes of the session's.
//
// A KBPK that does not fit gives what [KBPK.Check] returns, version A [ErrReadOnly]. A header that
// keyblock's Validate or Encode refuses gives their errors.
func Wrap(s *token.Session, k KBPK, h *keyblock.Header, value []byte) ([]byte, error) {
	if err := h.Validate(); err != nil {
		return nil, err
	}
	if h.Version == 'A' {
		return nil, ErrReadOnly
	}
	if err := k.Check(h.Version); err != nil {
		return nil, err
	}
	if len(value) == 0 || len(value) > maxKey {
		return nil, ErrKeyLength
	}
	size := payloadSize(h, len(value))
	header, err := h.Encode(2 * (size + keyblock.MACSize(h.Version)))
	if err != nil {
		return nil, err
	}
	w := workOf(s)
	defer w.wipe()
	at := copy(w.message, header)
	payload := w.message[at : at+size]
	if _, err := rand.Read(payload[lengthSize+len(value):]); err != nil {
		return nil, err
	}
	erase.Do(func() {
		binary.BigEndian.PutUint16(payload, uint16(8*len(value)))
		copy(payload[lengthSize:], value)
	})
	b := &keyblock.Block{Header: *h, HeaderText: header, Encrypted: make([]byte, size), MAC: make([]byte, keyblock.MACSize(h.Version))}
	if h.Version == 'C' {
		err = k.closeVariant(s, w, b, payload)
	} else {
		err = k.closeDerived(s, w, b, payload)
	}
	if err != nil {
		return nil, err
	}
	return b.Text(), nil
}

// closeDerived authenticates and enciphers a payload for version B or D.
func (k *KBPK) closeDerived(s *token.Session, w work, b *keyblock.Block, payload []byte) error {
	u := k.suite()
	return k.withDerived(s, w.derived, token.MayEncrypt, func(kbek, kbak token.Object) error {
		if err := sign(s, u, kbak, b.MAC, w.message[:len(b.HeaderText)+len(payload)]); err != nil {
			return err
		}
		return s.EncryptCBC(u.cbc, b.MAC, kbek, b.Encrypted, payload)
	})
}

// closeVariant enciphers and authenticates a payload for version C.
func (k *KBPK) closeVariant(s *token.Session, w work, b *keyblock.Block, payload []byte) error {
	u := k.suite()
	if err := s.EncryptCBC(u.cbc, b.HeaderText[:u.block], k.EncryptionVariant, b.Encrypted, payload); err != nil {
		return err
	}
	if err := k.cbcMAC(s, w, b.HeaderText, b.Encrypted); err != nil {
		return err
	}
	copy(b.MAC, w.mac)
	return nil
}

// payloadSize is that of a key in whole cipher blocks.
func payloadSize(h *keyblock.Header, key int) int {
	switch h.Algorithm {
	case 'T':
		key = max(key, longestTDES)
	case 'A':
		key = max(key, longestAES)
	}
	cipherBlock := keyblock.CipherBlock(h.Version)
	return (lengthSize + key + cipherBlock - 1) / cipherBlock * cipherBlock
}
