// Package keyvalue makes values of keys, and says which are no good ones. Clear values are in
// locked memory of the caller's.
//
// Units: sizes are bytes. Only hsm/module uses it.
package keyvalue

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"math/bits"

	"keyd/hsm/module/internal/token"
)

// Random makes a key of two sources, XORed: the token's generator and the kernel's. TDES keys get
// odd parity, and no two parts of them are equal. other is locked memory of the key's size, which is clear afterwards.
func Random(s *token.Session, algorithm string, key, other []byte) error {
	defer clear(other)
	for range 8 {
		if _, err := rand.Read(key); err != nil {
			return err
		}
		if err := s.Random(other); err != nil {
			return err
		}
		subtle.XORBytes(key, key, other)
		if algorithm == "T" {
			OddParity(key)
		}
		if Weakness(algorithm, key) == "" && (algorithm != "T" || len(key) != 24 || !Same("T", key[:8], key[16:])) {
			return nil
		}
	}
	return errors.New("the random generators make weak keys only")
}

// Weakness says why a value is no good key; empty if nothing is wrong with it.
func Weakness(algorithm string, key []byte) string {
	if constant(algorithm, key) {
		return "all of its bytes are the same"
	}
	if algorithm != "T" {
		return ""
	}
	var parts [3][8]byte
	defer clear(parts[:])
	n := len(key) / 8
	for i := range n {
		copy(parts[i][:], key[8*i:])
		OddParity(parts[i][:])
		if weakDES(&parts[i]) {
			return "a part of it is a weak or semi-weak DES key"
		}
	}
	if subtle.ConstantTimeCompare(parts[0][:], parts[1][:]) == 1 || n == 3 && subtle.ConstantTimeCompare(parts[1][:], parts[2][:]) == 1 {
		return "two parts of it are equal, so that it is single DES"
	}
	return ""
}

// Same reports whether two values are one key: parity bits of TDES keys do not count.
func Same(algorithm string, a, b []byte) bool {
	var differ byte
	for i := range a {
		d := a[i] ^ b[i]
		if algorithm == "T" {
			d &^= 1
		}
		differ |= d
	}
	return subtle.ConstantTimeByteEq(differ, 0) == 1
}

// constant reports whether a value is one byte again and again, but for parity: what everybody
// can guess.
func constant(algorithm string, value []byte) bool {
	return Same(algorithm, value[1:], value[:len(value)-1])
}

// weakDES reports whether a DES key with odd parity is one of the 4 weak and 12 semi-weak ones
// (NIST SP 800-67r2 §3.3.2). Each is made of two bytes that take turns in each half, 1F and
// E0 standing for themselves in the left half and for 0E and F1 in the right.
func weakDES(key *[8]byte) bool {
	pattern := func(b byte) bool { return b == 0x01 || b == 0x1F || b == 0xE0 || b == 0xFE }
	right := func(b byte) byte {
		switch b {
		case 0x1F:
			return 0x0E
		case 0xE0:
			return 0xF1
		}
		return b
	}
	a, b := key[0], key[1]
	if !pattern(a) || !pattern(b) {
		return false
	}
	return *key == [8]byte{a, b, a, b, right(a), right(b), right(a), right(b)}
}

// OddParity sets the lowest bit of each byte so that the number of ones is odd.
func OddParity(key []byte) {
	for i, b := range key {
		key[i] = b&^1 | byte(bits.OnesCount8(b&^1)&1^1)
	}
}
