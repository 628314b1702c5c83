package pinops

import (
	"crypto/rand"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/erase"
	"keyd/pinblock"
)

// inModule is the way on which PINs are in the session's locked memory: the token enciphers and deciphers
// blocks, and everything else happens here. It goes for every operation.
type inModule struct{}

func (inModule) custody() hsm.Custody { return hsm.InModule }

func (inModule) open(b *batch) {
	b.decipher()
	b.decode()
}

func (inModule) close(b *batch) {
	b.encode()
	b.encipher()
}

// decipher opens the lanes' PIN blocks into their workspaces.
func (b *batch) decipher() {
	var outer, inner []ecb
	memory := false
	for l := range b.of(inModule{}) {
		if l.in == nil {
			continue
		}
		n := l.in.Format.BlockSize()
		copy(l.block[:], l.given)
		c := &l.incoming
		if c.memory {
			memory = true
			continue
		}
		if l.in.Format == hsm.Format4 {
			outer = append(outer, ecb{l, c.mechanism, c.object, l.middle[:], l.block[:]})
		}
		inner = append(inner, ecb{l, c.mechanism, c.object, l.plain[:n], l.block[:n]})
	}
	b.together(decrypt, outer)
	for _, o := range outer {
		if l := o.lane; l.err == nil {
			if err := l.pan.XORField4(l.middle[:]); err != nil {
				b.fail(l, err)
			}
			copy(l.block[:], l.middle[:])
		}
	}
	b.together(decrypt, inner)
	if !memory {
		return
	}
	erase.Do(func() {
		key := &b.memory.tdes
		for l := range b.of(inModule{}) {
			if !l.incoming.memory {
				continue
			}
			if err := l.expand(key, l.incoming.ksn); err != nil {
				b.fail(l, err)
				continue
			}
			key.Decrypt(l.plain[:8], l.block[:8])
		}
		key.Destroy()
	})
}

// decode takes the PINs out of the clear blocks. Whatever is wrong with a block, the
// answer and the work are the same. The PIN's digits are not looked at (ISO 9564-1): in
// formats 0 and 3 whoever sends another PAN changes them, and would learn them one by one
// from a refusal.
func (b *batch) decode() {
	erase.Do(func() {
		for l := range b.of(inModule{}) {
			if l.in == nil {
				continue
			}
			f, pin := l.in.Format, pinblock.PINIn(&l.pin)
			if pinblock.Decode(pin, pinblock.Format(f), l.plain[:f.BlockSize()], l.pan) != nil {
				l.err = errBlock
			}
		}
	})
}

var errBlock = fault.New(fault.PINBlockInvalid, "")

// choose makes the PINs that come in no block: each digit is as likely as any other.
func (inModule) choose(b *batch) {
	for l := range b.of(inModule{}) {
		for chosen := l.in != nil; !chosen; {
			if _, err := rand.Read(l.digits[:]); err != nil {
				b.fail(l, err)
				break
			}
			erase.Do(func() { chosen = l.chooseDigits() })
		}
	}
}

// chooseDigits makes a PIN of the random bytes in digits, or reports that there are too
// few. It is called within erase.Do.
func (l *lane) chooseDigits() bool {
	n := 0
	for _, random := range l.digits {
		if random < 250 && n < l.length { // 25 values for each digit
			l.digits[n] = '0' + random%10
			n++
		}
	}
	done := n == l.length && pinblock.PINIn(&l.pin).SetDigits(l.digits[:n]) == nil
	clear(l.digits[:])
	return done
}

// encode makes clear blocks of the PINs that go into one.
func (b *batch) encode() {
	for l := range b.of(inModule{}) {
		if l.out != nil && l.out.Format != hsm.Format0 {
			if _, err := rand.Read(l.random[:]); err != nil {
				b.fail(l, err)
			}
		}
	}
	erase.Do(func() {
		for l := range b.of(inModule{}) {
			if l.out == nil {
				continue
			}
			f := l.out.Format
			if err := pinblock.Encode(l.plain[:f.BlockSize()], pinblock.Format(f), pinblock.PINIn(&l.pin), l.pan, &l.random); err != nil {
				b.fail(l, err)
			}
		}
	})
}

// encipher closes the blocks that go out.
func (b *batch) encipher() {
	var inner, outer []ecb
	memory := false
	for l := range b.of(inModule{}) {
		if l.out == nil {
			continue
		}
		c, f := &l.outgoing, l.out.Format
		if c.memory {
			memory = true
			continue
		}
		n := f.BlockSize()
		inner = append(inner, ecb{l, c.mechanism, c.object, l.block[:n], l.plain[:n]})
		if f == hsm.Format4 {
			outer = append(outer, ecb{l, c.mechanism, c.object, l.block[:], l.middle[:]})
		}
	}
	b.together(encrypt, inner)
	for _, o := range outer {
		if l := o.lane; l.err == nil {
			copy(l.middle[:], l.block[:])
			if err := l.pan.XORField4(l.middle[:]); err != nil {
				b.fail(l, err)
			}
		}
	}
	b.together(encrypt, outer)
	if memory {
		erase.Do(func() {
			key := &b.memory.tdes
			for l := range b.of(inModule{}) {
				if !l.outgoing.memory {
					continue
				}
				if err := l.expand(key, l.outgoing.ksn); err != nil {
					b.fail(l, err)
					continue
				}
				key.Encrypt(l.block[:8], l.plain[:8])
			}
			key.Destroy()
		})
	}
}
