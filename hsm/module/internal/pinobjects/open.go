package pinobjects

import (
	"crypto/subtle"

	"keyd/hsm/module/internal/token"
	"keyd/pinblock"
)

// PIN is a PIN in the token: a PIN field (ISO 9564-1:2017 §9.3.2.2, §9.3.5.2, §9.4.2.2.2) that is an
// object of a session, and what the module knows of it.
type PIN struct {
	Length int // in digits

	plain  token.Object              // the field; 0: not made
	masked token.Object              // the same combined with the account field, as formats 0 and 3 carry it; 0: not made
	wide   bool                      // they have 16 bytes
	first  byte                      // control field
	frame  [pinblock.Block4Size]byte // the field but for the PIN's digits; zero where its fill is not known
	pan    pinblock.PAN
}

// Key is a key that PIN blocks are under.
type Key struct {
	Mechanism uint // CKM_DES3_ECB or CKM_AES_ECB
	Object    token.Object
}

// places of a PIN field.
const (
	firstDigit = 2
	places     = 2 * pinblock.BlockSize
)

// Open opens a PIN block of format 0, 3 or 4. It reports whether the block is one; which of its
// fields is wrong shows in nothing: a malformed block takes as many token calls as any other. One that is good
// takes fewer for some lengths. Where the first byte is wrong nothing else is looked at, since PIN digits
// are everywhere in a block of another format. block and middle, the ciphertext between the two layers of format 4, are
// 16 bytes of the caller's.
func (t *Tools) Open(s *token.Session, f pinblock.Format, key Key, block, middle []byte, pan pinblock.PAN) (PIN, bool, error) {
	tools, err := t.of(s)
	if err != nil {
		return PIN{}, false, err
	}
	pin := PIN{wide: f == pinblock.ISO4, first: byte(f), pan: pan}
	field, mask, whole := &pin.masked, pan.Field(), true
	if f == pinblock.ISO4 {
		if whole, err = tools.outer(s, key, block, middle, pan); err != nil {
			return PIN{}, false, err
		}
		block, field, mask = middle, &pin.plain, [pinblock.BlockSize]byte{}
	}
	if *field, err = s.UnwrapSecret(key.Mechanism, key.Object, block); err != nil {
		return PIN{}, false, err
	}
	length, err := tools.length(s, *field, pin.first)
	if err != nil {
		return PIN{}, false, err
	}
	pin.Length = length
	ok, looks := whole && length != 0, 0
	if f == pinblock.ISO3 {
		if err := pin.unmask(s); err != nil {
			return PIN{}, false, err
		}
	}
	switch {
	case !ok:
	case f == pinblock.ISO3:
		ok, looks, err = tools.letters(s, pin.plain, firstDigit+length)
	default:
		if pin.frame, err = pinblock.Frame(f, length, new([pinblock.RandomSize]byte)); err != nil {
			return PIN{}, false, err
		}
		ok, looks, err = tools.constant(s, *field, firstDigit+length, &pin.frame, &mask)
	}
	for ; err == nil && !ok && looks < mostLooks(f); looks++ {
		err = tools.glance(s, *field)
	}
	return pin, ok, err
}

// outer takes the outer layer of format 4 off: middle becomes the inner layer. Who has overheard the inner layer of
// somebody's block may give that out for a block, whose outer layer then is a PIN field. So the layer comes out under the
// transit key, and where it could be such a field it goes no further: middle is zeros, and what they
// decipher to is refused. It could be one for no reason once in 16 million.
func (t *tools) outer(s *token.Session, key Key, block, middle []byte, pan pinblock.PAN) (bool, error) {
	layer, err := s.UnwrapSecret(key.Mechanism, key.Object, block)
	if err != nil {
		return false, err
	}
	seen, err := look(s, t.transit, layer)
	if err != nil {
		return false, err
	}
	t.cipher.Decrypt(middle, seen[:])
	if isField(middle) {
		clear(middle)
		return false, nil
	}
	return true, pan.XORField4(middle)
}

// isField reports whether a layer of format 4 could be a PIN field: control field, length and fill are, and so are all digits
// where there is little fill to tell by.
func isField(layer []byte) bool {
	control, length, decimal := pinblock.Format(at(layer, 0)), int(at(layer, 1)), true
	if control != pinblock.ISO4 || length < pinblock.MinPINLen || length > pinblock.MaxPINLen {
		return false
	}
	for place := firstDigit; place < places; place++ {
		digit := at(layer, place)
		if place >= firstDigit+length && digit != 0xA {
			return false
		}
		decimal = decimal && (place >= firstDigit+length || digit <= 9)
	}
	return decimal || length <= 8
}

// mostLooks is how many times the fill is looked at, at most.
func mostLooks(f pinblock.Format) int {
	if f == pinblock.ISO3 {
		return 3
	}
	return 2
}

// glance makes the calls of a look, at what it knows.
func (t *tools) glance(s *token.Session, field token.Object) error {
	part, err := s.Extract(field, 0, 1)
	if err == nil {
		_, err = look(s, t.transit, part)
	}
	return err
}

// length returns the PIN's length that the first byte of a field says, or 0 where the byte is none with this
// control field.
func (t *tools) length(s *token.Session, field token.Object, control byte) (int, error) {
	first, err := s.Extract(field, 0, 1)
	if err != nil {
		return 0, err
	}
	seen, err := look(s, t.transit, first)
	if err != nil {
		return 0, err
	}
	found := 0
	for length := pinblock.MinPINLen; length <= pinblock.MaxPINLen; length++ {
		if t.is(seen, []byte{control<<4 | byte(length)}) {
			found = length
		}
	}
	return found, nil
}

// constant reports, after how many looks, whether all digits of a field from a place on are those of a frame, combined with mask.
func (t *tools) constant(s *token.Session, field token.Object, from int, frame *[pinblock.Block4Size]byte, mask *[pinblock.BlockSize]byte) (ok bool, looks int, err error) {
	var expected [pinblock.BlockSize]byte
	subtle.XORBytes(expected[:], frame[:], mask[:])
	ok = true
	for _, w := range windows(from, places-from) {
		part, err := s.Extract(field, 4*w.from, w.digits/2)
		if err != nil {
			return false, looks, err
		}
		seen, err := look(s, t.transit, part)
		if err != nil {
			return false, looks, err
		}
		looks++
		var want [pinblock.BlockSize]byte
		for i := range w.digits {
			put(want[:], i, at(expected[:], w.from+i))
		}
		ok = t.is(seen, want[:w.digits/2]) && ok
	}
	return ok, looks, nil
}

// window is some digits of a field: an even number of them.
type window struct{ from, digits int }

// windows cover digits from a place on: all at once, or, since bytes are extracted, all but the last and then
// the last two.
func windows(from, digits int) []window {
	if digits%2 == 0 {
		return []window{{from, digits}}
	}
	return []window{{from, digits - 1}, {from + digits - 2, 2}}
}

// letters reports likewise whether all digits of a field of 8 bytes from a place on are from A to F. At least two are
// left.
func (t *tools) letters(s *token.Session, field token.Object, from int) (ok bool, looks int, err error) {
	size, table := 4, t.known.four
	if places-from < size {
		size, table = 2, t.known.two
	}
	ok = true
	for place := from; place < places; place += size {
		part, err := s.Extract(field, 4*min(place, places-size), size/2) // the last two may overlap
		if err != nil {
			return false, looks, err
		}
		seen, err := look(s, t.fills, part)
		if err != nil {
			return false, looks, err
		}
		looks++
		_, is := table[seen]
		ok = is && ok
	}
	return ok, looks, nil
}

// unmask makes the field of one that is combined with the account field.
func (p *PIN) unmask(s *token.Session) (err error) {
	if p.plain == 0 {
		mask := p.pan.Field()
		p.plain, err = s.XOR(p.masked, mask[:])
	}
	return err
}
