package pinops

import (
	"errors"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/token"
	"keyd/pinblock"
)

// RoomSize is how much locked memory whoever has PINs opened gets beside them, in bytes.
const RoomSize = 512

// maxOpen is how many PINs are opened at once.
const maxOpen = 8

// Opening is a block with the PIN of a PIN record, or a code for one, under a key that carries
// such PINs and no others.
type Opening struct {
	In     *hsm.PINKey
	Block  []byte
	Number string // of the record's subject, which stands where other blocks have a PAN
	Phone  *Phone // nil: In is a key that carries such PINs
	hsm.Demands
}

// Try is a cardholder's PIN that is compared together with those of PIN records.
type Try struct {
	hsm.VerifyPIN
	Verified bool // what came of it

	counted bool // once, even if the token has to be asked again
}

// Open opens blocks and compares cardholders' PINs on a session that the caller has: all of them,
// or none. The rules are those of other PIN operations; a key that carries other PINs is a
// [fault.KeyUsageMismatch]. count is called once every block has been found to be one and before
// anything is compared; use then gets the PINs, in the order of openings, and room in the same
// locked memory. Both are gone when it returns.
func (e *Engine) Open(s *token.Session, openings []Opening, tries []*Try, count func() error, use func(pins []*pinblock.PIN, room []byte) error) (err error) {
	if len(openings)+len(tries) > maxOpen {
		return fault.New(fault.RequestInvalid, "")
	}
	lanes := make([]lane, 0, maxOpen)
	for i := range openings {
		o := &openings[i]
		lanes = append(lanes, lane{op: new(Operation), task: opens, in: o.In, phone: o.Phone, given: o.Block, account: o.Number, demands: o.Demands})
		lanes[i].parseAccount()
	}
	for _, t := range tries {
		lanes = (&Operation{Verify: &t.VerifyPIN}).lanes(lanes)
		lanes[len(lanes)-1].counted = t.counted
	}
	all := make([]*lane, len(lanes))
	for i := range lanes {
		all[i] = &lanes[i]
	}
	b := newBatch(e, s, all)
	b.opening = true
	defer b.wipe()
	for i, l := range all {
		l.workspace = &b.memory.lanes[i]
		if l.err == nil {
			b.open(l)
		}
	}
	err = b.opened(tries, count, use)
	b.release()
	if gone := b.refusal(); err == nil {
		err = gone
	}
	return err
}

func (b *batch) opened(tries []*Try, count func() error, use func(pins []*pinblock.PIN, room []byte) error) error {
	if err := b.refusal(); err != nil {
		return err
	}
	b.deriveIncoming()
	inModule{}.open(b)
	b.bind()
	if err := b.refusal(); err != nil {
		return err
	}
	if err := count(); err != nil {
		return err
	}
	b.count()
	first := len(b.lanes) - len(tries)
	for i, t := range tries {
		t.counted = b.lanes[first+i].counted
	}
	if err := b.refusal(); err != nil {
		return err
	}
	b.compare()
	if err := b.refusal(); err != nil {
		return err
	}
	for i, t := range tries {
		t.Verified = b.lanes[first+i].verified
	}
	pins := make([]*pinblock.PIN, first)
	for i := range pins {
		pins[i] = pinblock.PINIn(&b.lanes[i].pin)
	}
	return use(pins, b.memory.room[:])
}

// refusal returns the error of a lane that comes first in the order of checks.
func (b *batch) refusal() error {
	var first error
	for _, l := range b.lanes {
		if l.err != nil && (first == nil || fault.Of(l.err).Reason < fault.Of(first).Reason) {
			first = l.err
		}
	}
	if b.failed != nil && !errors.As(first, new(*token.Error)) {
		return errors.Join(first, b.failed)
	}
	return first
}

// wipe clears what was opened before the session goes on with something else.
func (b *batch) wipe() { clear(b.session.Scratch()) }
