// Package decimal makes decimal digits of an enciphered block, as Visa's PIN verification
// values and card verification values are made. The time that it takes does not depend on
// the block.
package decimal

import "crypto/subtle"

// Put writes digits to dst as ASCII, as many as it has room for, at most 16: the first
// digits from 0 to 9 of the block from the left and, where there are fewer, the first
// digits from A to F less 10.
func Put(dst []byte, block *[8]byte) {
	clear(dst)
	found := 0
	for pass := range 2 {
		for i := range 2 * len(block) {
			d := block[i/2] >> (4 * (1 - i%2)) & 0xF
			isDecimal := subtle.ConstantTimeLessOrEq(int(d), 9)
			take := subtle.ConstantTimeEq(int32(isDecimal), int32(1-pass))
			v := '0' + d - byte(10*pass)
			for at := range dst {
				here := take & subtle.ConstantTimeEq(int32(at), int32(found))
				dst[at] |= v & byte(-here)
			}
			found += take
		}
	}
}
