package eavesdrop

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/ecdh"
	"encoding/binary"
)

// book has what a key makes of blocks that were seen in clear and enciphered.
type book struct{ enciphered, deciphered map[string][]byte }

// under is a key with the cipher that it is used in.
type under struct {
	key *object
	aes bool
}

func (u under) size() int {
	if u.aes {
		return aes.BlockSize
	}
	return des.BlockSize
}

// cipher is the key's where it is known.
func (u under) cipher() cipher.Block { return u.with(u.key.known) }

func (u under) with(b bits) cipher.Block {
	value, ok := b.value()
	if !ok {
		return nil
	}
	make := aes.NewCipher
	if !u.aes {
		make = des.NewTripleDESCipher
		if len(value) == 16 {
			value = append(bytes.Clone(value), value[:8]...)
		}
	}
	c, err := make(value)
	if err != nil {
		return nil
	}
	return c
}

// seen takes blocks up that were seen in clear and enciphered.
func (w *Wire) seen(u under, plain, enciphered []byte) {
	size := u.size()
	if len(plain) != len(enciphered) {
		return
	}
	page := w.books[u]
	if page.enciphered == nil {
		page = book{map[string][]byte{}, map[string][]byte{}}
		w.books[u] = page
	}
	for ; len(plain) >= size; plain, enciphered = plain[size:], enciphered[size:] {
		if _, known := page.enciphered[string(plain[:size])]; !known {
			page.enciphered[string(plain[:size])], page.deciphered[string(enciphered[:size])] = bytes.Clone(enciphered[:size]), bytes.Clone(plain[:size])
			w.changed = true
		}
	}
}

func (w *Wire) encipher(u under, block []byte) []byte {
	if c := u.cipher(); c != nil {
		out := make([]byte, len(block))
		c.Encrypt(out, block)
		return out
	}
	return w.books[u].enciphered[string(block)]
}

func (w *Wire) decipher(u under, block []byte) []byte {
	if c := u.cipher(); c != nil {
		out := make([]byte, len(block))
		c.Decrypt(out, block)
		return out
	}
	return w.books[u].deciphered[string(block)]
}

// ciphered is an object that is the plain text of something that was seen, with zeros behind it up to a
// block.
func (w *Wire) ciphered(u under, o *object, text []byte, why string) {
	size := u.size()
	for i := 0; i+size <= len(text); i += size {
		if plain := w.decipher(u, text[i:i+size]); plain != nil {
			w.learn(o, 8*i, bitsOf(plain), why)
		}
		if o.known == nil || len(o.known) <= 8*i {
			continue
		}
		padded := append(bits(nil), o.known[8*i:min(8*(i+size), len(o.known))]...)
		for len(padded) < 8*size {
			padded = append(padded, 0)
		}
		if plain, ok := padded.value(); ok {
			w.seen(u, plain, text[i:i+size])
		}
	}
}

// xored is an object that is another combined with data.
func (w *Wire) xored(o, base *object, data []byte, why string) {
	w.lengthen(o, base, len(data)*8)
	d := bitsOf(data)
	for i := range min(len(o.known), len(base.known), len(d)) {
		if b := base.known[i]; b != unknown {
			w.learn(o, i, bits{b ^ d[i]}, why)
		} else if b := o.known[i]; b != unknown {
			w.learn(base, i, bits{b ^ d[i]}, why)
		}
	}
}

// lengthen gives an object the length of another, but no more than most, where it has none yet.
func (w *Wire) lengthen(o, other *object, most int) {
	if o.known == nil && other.known != nil {
		o.known, w.changed = nothing(min(len(other.known), most)), true
	}
}

// taken is an object that is a part of another.
func (w *Wire) taken(o, base *object, from int, why string) {
	if len(base.known) == 0 {
		return
	}
	for i := range o.known {
		at := (from + i) % len(base.known)
		w.learn(o, i, base.known[at:at+1], why)
		w.learn(base, at, o.known[i:i+1], why)
	}
}

// joined is an object that is two put together, each an object or data.
func (w *Wire) joined(o, first *object, data []byte, second *object, why string) {
	switch {
	case second == nil: // data behind
		second = &object{known: bitsOf(data)}
	case first == nil:
		first = &object{known: bitsOf(data)}
	}
	if first.known == nil {
		return
	}
	if o.known == nil && second.known != nil {
		o.known, w.changed = nothing(len(first.known)+len(second.known)), true
	}
	w.learn(o, 0, first.known, why)
	w.learn(o, len(first.known), second.known, why)
	if o.known != nil {
		w.learn(first, 0, o.known[:min(len(first.known), len(o.known))], why)
		w.learn(second, 0, o.known[min(len(first.known), len(o.known)):], why)
	}
}

// mostTried is how many unknown bits of a key are tried.
const mostTried = 12

// imaged is an object that is the beginning of data enciphered under another.
func (w *Wire) imaged(u under, o *object, data []byte, why string) {
	size := u.size()
	for i := 0; i+size <= len(data); i += size {
		if out := w.encipher(u, data[i:i+size]); out != nil {
			w.learn(o, 8*i, bitsOf(out), why)
		}
		if 8*(i+size) <= len(o.known) {
			if out, ok := o.known[8*i : 8*(i+size)].value(); ok {
				w.seen(u, data[i:i+size], out)
			}
		}
	}
	w.tried(u, o, data, why)
}

// tried tries every value of a key of which few bits are unknown: of the key and of the image, the bits
// count that all values have in common which fit what is known.
func (w *Wire) tried(u under, o *object, data []byte, why string) {
	n := u.key.known.unknown()
	if n == 0 || n > mostTried || o.known == nil {
		return
	}
	asked := [2]int{n, o.known.unknown()}
	if w.tries[o] == asked {
		return // nothing is new
	}
	w.tries[o] = asked
	missing := u.key.known.missing()
	var keys, images bits
	for n := range 1 << len(missing) {
		key := append(bits(nil), u.key.known...)
		for i, at := range missing {
			key[at] = int8(n >> i & 1)
		}
		c := u.with(key)
		if c == nil {
			return
		}
		image := make([]byte, len(data))
		for i := 0; i+u.size() <= len(data); i += u.size() {
			c.Encrypt(image[i:], data[i:i+u.size()])
		}
		out := bitsOf(image)[:min(len(o.known), 8*len(data))]
		if !fits(out, o.known) {
			continue
		}
		if keys == nil {
			keys, images = key, out
			continue
		}
		common(keys, key)
		common(images, out)
	}
	if keys == nil {
		w.wrong(why + ": no key makes this image")
		return
	}
	w.learn(u.key, 0, keys, why)
	w.learn(o, 0, images, why)
}

func fits(value, known bits) bool {
	for i, bit := range value {
		if known[i] != unknown && known[i] != bit {
			return false
		}
	}
	return true
}

// common leaves of a what b has as well.
func common(a, b bits) {
	for i := range a {
		if a[i] != b[i] {
			a[i] = unknown
		}
	}
}

// keyWrapped is an object that was wrapped with KWP (RFC 5649) under a key.
func (w *Wire) keyWrapped(u under, o *object, text []byte, why string) {
	c := u.cipher()
	if c == nil || len(text) < 16 || len(text)%8 != 0 {
		return
	}
	blocks := bytes.Clone(text)
	if len(text) == 16 {
		c.Decrypt(blocks, blocks)
	} else {
		var block [16]byte
		copy(block[:8], blocks)
		n := len(text)/8 - 1
		for j := 5; j >= 0; j-- {
			for i := n; i >= 1; i-- {
				binary.BigEndian.PutUint64(block[:8], binary.BigEndian.Uint64(block[:8])^uint64(n*j+i))
				copy(block[8:], blocks[8*i:])
				c.Decrypt(block[:], block[:])
				copy(blocks[8*i:], block[8:])
			}
		}
		copy(blocks, block[:8])
	}
	length := int(binary.BigEndian.Uint32(blocks[4:]))
	if !bytes.Equal(blocks[:4], []byte{0xA6, 0x59, 0x59, 0xA6}) || length > len(blocks)-8 {
		w.wrong(why + ": what was unwrapped is no key that was wrapped")
		return
	}
	w.whole(o, blocks[8:8+length], why)
}

// agreed is an object that is what a private key and a point agree on.
func (w *Wire) agreed(o, private *object, point []byte, why string) {
	value, ok := private.known.value()
	if !ok {
		return
	}
	if len(point) > 2 && point[0] == 4 && int(point[1]) == len(point)-2 {
		point = point[2:] // an octet string of DER
	}
	for _, curve := range []ecdh.Curve{ecdh.P256(), ecdh.P384(), ecdh.P521()} {
		peer, err := curve.NewPublicKey(point)
		if err != nil {
			continue
		}
		own, err := curve.NewPrivateKey(value)
		if err != nil {
			continue
		}
		if secret, err := own.ECDH(peer); err == nil {
			w.whole(o, secret, why)
		}
	}
}
