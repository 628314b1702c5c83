package pinblock

import (
	"crypto/subtle"
	"errors"
)

// ErrBlock is the one error for a malformed block. It says nothing about the fault, and
// the service answers every one of them alike.
var ErrBlock = errors.New("malformed PIN block")

// digitsInField is the number of digits after control digit and length in the first
// 8 bytes of every format.
const digitsInField = 14

// Decode decodes a clear block of any implemented format: in format 4 the PIN field
// that the second decipherment leaves; pan is not used in formats 1 and 4 (in format
// 4 it went in between the decipherments, by [PAN.XORField4]). The error is
// [ErrFormat] or [ErrBlock], and pin is then empty. Module; block is not changed.
func Decode(pin *PIN, f Format, block []byte, pan PAN) error {
	switch f {
	case ISO0:
		return DecodeISO0(pin, block, pan)
	case ISO1:
		return DecodeISO1(pin, block)
	case ISO3:
		return DecodeISO3(pin, block, pan)
	case ISO4:
		return DecodeISO4(pin, block)
	default:
		pin.Destroy()
		return ErrFormat
	}
}

// DecodeISO0 decodes the 8 bytes of a clear block of format 0 (ISO 9564-1:2017
// §9.3.2). The error is [ErrBlock], and pin is then empty. Module.
func DecodeISO0(pin *PIN, block []byte, pan PAN) error {
	if len(block) != BlockSize {
		pin.Destroy()
		return ErrBlock
	}
	return decode(pin, block, pan.Field(), 0, 0xF, 0xF)
}

// DecodeISO1 decodes the 8 bytes of a clear block of format 1 (ISO 9564-1:2017
// §9.3.3). Its transaction field may have any value. The error is [ErrBlock], and pin
// is then empty. Module.
func DecodeISO1(pin *PIN, block []byte) error {
	if len(block) != BlockSize {
		pin.Destroy()
		return ErrBlock
	}
	return decode(pin, block, [BlockSize]byte{}, 1, 0, 0xF)
}

// DecodeISO3 decodes the 8 bytes of a clear block of format 3 (ISO 9564-1:2017
// §9.3.5). Each fill digit may be any from A to F. The error is [ErrBlock], and pin is
// then empty. Module.
func DecodeISO3(pin *PIN, block []byte, pan PAN) error {
	if len(block) != BlockSize {
		pin.Destroy()
		return ErrBlock
	}
	return decode(pin, block, pan.Field(), 3, 0xA, 0xF)
}

// DecodeISO4 decodes the 16-byte clear PIN field of format 4 (ISO 9564-1:2017
// §9.4.2.2.2). Its random half may have any value. A wrong PAN shows in the PIN field,
// which the second decipherment then leaves random. The error is [ErrBlock], and pin
// is then empty. Module.
func DecodeISO4(pin *PIN, field []byte) error {
	if len(field) != Block4Size {
		pin.Destroy()
		return ErrBlock
	}
	return decode(pin, field[:BlockSize], [BlockSize]byte{}, 4, 0xA, 0xA)
}

// decode reads control digit, length and 14 digits from block XOR mask, which has 8
// bytes. Every fault is gathered before the first decision, and what is written to pin
// is masked by the outcome, so that nothing shows which fault it was, or where.
func decode(pin *PIN, block []byte, mask [BlockSize]byte, control, fillMin, fillMax byte) error {
	first := block[0] ^ mask[0]
	length := first & 0xF
	ok := subtle.ConstantTimeByteEq(first>>4, control)
	ok &= subtle.ConstantTimeLessOrEq(MinPINLen, int(length))
	ok &= subtle.ConstantTimeLessOrEq(int(length), MaxPINLen)
	for i := range digitsInField {
		d := nibble(block, mask, i)
		isPIN := subtle.ConstantTimeLessOrEq(i+1, int(length))
		isFill := subtle.ConstantTimeLessOrEq(int(fillMin), int(d))
		isFill &= subtle.ConstantTimeLessOrEq(int(d), int(fillMax))
		ok &= isPIN | isFill
	}
	keep := byte(-ok) // all ones, or zero
	pin.Destroy()
	pin.b[0] = length & keep
	for i := range MaxPINLen {
		isPIN := byte(-subtle.ConstantTimeLessOrEq(i+1, int(length)))
		pin.b[1+i] = nibble(block, mask, i) & isPIN & keep
	}
	if ok != 1 {
		return ErrBlock
	}
	return nil
}

// nibble returns the digit at i after control digit and length.
func nibble(block []byte, mask [BlockSize]byte, i int) byte {
	at := 1 + i/2
	return (block[at] ^ mask[at]) >> (4 * (1 - i%2)) & 0xF
}
