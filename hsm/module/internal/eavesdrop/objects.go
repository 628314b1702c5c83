package eavesdrop

import (
	"encoding/binary"
	"fmt"
)

// object is one of the token, by its handle for as long as that was its.
type object struct {
	made  string // how
	call  int    // of which number
	known bits   // nil: not even its length is known
}

// numbers of PKCS#11.
const (
	ckaValue    = 0x11
	ckaKeyType  = 0x100
	ckaValueLen = 0x161

	ckkDES, ckkDES2, ckkDES3 = 0x13, 0x14, 0x15

	ckmDES3ECB, ckmDES3CBC            = 0x132, 0x133
	ckmAESECB, ckmAESCBC              = 0x1081, 0x1082
	ckmConcatenateKey                 = 0x360
	ckmConcatenateData                = 0x362
	ckmConcatenateDataFirst           = 0x363
	ckmXOR                            = 0x364
	ckmExtract                        = 0x365
	ckmECDH1                          = 0x1050
	ckmDES3EncryptData                = 0x1102
	ckmAESEncryptData                 = 0x1104
	ckmKWP, ckmKWP3, ckmNSSKWP uint64 = 0x210A, 0x210B, 0xCE534352
)

// said is the length in bits that a template asks for, or that the type of key has; 0: neither.
func (c call) said() int {
	if v := c.attribute("template", ckaValueLen); len(v) == 8 {
		return 8 * int(binary.NativeEndian.Uint64(v))
	}
	if v := c.attribute("template", ckaKeyType); len(v) == 8 {
		return map[uint64]int{ckkDES: 64, ckkDES2: 128, ckkDES3: 192}[binary.NativeEndian.Uint64(v)]
	}
	return 0
}

// learn takes up what is known of an object's bits from a place on. What contradicts what is known
// already means that this package does not compute what the token does.
func (w *Wire) learn(o *object, from int, b bits, why string) {
	if o.known == nil {
		return
	}
	for i, bit := range b {
		at := from + i
		if bit == unknown || at >= len(o.known) {
			continue
		}
		switch o.known[at] {
		case unknown:
			o.known[at] = bit
			w.changed = true
		case bit:
		default:
			w.wrong(fmt.Sprintf("%s says otherwise of bit %d of what %s made", why, at, o.made))
			return
		}
	}
}

// whole takes up a value whose length was not known.
func (w *Wire) whole(o *object, value []byte, why string) {
	if o.known == nil {
		o.known, w.changed = nothing(8*len(value)), true
	}
	w.learn(o, 0, bitsOf(value), why)
}
