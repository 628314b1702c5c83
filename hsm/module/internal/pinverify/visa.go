package pinverify

import (
	"crypto/subtle"
	"errors"

	"keyd/hsm/module/internal/decimal"
	"keyd/pinblock"
)

// Sizes in bytes.
const (
	TSPSize = 8 // transformed security parameter, clear and enciphered
	PVVSize = 4 // PIN verification value, ASCII digits
)

// Errors for malformed input of the Visa method.
var (
	ErrKeyIndex = errors.New("PVV key index must be from 0 to 9")
	ErrPVV      = errors.New("PVV must have 4 decimal digits")
)

// PutTSP writes Visa's transformed security parameter to dst: the rightmost 11 PAN
// digits before the check digit, padded with zeros on the left, the index of the key
// (PVKI, 0 to 9), and the leftmost 4 PIN digits. It is clear PIN data. A PIN that
// cannot verify is written all the same; [VerifyPVV] says no to it. The error is
// [ErrKeyIndex], and dst is then zero.
func PutTSP(dst *[TSPSize]byte, pan pinblock.PAN, keyIndex int, pin *pinblock.PIN) error {
	clear(dst[:])
	public, err := TSPWithout(pan, keyIndex)
	if err != nil {
		return err
	}
	copy(dst[:], public[:])
	dst[6] = pin.Digit(0)<<4 | pin.Digit(1)
	dst[7] = pin.Digit(2)<<4 | pin.Digit(3)
	return nil
}

// TSPWithout returns what stands before the PIN digits in a transformed security parameter,
// which is public. The error is [ErrKeyIndex].
func TSPWithout(pan pinblock.PAN, keyIndex int) (public [TSPSize - 2]byte, err error) {
	if keyIndex < 0 || keyIndex > 9 {
		return public, ErrKeyIndex
	}
	var digits [12]byte
	pan.Account(digits[:11])
	digits[11] = byte(keyIndex)
	for i := range public {
		public[i] = digits[2*i]<<4 | digits[2*i+1]
	}
	return public, nil
}

// PutPVV writes the PIN verification value that follows from an enciphered TSP to dst,
// as 4 ASCII digits: the first four digits from 0 to 9 from the left and, where there
// are fewer, the first digits from A to F less 10.
func PutPVV(dst *[PVVSize]byte, enciphered *[TSPSize]byte) {
	decimal.Put(dst[:], enciphered)
}

// VerifyPVV reports whether pvv, which [PutPVV] wrote for that PIN, is the expected one
// of 4 ASCII digits. It is false for an empty PIN and for one with a digit above 9,
// whether or not that digit takes part. The error is [ErrPVV] for a malformed expected
// value.
func VerifyPVV(pvv *[PVVSize]byte, pin *pinblock.PIN, expected string) (bool, error) {
	return VerifyPVVOf(pvv, pin.Decimal(), expected)
}

// VerifyPVVOf is [VerifyPVV] for a PIN that is in the token and of which only this is known:
// whether all its digits are decimal.
func VerifyPVVOf(pvv *[PVVSize]byte, decimal bool, expected string) (bool, error) {
	if len(expected) != PVVSize || !decimalDigits(expected) {
		return false, ErrPVV
	}
	ok := bit(decimal)
	for i := range PVVSize {
		ok &= subtle.ConstantTimeByteEq(pvv[i], expected[i])
	}
	return ok == 1, nil
}
