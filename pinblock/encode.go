package pinblock

import (
	"crypto/subtle"
	"math/bits"
)

// RandomSize is the number of random bytes that a block of format 1, 3 or 4 takes.
const RandomSize = 8

// Encode encodes a clear block of any implemented format; in format 4 the PIN field
// that goes into the first encipherment. pan is not used in formats 1 and 4, random
// not in format 0. The error is [ErrFormat], or as for the function of the format; what
// there is of block is then zero. Terminal and module.
func Encode(block []byte, f Format, pin *PIN, pan PAN, random *[RandomSize]byte) error {
	switch f {
	case ISO0:
		return EncodeISO0(block, pin, pan)
	case ISO1:
		return EncodeISO1(block, pin, random)
	case ISO3:
		return EncodeISO3(block, pin, pan, random)
	case ISO4:
		return EncodeISO4(block, pin, random)
	default:
		clear(block)
		return ErrFormat
	}
}

// EncodeISO0 writes the 8 bytes of a clear block of format 0 (ISO 9564-1:2017 §9.3.2)
// to block. The error is [ErrPIN] for an empty PIN and [ErrBlock] for a block of
// another size; block is then zero. Terminal and module.
func EncodeISO0(block []byte, pin *PIN, pan PAN) error {
	if len(block) != BlockSize {
		clear(block)
		return ErrBlock
	}
	return encode(block, pin, pan.Field(), 0, constantFill(0xF))
}

// EncodeISO1 writes the 8 bytes of a clear block of format 1 (ISO 9564-1:2017 §9.3.3)
// to block. The transaction field is taken from random, 8 fresh random bytes that are
// used for one block only. Errors are those of [EncodeISO0]. Terminal and module.
func EncodeISO1(block []byte, pin *PIN, random *[RandomSize]byte) error {
	if len(block) != BlockSize {
		clear(block)
		return ErrBlock
	}
	return encode(block, pin, [BlockSize]byte{}, 1, nibbleFill(random))
}

// EncodeISO3 writes the 8 bytes of a clear block of format 3 (ISO 9564-1:2017 §9.3.5)
// to block. The fill digits, A to F, follow from random, 8 fresh random bytes that are
// used for one block only. Errors are those of [EncodeISO0]. Terminal and module.
func EncodeISO3(block []byte, pin *PIN, pan PAN, random *[RandomSize]byte) error {
	if len(block) != BlockSize {
		clear(block)
		return ErrBlock
	}
	return encode(block, pin, pan.Field(), 3, letterFill(random))
}

// EncodeISO4 writes the 16-byte clear PIN field of format 4 (ISO 9564-1:2017
// §9.4.2.2.2) to field. Its second half is random: 8 fresh random bytes that are used for
// one block only. Errors are those of [EncodeISO0]. Terminal and module.
func EncodeISO4(field []byte, pin *PIN, random *[RandomSize]byte) error {
	if len(field) != Block4Size {
		clear(field)
		return ErrBlock
	}
	if err := encode(field[:BlockSize], pin, [BlockSize]byte{}, 4, constantFill(0xA)); err != nil {
		clear(field)
		return err
	}
	copy(field[BlockSize:], random[:])
	return nil
}

// Frame returns the PIN field of format 0, 3 or 4 for a PIN of a length in digits, with
// zeros in the PIN's places: 8 bytes, and 16 in format 4, whose other half is random. It is for
// a PIN that stays in a token, where the digits come to it. The error is [ErrFormat], or
// [ErrPIN] for a length that no PIN has. Module.
func Frame(f Format, length int, random *[RandomSize]byte) (field [Block4Size]byte, err error) {
	if length < MinPINLen || length > MaxPINLen {
		return field, ErrPIN
	}
	var fill [digitsInField]byte
	switch f {
	case ISO0:
		fill = constantFill(0xF)
	case ISO3:
		fill = letterFill(random)
	case ISO4:
		fill = constantFill(0xA)
		copy(field[BlockSize:], random[:])
	default:
		return field, ErrFormat
	}
	field[0] = byte(f)<<4 | byte(length)
	for i := length; i < digitsInField; i++ {
		field[1+i/2] |= fill[i] << (4 * (1 - i%2))
	}
	return field, nil
}

// encode writes control digit, length and 14 digits, XORed with mask, to the 8 bytes of
// block.
func encode(block []byte, pin *PIN, mask [BlockSize]byte, control byte, fill [digitsInField]byte) error {
	length := pin.b[0]
	ok := subtle.ConstantTimeLessOrEq(MinPINLen, int(length)) & subtle.ConstantTimeLessOrEq(int(length), MaxPINLen)
	if ok != 1 {
		clear(block)
		return ErrPIN
	}
	copy(block, mask[:])
	block[0] ^= control<<4 | length
	for i, d := range fill {
		if i < MaxPINLen { // known positions, not the secret length
			isPIN := subtle.ConstantTimeLessOrEq(i+1, int(length))
			d = byte(subtle.ConstantTimeSelect(isPIN, int(pin.b[1+i]&0xF), int(d)))
		}
		block[1+i/2] ^= d << (4 * (1 - i%2))
	}
	return nil
}

func constantFill(v byte) (fill [digitsInField]byte) {
	for i := range fill {
		fill[i] = v
	}
	return fill
}

// nibbleFill gives each of the 10 positions that can be fill a nibble of random.
func nibbleFill(random *[RandomSize]byte) (fill [digitsInField]byte) {
	for i := MinPINLen; i < digitsInField; i++ {
		r := i - MinPINLen
		fill[i] = random[r/2] >> (4 * (1 - r%2)) & 0xF
	}
	return fill
}

// letterFill gives each of the 10 positions that can be fill a digit from A to F. It
// reads random as a 64-bit fraction and takes its first ten digits to base 6: no
// rejected draws, and each of the 6^10 outcomes is within 2^-38 of its share.
func letterFill(random *[RandomSize]byte) (fill [digitsInField]byte) {
	var fraction uint64
	for _, b := range random {
		fraction = fraction<<8 | uint64(b)
	}
	for i := MinPINLen; i < digitsInField; i++ {
		var digit uint64
		digit, fraction = bits.Mul64(fraction, 6)
		fill[i] = 0xA + byte(digit)
	}
	return fill
}
