package officer

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
)

// CheckValue returns the check value of a key or of a component: the first three bytes
// of a value made with it, as six upper-case hex digits.
//
//	algorithm  bytes       value
//	T  TDES    16, 24      eight zero bytes enciphered
//	A  AES     16, 24, 32  AES-CMAC of sixteen zero bytes (X9.24-1:2017 Annex A)
//	H  HMAC    16 to 64    HMAC-SHA-256 of the empty message
//
// A component is treated as a key of its length, whatever its parity: DES never looks at
// the parity bits.
func CheckValue(algorithm string, value []byte) (string, error) {
	var check [3]byte
	var err error
	erased(func() {
		switch algorithm {
		case "T":
			err = checkTDES(&check, value)
		case "A":
			err = checkAES(&check, value)
		case "H":
			err = checkHMAC(&check, value)
		default:
			err = fmt.Errorf("no check value is known for algorithm %q: it is T, A or H", algorithm)
		}
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%X", check), nil
}

func checkTDES(check *[3]byte, value []byte) error {
	var key [24]byte
	defer clear(key[:])
	switch copy(key[:], value); len(value) {
	case 16:
		copy(key[16:], value[:8])
	case 24:
	default:
		return fmt.Errorf("a TDES key or component has 16 or 24 bytes, not %d", len(value))
	}
	c, err := des.NewTripleDESCipher(key[:])
	if err != nil {
		return errors.New("TDES is not available in this process") // GODEBUG=fips140=only
	}
	var block [des.BlockSize]byte
	c.Encrypt(block[:], block[:])
	copy(check[:], block[:])
	return nil
}

func checkAES(check *[3]byte, value []byte) error {
	c, err := aes.NewCipher(value)
	if err != nil {
		return fmt.Errorf("an AES key or component has 16, 24 or 32 bytes, not %d", len(value))
	}
	mac := cmac(c, make([]byte, aes.BlockSize))
	copy(check[:], mac[:])
	return nil
}

func checkHMAC(check *[3]byte, value []byte) error {
	if len(value) < 16 || len(value) > 64 {
		return fmt.Errorf("an HMAC key or component has 16 to 64 bytes, not %d", len(value))
	}
	copy(check[:], hmac.New(sha256.New, value).Sum(nil))
	return nil
}

// cmac is CMAC with a cipher of 16-byte blocks (NIST SP 800-38B §6.2).
func cmac(c cipher.Block, message []byte) [aes.BlockSize]byte {
	const size = aes.BlockSize
	var subkey, state [size]byte
	c.Encrypt(subkey[:], subkey[:])
	double(&subkey) // K1
	for len(message) > size {
		for i := range state {
			state[i] ^= message[i]
		}
		c.Encrypt(state[:], state[:])
		message = message[size:]
	}
	for i, b := range message {
		state[i] ^= b
	}
	if len(message) < size {
		state[len(message)] ^= 0x80
		double(&subkey) // K2
	}
	for i := range state {
		state[i] ^= subkey[i]
	}
	c.Encrypt(state[:], state[:])
	return state
}

// double multiplies by x in GF(2^128), without a branch on the secret (§6.1).
func double(block *[aes.BlockSize]byte) {
	carry := block[0] >> 7
	for i := range len(block) - 1 {
		block[i] = block[i]<<1 | block[i+1]>>7
	}
	block[len(block)-1] = block[len(block)-1]<<1 ^ 0x87*carry
}
