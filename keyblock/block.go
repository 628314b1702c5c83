package keyblock

import (
	"encoding/hex"
	"strings"
)

// Block is a key block, taken apart and not yet verified.
type Block struct {
	Header     Header
	HeaderText []byte // the header as transported, with its optional blocks: what the MAC covers
	Encrypted  []byte // whole cipher blocks
	MAC        []byte // 4 bytes in versions A and C, 8 in B, 16 in D
}

// Parse reads a key block. The result has copies of what it needs of text.
//
// It accepts what the package comment lists, and refuses everything else with the first error
// of errors.go that applies; there is no block then.
func Parse(text []byte) (*Block, error) {
	text = withoutTag(text)
	h, total, count, err := parseFixed(text)
	if err != nil {
		return nil, err
	}
	if total != len(text) {
		return nil, ErrTotalLength
	}
	cipherBlock, macLength := CipherBlock(h.Version), 2*MACSize(h.Version)
	if total%cipherBlock != 0 {
		return nil, ErrTotalAlignment
	}
	size := fixedSize
	if h.Blocks, size, err = parseOptional(text, size, count); err != nil {
		return nil, err
	}
	key, mac := text[size:], []byte(nil)
	if len(key) < macLength {
		return nil, ErrMACTruncated
	}
	key, mac = key[:len(key)-macLength], key[len(key)-macLength:]
	switch {
	case len(key) == 0:
		return nil, ErrNoKey
	case size%cipherBlock != 0:
		return nil, ErrHeaderAlignment
	}
	b := &Block{Header: h, HeaderText: []byte(string(text[:size]))}
	if b.Encrypted, err = hex.DecodeString(string(key)); err != nil {
		return nil, ErrKeyHex
	}
	if b.MAC, err = hex.DecodeString(string(mac)); err != nil {
		return nil, ErrMACHex
	}
	if len(b.Encrypted)%cipherBlock != 0 {
		return nil, ErrKeyAlignment
	}
	return b, nil
}

// withoutTag removes the S or R that some makers' HSMs put before a key block to tell its
// scheme. The block does not know of it: neither its length nor its MAC covers it.
func withoutTag(text []byte) []byte {
	if len(text) >= 2 && (text[0] == 'S' || text[0] == 'R') && CipherBlock(text[1]) != 0 {
		return text[1:]
	}
	return text
}

// Text prints a block in the form in which it is written: without a letter before the
// version, hex digits in upper case.
func (b *Block) Text() []byte {
	body := strings.ToUpper(hex.EncodeToString(b.Encrypted) + hex.EncodeToString(b.MAC))
	return append(append(make([]byte, 0, len(b.HeaderText)+len(body)), b.HeaderText...), body...)
}
