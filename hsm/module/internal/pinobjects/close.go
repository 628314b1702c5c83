package pinobjects

import (
	"crypto/subtle"

	"keyd/hsm/module/internal/token"
	"keyd/pinblock"
)

// Close makes a block of format 0, 3 or 4 of a PIN and enciphers it to out, which has the format's size.
// random is new for each block. The account is the one that the PIN was opened with.
func (t *Tools) Close(s *token.Session, pin *PIN, f pinblock.Format, key Key, out []byte, random *[pinblock.RandomSize]byte) error {
	field, err := pin.as(s, f, random)
	if err != nil {
		return err
	}
	if err := s.WrapSecret(key.Mechanism, key.Object, field, out); err != nil || f != pinblock.ISO4 {
		return err
	}
	if err := pin.pan.XORField4(out); err != nil {
		return err
	}
	return s.Encrypt(key.Mechanism, key.Object, out, out)
}

// as returns the PIN as the clear block of a format, which is an object.
func (p *PIN) as(s *token.Session, f pinblock.Format, random *[pinblock.RandomSize]byte) (token.Object, error) {
	frame, err := pinblock.Frame(f, p.Length, random)
	if err != nil {
		return 0, err
	}
	size, account := f.Size(), p.pan.Field()
	from, combine := p.masked, f == pinblock.ISO4
	if from == 0 || combine && p.plain != 0 {
		from, combine = p.plain, f != pinblock.ISO4
	}
	if f != pinblock.ISO4 {
		subtle.XORBytes(frame[:], frame[:], account[:]) // as it stands in the block
	}
	digits := make([]byte, size) // what the PIN's digits are combined with
	if combine {
		for place := firstDigit; place < firstDigit+p.Length; place++ {
			put(digits, place, at(account[:], place))
		}
	}
	if p.frame == ([pinblock.Block4Size]byte{}) {
		return p.refill(s, from, frame[:size], digits)
	}
	// Everything but the PIN's digits is known, so that it changes by the difference.
	have := p.frame
	if from == p.masked {
		subtle.XORBytes(have[:], have[:], account[:])
	}
	change := make([]byte, size)
	for i := range change {
		change[i] = have[i] ^ frame[i]
	}
	for place := firstDigit; place < firstDigit+p.Length; place++ {
		put(change, place, at(digits, place))
	}
	if p.wide || size == pinblock.BlockSize {
		if !p.wide && subtle.ConstantTimeCompare(change, make([]byte, size)) == 1 {
			return from, nil
		}
		return s.XOR(from, change) // of 16 bytes it leaves as many as change has
	}
	field, err := s.XOR(from, change[:pinblock.BlockSize])
	if err != nil {
		return 0, err
	}
	return s.Append(field, frame[pinblock.BlockSize:])
}

// refill takes the PIN's digits out of their field and puts them into another frame, whose digits' places
// are not looked at; at the end the digits are combined with those given.
func (p *PIN) refill(s *token.Session, from token.Object, frame, digits []byte) (field token.Object, err error) {
	end := firstDigit + p.Length
	if p.Length%2 == 0 {
		if field, err = s.Extract(from, 0, end/2); err != nil {
			return 0, err
		}
		if field, err = s.Append(field, frame[end/2:]); err != nil {
			return 0, err
		}
		put(digits, 0, p.first^at(frame, 0))
	} else {
		// From the length on it is whole bytes. With what comes behind and a byte before, of which the
		// second half is the control field, the field is there from the second half of the first byte on.
		if field, err = s.Extract(from, 4, end/2); err != nil {
			return 0, err
		}
		behind := make([]byte, len(frame)-end/2) // and half a byte that falls away
		for place := end; place < 2*len(frame); place++ {
			put(behind, place-end, at(frame, place))
		}
		if field, err = s.Append(field, behind); err != nil {
			return 0, err
		}
		if field, err = s.Prepend([]byte{at(frame, 0)}, field); err != nil {
			return 0, err
		}
		if field, err = s.Extract(field, 4, len(frame)); err != nil {
			return 0, err
		}
	}
	if subtle.ConstantTimeCompare(digits, make([]byte, len(digits))) == 1 {
		return field, nil
	}
	return s.XOR(field, digits)
}
