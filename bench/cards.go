package main

import (
	"strconv"
	"sync/atomic"

	"keyd/dukpt/software"
)

// cards are the accounts whose PINs a load carries. They are walked through evenly: in
// life too hardly any card comes twice within a minute, and limits per account are none
// of what is measured here.
type cards struct {
	number uint64
	drawn  atomic.Uint64
}

// stride spreads neighbouring draws; a prime, so that every card has its turn.
const stride = 15_485_863

func (c *cards) draw() uint32 { return uint32(c.drawn.Add(1) * stride % c.number) }

// pan is the 16-digit PAN of a card, the last a Luhn digit.
func pan(card uint32) (digits [16]byte) {
	copy(digits[:], "459999")
	for i, rest := 14, card; i >= 6; i-- {
		digits[i] = '0' + byte(rest%10)
		rest /= 10
	}
	sum := 0
	for i, d := range digits[:15] {
		n := int(d - '0')
		if i%2 == 0 {
			if n *= 2; n > 9 {
				n -= 9
			}
		}
		sum += n
	}
	digits[15] = '0' + byte((10-sum%10)%10)
	return digits
}

// pin is a card's PIN, four ASCII digits. It follows from the card, so that an answer can
// be checked without keeping what was asked.
func pin(card uint32) (digits [4]byte) {
	mixed := (uint64(card) + 1) * 0x9E3779B97F4A7C15 >> 40
	for i := range digits {
		digits[i] = '0' + byte(mixed%10)
		mixed /= 10
	}
	return digits
}

// pvv is a card's Visa PIN verification value under key index 1: the PVK enciphers the 11
// rightmost account digits, the index and the PIN; the result's decimal digits are taken
// first, then its others less ten.
func pvv(pvk *software.TDESKey, account [16]byte, digits [4]byte) (value [4]byte) {
	nibble := append(append(append(make([]byte, 0, 16), account[4:15]...), '1'), digits[:]...)
	var block [8]byte
	for i := range block {
		block[i] = (nibble[2*i]-'0')<<4 | (nibble[2*i+1] - '0')
	}
	pvk.Encrypt(block[:], block[:])
	found := 0
	for _, offset := range []byte{0, 10} {
		for i := 0; i < 16 && found < 4; i++ {
			n := block[i/2] >> (4 * (1 - i%2)) & 0xF
			if n >= offset && n-offset < 10 && (offset == 0) == (n < 10) {
				value[found] = '0' + n - offset
				found++
			}
		}
	}
	return value
}

// another returns a PVV that is not the given one.
func another(value [4]byte) [4]byte {
	n, _ := strconv.Atoi(string(value[:])) // four digits
	return [4]byte([]byte(strconv.Itoa(10_000 + (n+1)%10_000)[1:]))
}
