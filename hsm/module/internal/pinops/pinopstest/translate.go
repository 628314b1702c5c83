package pinopstest

import (
	"bytes"
	"fmt"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/pinops"
)

// translation translates anything.
func (b *bench) translation(fills *fills) trial {
	in, out, pan := b.side(b.format()), b.side(b.format()), b.pan()
	field, given := b.anyField(in.Format), pan
	if b.random.IntN(16) == 0 {
		given = b.pan() // another than the block was made for
	}
	return b.translate(in, out, given, in.seal(in.Format, field, pan), fills)
}

// translate is the translation of a block, whatever is in it.
func (b *bench) translate(in, out side, pan string, block []byte, fills *fills) trial {
	op := &pinops.Operation{Translate: &hsm.TranslatePIN{Incoming: in.PINKey, Outgoing: out.PINKey, PAN: pan, Block: block}}
	field := in.open(in.Format, block, pan)
	pin, _, ok := read(in.Format, field)
	name := fmt.Sprintf("translation from %v (%s) to %v (%s), PAN %s, field %X", in.Format, in.Key.Name, out.Format, out.Key.Name, pan, field)
	return trial{name, op, func() {
		want := fault.PINBlockInvalid
		if ok {
			want = 0
		}
		if b.outcome(name, op, want) {
			b.carries(name, out, op.Translated.Block, pan, pin, fills)
		} else if op.Translated.Block != nil || op.Translated.Custody != 0 {
			b.Errorf("%s: a refusal with an answer: %+v", name, op.Translated)
		}
	}}
}

// carries reports a block that is not one of the PIN.
func (b *bench) carries(name string, out side, block []byte, pan, pin string, fills *fills) {
	b.Helper()
	if len(block) != out.Format.BlockSize() {
		b.Errorf("%s: a block of %d bytes", name, len(block))
		return
	}
	field := out.open(out.Format, block, pan)
	got, fill, ok := read(out.Format, field)
	if !ok || got != pin {
		b.Errorf("%s: the block that leaves has the field %X, want PIN %s", name, field, pin)
		return
	}
	fills.take(out.Format, fill, field)
}

// everyMalformed sends every kind of malformed block, under keys of every kind, into translations,
// verifications and changes: all answers are alike.
func (b *bench) everyMalformed() {
	fills := newFills()
	var trials []trial
	for _, f := range []hsm.Format{hsm.Format0, hsm.Format3, hsm.Format4} {
		for length := 4; length <= 12; length++ {
			for i, m := range b.malformed(f, length) {
				in, pan := b.side(f), b.pan()
				block := in.seal(f, m.field, pan)
				switch {
				case i%8 < 6:
					trials = append(trials, b.translate(in, b.side(b.format()), pan, block, fills))
				case i%8 == 6:
					trials = append(trials, b.verify(in, pan, block, b.digits(4)))
				default:
					other := b.right(f, b.pin())
					trials = append(trials, b.exchange(in, b.side(f), pan, [2][]byte{other, m.field}, "0000"))
				}
			}
		}
	}
	b.run(trials)
	if len(trials) < 2700 {
		b.Errorf("only %d malformed blocks", len(trials))
	}
	for _, tried := range trials {
		if tried.op.Err == nil {
			b.Errorf("%s: carried out", tried.name)
		}
	}
	// What is wrong with the PAN is no different.
	in := b.static("T", hsm.Format0)
	block := in.seal(hsm.Format0, b.right(hsm.Format0, "1234"), "4111111111111111")
	for _, pan := range []string{"", "41111111111111111111", "411111111111111A", "４111111111111111"} {
		op := &pinops.Operation{Translate: &hsm.TranslatePIN{Incoming: in.PINKey, Outgoing: in.PINKey, PAN: pan, Block: bytes.Clone(block)}}
		b.engine.Run(op)
		b.outcome("PAN "+pan, op, fault.RequestInvalid)
	}
}
