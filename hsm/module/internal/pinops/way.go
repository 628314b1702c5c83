package pinops

import (
	"keyd/dukpt"
	"keyd/hsm"
	"keyd/hsm/module/internal/working"
)

// way is how PINs go: who has them while a lane goes from one step to the next. A step is taken for all lanes
// of a batch that go the way and have not failed.
type way interface {
	// custody is where clear values are.
	custody() hsm.Custody

	open(*batch)      // PINs come out of the blocks in which they came
	choose(*batch)    // PINs are made
	close(*batch)     // PINs go into the blocks in which they go
	enciphers(*batch) // the token enciphers what enters comparisons under the verification keys
}

// outline is an operation as far as it decides which way it can go.
type outline struct {
	in, out *side // nil: the PIN comes, or goes, in no block
	record  bool  // of a PIN record, or compared beside one
	visa    bool  // it is compared, or a value is made of it, by Visa's method
	ibm     bool  // by that of IBM
	held    bool  // with a key that the token held before
}

// side is a PIN block of an operation.
type side struct {
	format    hsm.Format
	algorithm string // of the key that the block is under, "T" or "A"
	dukpt     string // the algorithm of the BDK that it is derived from; empty for a static key
	held      bool   // the key is one that the token held before
}

// outline is the lane's.
func (l *lane) outline() *outline {
	o := &outline{in: l.side(l.in, l.inKey.Header), out: l.side(l.out, l.outKey.Header), visa: l.method.visa != nil, ibm: l.method.ibm != nil}
	o.held = l.pvk != nil && l.pvkKey.Header.Object != ""
	return o
}

func (l *lane) side(k *hsm.PINKey, h *hsm.Header) *side {
	switch {
	case k == nil:
		return nil
	case h == nil: // agreed on with a phone
		return &side{format: k.Format, algorithm: "A"}
	}
	s := &side{format: k.Format, algorithm: h.Algorithm, held: h.Object != ""}
	if k.KSN != (dukpt.KSN{}) {
		s.dukpt = h.Algorithm
		if h.Algorithm == "A" && working.Type(k.WorkingType).IsTDES() {
			s.algorithm = "T"
		}
	}
	return s
}

// pick decides which way a lane goes: in the token where that can be.
func (b *batch) pick(l *lane) {
	o := l.outline()
	o.record = b.opening
	l.way, l.lacks = inModule{}, b.inside.lacks(o)
	if l.lacks == nil && !b.byModule {
		l.way = b.inside
	}
}
