package macops

import (
	"crypto/subtle"
	"encoding/binary"

	"keyd/dukpt/software"
)

// tdesBlock is the block size of TDES.
const tdesBlock = 8

// padded returns a message with the padding of ISO 9797-1:2011 §6.3, by method 1 or 2:
// zeros up to a whole number of blocks, which is not 0; or a one-bit before them.
func padded(message []byte, method uint8) []byte {
	size := len(message)
	if method == 2 {
		size++
	}
	out := make([]byte, max(1, (size+tdesBlock-1)/tdesBlock)*tdesBlock)
	copy(out, message)
	if method == 2 {
		out[len(message)] = 0x80
	}
	return out
}

// algorithm1 is ISO 9797-1:2011 §7.2 over whole blocks.
func algorithm1(mac *[tdesBlock]byte, key *software.TDESKey, blocks []byte) {
	clear(mac[:])
	for ; len(blocks) > 0; blocks = blocks[tdesBlock:] {
		subtle.XORBytes(mac[:], mac[:], blocks[:tdesBlock])
		key.Encrypt(mac[:], mac[:])
	}
}

// algorithm3 is ISO 9797-1:2011 §7.4 over whole blocks; left is single DES under the key's
// left half.
func algorithm3(mac *[tdesBlock]byte, key, left *software.TDESKey, blocks []byte) {
	last := blocks[len(blocks)-tdesBlock:]
	algorithm1(mac, left, blocks[:len(blocks)-tdesBlock])
	subtle.XORBytes(mac[:], mac[:], last)
	key.Encrypt(mac[:], mac[:])
}

// cmac is NIST SP 800-38B §6.2 with TDES.
func cmac(mac *[tdesBlock]byte, key *software.TDESKey, message []byte) {
	var last [tdesBlock]byte
	full := max(0, (len(message)-1)/tdesBlock) * tdesBlock // blocks before the last one
	rest := message[full:]
	copy(last[:], rest)
	subkey := double(encryptedZero(key))
	if len(rest) < tdesBlock {
		last[len(rest)] = 0x80
		subkey = double(subkey)
	}
	binary.BigEndian.PutUint64(last[:], binary.BigEndian.Uint64(last[:])^subkey)
	algorithm1(mac, key, message[:full])
	subtle.XORBytes(mac[:], mac[:], last[:])
	key.Encrypt(mac[:], mac[:])
}

func encryptedZero(key *software.TDESKey) uint64 {
	var block [tdesBlock]byte
	key.Encrypt(block[:], block[:])
	return binary.BigEndian.Uint64(block[:])
}

// double multiplies by x in the field of 2^64 elements (SP 800-38B §5.3, §6.1).
func double(x uint64) uint64 { return x<<1 ^ 0x1B&-(x>>63) }
