package pinobjects

import (
	"crypto/aes"
	"crypto/rand"

	"github.com/miekg/pkcs11"

	"keyd/hsm/module/internal/pinverify"
	"keyd/hsm/module/internal/token"
	"keyd/pinblock"
)

// TSP enciphers the transformed security parameter of Visa's method (package pinverify) of a PIN under a
// verification key.
func (t *Tools) TSP(s *token.Session, pin *PIN, keyIndex int, pvk token.Object, out *[pinverify.TSPSize]byte) error {
	if err := pin.unmask(s); err != nil {
		return err
	}
	public, err := pinverify.TSPWithout(pin.pan, keyIndex)
	if err != nil {
		return err
	}
	digits, err := s.Extract(pin.plain, 4*firstDigit, pinverify.TSPSize-len(public))
	if err != nil {
		return err
	}
	tsp, err := s.Prepend(public[:], digits)
	if err != nil {
		return err
	}
	return s.WrapSecret(pkcs11.CKM_DES3_ECB, pvk, tsp, out[:])
}

// Decimal reports whether all digits of a PIN are decimal. It learns nothing else of them.
func (t *Tools) Decimal(s *token.Session, pin *PIN) (bool, error) {
	tools, err := t.of(s)
	if err != nil {
		return false, err
	}
	if err := pin.unmask(s); err != nil {
		return false, err
	}
	ok := true
	for i := 0; i < pin.Length; i += 2 {
		pair, err := s.Extract(pin.plain, 4*(firstDigit+i), 1)
		if err != nil {
			return false, err
		}
		of, err := split(s, pair)
		if err != nil {
			return false, err
		}
		for side := range sides {
			if i+int(side) == pin.Length {
				break
			}
			is, err := tools.decimal(s, of, side)
			if err != nil {
				return false, err
			}
			ok = is && ok
		}
	}
	return ok, nil
}

// side is one of the two digits of a byte.
type side int

const sides side = 2

// parted is a byte with zeros on both sides, as many as an AES key has.
type parted token.Object

func split(s *token.Session, pair token.Object) (parted, error) {
	var zeros [aes.BlockSize]byte
	right, err := s.Append(pair, zeros[:])
	if err != nil {
		return 0, err
	}
	both, err := s.Prepend(zeros[:], right)
	return parted(both), err
}

// tests are what enciphered under a key that is a digit gives a first byte of which the last bit says
// whether the digit is decimal: under 31 zeros and the digit, and under the digit and 31 zeros. AES is one-way
// in its key, and all other bits stay in the token. That it is so a test shows, and how they were found.
// Who sees the calls does not learn the bit: in format 0 another account changes the digits, so that
// it would tell which they are.
var tests = [sides][aes.BlockSize]byte{{14: 0x69, 15: 0x37}, {14: 0x96, 15: 0x96}}

// decimal reports whether one digit of a byte is from 0 to 9.
func (t *tools) decimal(s *token.Session, of parted, which side) (bool, error) {
	bit := 4 // of both: the key ends with the first digit
	if which == 1 {
		bit = 8*aes.BlockSize + 4 // it begins with the second
	}
	key, err := s.ExtractAES(token.Object(of), bit, aes.BlockSize)
	if err != nil {
		return false, err
	}
	image, err := s.Image(key, tests[which][:], 1)
	if err != nil {
		return false, err
	}
	var behind, expected [aes.BlockSize]byte // new each time, so that no two looks are alike
	if _, err := rand.Read(behind[:]); err != nil {
		return false, err
	}
	if image, err = s.Append(image, behind[:]); err != nil {
		return false, err
	}
	last, err := s.Extract(image, 7, aes.BlockSize) // the bit, and all of behind but its last
	if err != nil {
		return false, err
	}
	seen, err := look(s, t.transit, last)
	bits := byte(1)
	for i, b := range behind {
		expected[i], bits = bits<<7|b>>1, b&1
	}
	return t.is(seen, expected[:]), err
}

// Random makes a PIN, each digit as likely as any other: of random bytes in the token those of which both
// digits are decimal.
func (t *Tools) Random(s *token.Session, length int, pan pinblock.PAN) (PIN, error) {
	tools, err := t.of(s)
	if err != nil {
		return PIN{}, err
	}
	pin := PIN{Length: length, pan: pan}
	if length < pinblock.MinPINLen || length > pinblock.MaxPINLen {
		return PIN{}, pinblock.ErrPIN
	}
	const stock = 32
	var random token.Object
	for have, used := 0, stock; have < length; used++ {
		if used == stock {
			if random, err = s.RandomSecret(stock); err != nil {
				return PIN{}, err
			}
			used = 0
		}
		pair, err := s.Extract(random, 8*used, 1)
		if err != nil {
			return PIN{}, err
		}
		of, err := split(s, pair)
		if err != nil {
			return PIN{}, err
		}
		ok := true
		for which := side(0); ok && which < sides && have+int(which) < length; which++ {
			if ok, err = tools.decimal(s, of, which); err != nil {
				return PIN{}, err
			}
		}
		switch {
		case !ok:
			continue
		case have == 0:
			pin.plain, err = s.Prepend([]byte{byte(length)}, pair)
		default:
			pin.plain, err = s.Join(pin.plain, pair)
		}
		if err != nil {
			return PIN{}, err
		}
		have += 2
	}
	return pin, nil
}
