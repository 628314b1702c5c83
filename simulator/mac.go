package simulator

import (
	"crypto/des"
	"errors"

	keydv1 "keyd/api/keyd/v1"
	blocks "keyd/keyblock/software"
)

// mac authenticates a text: CMAC with AES or TDES (NIST SP 800-38B), or algorithm 1 or 3 of
// ISO/IEC 9797-1 with TDES, padding method 1, whole. The algorithm of a CMAC's key is A unless
// it is given.
func mac(algorithm keydv1.MacKey_Algorithm, key, text []byte, of ...byte) ([]byte, error) {
	if algorithm == keydv1.MacKey_CMAC {
		name := byte('A')
		if len(of) > 0 {
			name = of[0]
		}
		c, err := blocks.Cipher(name, key)
		if err != nil {
			return nil, err
		}
		return blocks.CMAC(c, text), nil
	}
	whole, err := blocks.Cipher('T', key)
	if err != nil {
		return nil, err
	}
	padded := make([]byte, max(1, (len(text)+des.BlockSize-1)/des.BlockSize)*des.BlockSize)
	copy(padded, text)
	step := whole
	if algorithm == keydv1.MacKey_ISO9797_ALGORITHM3 {
		if len(key) != 16 {
			return nil, errors.New("algorithm 3 of ISO/IEC 9797-1 takes a TDES key of 16 bytes")
		}
		if step, err = des.NewCipher(key[:8]); err != nil {
			return nil, err
		}
	}
	state := make([]byte, des.BlockSize)
	for at := 0; at < len(padded); at += des.BlockSize {
		for i := range state {
			state[i] ^= padded[at+i]
		}
		if last := at+des.BlockSize == len(padded); last && algorithm == keydv1.MacKey_ISO9797_ALGORITHM3 {
			step = whole // the last block under both halves: encrypt, decrypt, encrypt
		}
		step.Encrypt(state, state)
	}
	return state, nil
}
