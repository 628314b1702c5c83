package software

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"errors"
)

// Errors of ciphers.
var (
	ErrAlgorithm = errors.New("keyblock/software: the algorithm is neither T nor A")
	ErrKeySize   = errors.New("keyblock/software: the key has no size of its algorithm: T 16 or 24 bytes, A 16, 24 or 32")
)

// Cipher returns the block cipher of an algorithm as headers name it: T is TDES with 16 or 24
// bytes, A is AES with 16, 24 or 32. The errors are [ErrAlgorithm] and [ErrKeySize].
func Cipher(algorithm byte, key []byte) (cipher.Block, error) {
	switch {
	case algorithm == 'A' && (len(key) == 16 || len(key) == 24 || len(key) == 32):
		return aes.NewCipher(key)
	case algorithm == 'T' && (len(key) == 16 || len(key) == 24):
		var whole [24]byte
		defer clear(whole[:])
		copy(whole[copy(whole[:], key):], key[:8]) // of two parts: the third is the first
		return des.NewTripleDESCipher(whole[:])
	case algorithm == 'A' || algorithm == 'T':
		return nil, ErrKeySize
	}
	return nil, ErrAlgorithm
}

// CMAC returns the CMAC of a message (NIST SP 800-38B 6.2), as long as the cipher's block.
func CMAC(c cipher.Block, message []byte) []byte {
	size := c.BlockSize()
	subkey, state := make([]byte, size), make([]byte, size)
	defer clear(subkey)
	c.Encrypt(subkey, subkey)
	double(subkey) // K1
	for len(message) > size {
		for i := range state {
			state[i] ^= message[i]
		}
		c.Encrypt(state, state)
		message = message[size:]
	}
	for i, b := range message {
		state[i] ^= b
	}
	if len(message) < size {
		state[len(message)] ^= 0x80
		double(subkey) // K2
	}
	for i := range state {
		state[i] ^= subkey[i]
	}
	c.Encrypt(state, state)
	return state
}

// double multiplies by x in the field of the block's size (SP 800-38B 6.1), without a branch on
// the secret.
func double(block []byte) {
	reduce := byte(0x87)
	if len(block) == des.BlockSize {
		reduce = 0x1B
	}
	first := block[0]
	for i := range len(block) - 1 {
		block[i] = block[i]<<1 | block[i+1]>>7
	}
	block[len(block)-1] = block[len(block)-1]<<1 ^ -(first>>7)&reduce
}

// CheckValue returns the check value of a key, 3 bytes: of TDES what zeros are enciphered to, of
// AES the CMAC of a block of zeros (X9.24-1:2017 annex A). The errors are those of [Cipher].
func CheckValue(algorithm byte, key []byte) ([]byte, error) {
	c, err := Cipher(algorithm, key)
	if err != nil {
		return nil, err
	}
	block := make([]byte, c.BlockSize())
	if algorithm == 'T' {
		c.Encrypt(block, block)
	} else {
		block = CMAC(c, block)
	}
	return block[:3], nil
}
