package pinops

import (
	"crypto/rand"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/erase"
	"keyd/pinblock"
)

// decipher opens the lanes' PIN blocks into their workspaces.
func (b *batch) decipher() {
	var outer, inner []ecb
	memory := false
	for l := range b.going {
		key, block := l.input()
		n := key.Format.BlockSize()
		copy(l.block[:], block)
		c := &l.incoming
		if c.memory {
			memory = true
			continue
		}
		if key.Format == hsm.Format4 {
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
		for l := range b.going {
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
// answer and the work are the same.
func (b *batch) decode() {
	erase.Do(func() {
		for l := range b.going {
			key, _ := l.input()
			f := key.Format
			if pinblock.Decode(pinblock.PINIn(&l.pin), pinblock.Format(f), l.plain[:f.BlockSize()], l.pan) != nil {
				l.err = errBlock
			}
		}
	})
}

var errBlock = fault.New(fault.PINBlockInvalid, "")

// encode makes clear blocks of the PINs that are translated.
func (b *batch) encode() {
	for l := range b.going {
		if t := l.op.Translate; t != nil && t.Outgoing.Format != hsm.Format0 {
			if _, err := rand.Read(l.random[:]); err != nil {
				b.fail(l, err)
			}
		}
	}
	erase.Do(func() {
		for l := range b.going {
			t := l.op.Translate
			if t == nil {
				continue
			}
			f := t.Outgoing.Format
			if err := pinblock.Encode(l.plain[:f.BlockSize()], pinblock.Format(f), pinblock.PINIn(&l.pin), l.pan, &l.random); err != nil {
				b.fail(l, err)
			}
		}
	})
}

// encipher closes the blocks that are translated, and answers.
func (b *batch) encipher() {
	var inner, outer []ecb
	memory := false
	for l := range b.going {
		if l.op.Translate == nil {
			continue
		}
		c, f := &l.outgoing, l.op.Translate.Outgoing.Format
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
			for l := range b.going {
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
	for l := range b.going {
		if t := l.op.Translate; t != nil {
			l.op.Translated = hsm.TranslatedPIN{
				Block:      append([]byte(nil), l.block[:t.Outgoing.Format.BlockSize()]...),
				CheckValue: l.keys[1].Header.CheckValue, Custody: hsm.InModule,
			}
		}
	}
}
