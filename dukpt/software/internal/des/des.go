// Package des is the DES block cipher of FIPS 46-3, and its triple use of NIST SP 800-67, made for deriving
// keys: a key schedule costs less than a block, and nothing is allocated.
//
// Only package software uses it. Blocks are uint64, leftmost bit first. Schedules hold key material; who
// declares one wipes it.
//
// It looks values up in tables that depend on the key, so it does not resist somebody who shares the
// processor's cache with it; no more does crypto/des.
package des

import (
	"encoding/binary"
	"math/bits"
)

// Schedule holds the sixteen round keys of a single DES key. A round key has its six bits per S-box in the
// low bits of a byte each: boxes 1, 3, 5, 7 in the upper word, 2, 4, 6, 8 in the lower.
type Schedule [16]uint64

// Expand fills the schedule with the round keys of a 64-bit key. Parity bits are ignored.
func (s *Schedule) Expand(key uint64) {
	c, d := permutedChoice1(key)
	c, d = c<<28|c, d<<28|d
	// Each half doubled: a rotation left by n is a shift right by 28-n.
	s[0] = roundKey(c>>27, d>>27)
	s[1] = roundKey(c>>26, d>>26)
	s[2] = roundKey(c>>24, d>>24)
	s[3] = roundKey(c>>22, d>>22)
	s[4] = roundKey(c>>20, d>>20)
	s[5] = roundKey(c>>18, d>>18)
	s[6] = roundKey(c>>16, d>>16)
	s[7] = roundKey(c>>14, d>>14)
	s[8] = roundKey(c>>13, d>>13)
	s[9] = roundKey(c>>11, d>>11)
	s[10] = roundKey(c>>9, d>>9)
	s[11] = roundKey(c>>7, d>>7)
	s[12] = roundKey(c>>5, d>>5)
	s[13] = roundKey(c>>3, d>>3)
	s[14] = roundKey(c>>1, d>>1)
	s[15] = roundKey(c, d)
}

// ExpandBytes is Expand for the 8 bytes at the start of key.
func (s *Schedule) ExpandBytes(key []byte) { s.Expand(binary.BigEndian.Uint64(key)) }

// Encrypt enciphers one block with single DES.
func (s *Schedule) Encrypt(block uint64) uint64 {
	l, r := initialPermutation(block)
	l, r = s.rounds(l, r)
	return finalPermutation(l, r)
}

// Decrypt deciphers one block with single DES.
func (s *Schedule) Decrypt(block uint64) uint64 {
	l, r := initialPermutation(block)
	l, r = s.reverseRounds(l, r)
	return finalPermutation(l, r)
}

// EncryptPair enciphers a under the schedule's key, and b under the exclusive or of that key and the mask's.
// The key schedule is linear, so the second key needs none of its own, and the two run side by side.
func (s *Schedule) EncryptPair(mask *Schedule, a, b uint64) (uint64, uint64) {
	la, ra := initialPermutation(a)
	lb, rb := initialPermutation(b)
	for i := 0; i < 16; i += 2 {
		k, m := s[i], s[i]^mask[i]
		la ^= feistel(ra, k)
		lb ^= feistel(rb, m)
		k, m = s[i+1], s[i+1]^mask[i+1]
		ra ^= feistel(la, k)
		rb ^= feistel(lb, m)
	}
	return finalPermutation(ra, la), finalPermutation(rb, lb)
}

// Triple holds the schedules of a two- or three-key TDES key.
type Triple [3]Schedule

// Expand fills the schedules from 16 bytes (key 3 is key 1) or 24 bytes. It reports whether the length was
// one of these; otherwise nothing is changed.
func (t *Triple) Expand(key []byte) bool {
	if len(key) != 16 && len(key) != 24 {
		return false
	}
	t[0].ExpandBytes(key)
	t[1].ExpandBytes(key[8:])
	if len(key) == 24 {
		t[2].ExpandBytes(key[16:])
	} else {
		t[2] = t[0]
	}
	return true
}

// Encrypt enciphers one block: encrypt, decrypt, encrypt.
func (t *Triple) Encrypt(block uint64) uint64 {
	// The permutations between the three cancel each other out.
	l, r := initialPermutation(block)
	l, r = t[0].rounds(l, r)
	l, r = t[1].reverseRounds(l, r)
	l, r = t[2].rounds(l, r)
	return finalPermutation(l, r)
}

// Decrypt deciphers one block.
func (t *Triple) Decrypt(block uint64) uint64 {
	l, r := initialPermutation(block)
	l, r = t[2].reverseRounds(l, r)
	l, r = t[1].rounds(l, r)
	l, r = t[0].reverseRounds(l, r)
	return finalPermutation(l, r)
}

// rounds does the sixteen rounds and the exchange of halves after them.
func (s *Schedule) rounds(l, r uint32) (uint32, uint32) {
	for i := 0; i < 16; i += 2 {
		l ^= feistel(r, s[i])
		r ^= feistel(l, s[i+1])
	}
	return r, l
}

func (s *Schedule) reverseRounds(l, r uint32) (uint32, uint32) {
	for i := 14; i >= 0; i -= 2 {
		l ^= feistel(r, s[i+1])
		r ^= feistel(l, s[i])
	}
	return r, l
}

// feistel is the cipher function on a half that is rotated left by one bit: so rotated, the expanded six bits
// of the even S-boxes are the low bits of its four bytes, and those of the odd ones are after four more
// bits to the right.
func feistel(half uint32, key uint64) uint32 {
	return even(half^uint32(key)) ^ odd(bits.RotateLeft32(half, -4)^uint32(key>>32))
}

func even(x uint32) uint32 {
	return spBox[7][x&63] ^ spBox[5][x>>8&63] ^ spBox[3][x>>16&63] ^ spBox[1][x>>24&63]
}

func odd(x uint32) uint32 {
	return spBox[6][x&63] ^ spBox[4][x>>8&63] ^ spBox[2][x>>16&63] ^ spBox[0][x>>24&63]
}

// roundKey applies permuted choice 2 to the low 28 bits of c and d.
func roundKey(c, d uint64) uint64 {
	return roundKeyHalf(0, c) | roundKeyHalf(4, d)
}

func roundKeyHalf(t int, x uint64) uint64 {
	return choice[t][x&127] | choice[t+1][x>>7&127] | choice[t+2][x>>14&127] | choice[t+3][x>>21&127]
}

// permutedChoice1 splits the key into the halves C and D of 28 bits. Permuted choice 1 reads the columns of
// the key's 8 by 8 bits from the last byte up: a transposition.
func permutedChoice1(key uint64) (c, d uint64) {
	x := bits.ReverseBytes64(key)
	t := (x ^ x>>7) & 0x00AA00AA00AA00AA
	x ^= t ^ t<<7
	t = (x ^ x>>14) & 0x0000CCCC0000CCCC
	x ^= t ^ t<<14
	t = (x ^ x>>28) & 0x00000000F0F0F0F0
	x ^= t ^ t<<28
	// x has columns 1 to 8 from the left; the eighth is parity, the fourth is shared.
	c = x >> 36
	d = x>>8&0xFF<<20 | x>>16&0xFF<<12 | x>>24&0xFF<<4 | x>>32&0xF
	return c, d
}

// initialPermutation returns both halves after the initial permutation, rotated left by one bit.
func initialPermutation(block uint64) (l, r uint32) {
	l, r = uint32(block>>32), uint32(block)
	l, r = exchange(l, r, 4, 0x0F0F0F0F)
	l, r = exchange(l, r, 16, 0x0000FFFF)
	r, l = exchange(r, l, 2, 0x33333333)
	r, l = exchange(r, l, 8, 0x00FF00FF)
	l, r = exchange(l, r, 1, 0x55555555)
	return bits.RotateLeft32(l, 1), bits.RotateLeft32(r, 1)
}

// finalPermutation undoes initialPermutation.
func finalPermutation(l, r uint32) uint64 {
	l, r = bits.RotateLeft32(l, -1), bits.RotateLeft32(r, -1)
	l, r = exchange(l, r, 1, 0x55555555)
	r, l = exchange(r, l, 8, 0x00FF00FF)
	r, l = exchange(r, l, 2, 0x33333333)
	l, r = exchange(l, r, 16, 0x0000FFFF)
	l, r = exchange(l, r, 4, 0x0F0F0F0F)
	return uint64(l)<<32 | uint64(r)
}

// exchange swaps the bits of a>>n that mask selects with those of b.
func exchange(a, b uint32, n int, mask uint32) (uint32, uint32) {
	t := (a>>(n&31) ^ b) & mask
	return a ^ t<<(n&31), b ^ t
}
