package software

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"

	"keyd/keyblock"
)

// MaxKeySize is the size of the longest key of TDES and AES.
const MaxKeySize = 32

// Errors of [Open], besides those of package keyblock.
var (
	ErrVersion    = errors.New("keyblock/software: the block is of version A or C, which a terminal is not sent: B and D are")
	ErrProtection = errors.New("keyblock/software: version B takes a TDES key of 16 or 24 bytes, version D an AES key of 16, 24 or 32")
	ErrMAC        = errors.New("keyblock/software: the MAC does not fit: the block was altered, or is under another key")
	ErrLength     = errors.New("keyblock/software: the length of the key in the block is not one that the block can have")
	ErrOutput     = errors.New("keyblock/software: the buffer is smaller than the key")
)

// Protection is a key block protection key.
type Protection struct {
	Algorithm byte // T or A
	Key       []byte
}

// Open reads a key block, verifies its MAC, and writes its key to the begin of out, of which it
// returns the size. With an error out is as it was. Errors are those of [keyblock.Parse], and
// here [ErrVersion], [ErrProtection], [ErrMAC], [ErrLength] and [ErrOutput], in this order.
func Open(p Protection, text []byte, out []byte) (*keyblock.Header, int, error) {
	b, err := keyblock.Parse(text)
	if err != nil {
		return nil, 0, err
	}
	switch b.Header.Version {
	case 'B', 'D':
	default:
		return nil, 0, ErrVersion
	}
	if want := map[byte]byte{'B': 'T', 'D': 'A'}[b.Header.Version]; p.Algorithm != want {
		return nil, 0, ErrProtection
	}
	encryption, authentication, err := p.derive()
	if err != nil {
		return nil, 0, err
	}
	message := make([]byte, len(b.HeaderText)+len(b.Encrypted))
	defer clear(message)
	payload := message[copy(message, b.HeaderText):]
	cipher.NewCBCDecrypter(encryption, b.MAC).CryptBlocks(payload, b.Encrypted)
	if subtle.ConstantTimeCompare(CMAC(authentication, message), b.MAC) != 1 {
		return nil, 0, ErrMAC
	}
	const lengthSize = 2 // of the length in bits (7.3.1, table 26)
	bits := int(binary.BigEndian.Uint16(payload))
	size := bits / 8
	switch {
	case bits%8 != 0 || size == 0 || size > len(payload)-lengthSize:
		return nil, 0, ErrLength
	case size > len(out):
		return nil, 0, ErrOutput
	}
	copy(out, payload[lengthSize:lengthSize+size])
	return &b.Header, size, nil
}

// derive makes the keys for encryption and authentication: CMACs of what says the key's use, kind
// and length (7.2.1.1 and 7.2.2.1, tables 24 and 25).
func (p Protection) derive() (encryption, authentication cipher.Block, err error) {
	from, err := Cipher(p.Algorithm, p.Key)
	if err != nil {
		return nil, nil, ErrProtection
	}
	var made [2]cipher.Block
	for usage := range made {
		key := make([]byte, 0, len(p.Key)+from.BlockSize())
		for counter := byte(1); len(key) < len(p.Key); counter++ {
			part := CMAC(from, p.derivationData(counter, byte(usage)))
			key = append(key, part...)
			clear(part)
		}
		made[usage], err = Cipher(p.Algorithm, key[:len(p.Key)])
		clear(key)
		if err != nil {
			return nil, nil, ErrProtection
		}
	}
	return made[0], made[1], nil
}

func (p Protection) derivationData(counter, usage byte) []byte {
	algorithm := byte(len(p.Key)/8 - 2) // T: 0 or 1
	if p.Algorithm == 'A' {
		algorithm = byte(len(p.Key) / 8) // 2, 3 or 4
	}
	bits := 8 * len(p.Key)
	return []byte{counter, 0, usage, 0, 0, algorithm, byte(bits >> 8), byte(bits)}
}
