package module

import (
	"keyd/hsm"
	"keyd/hsm/internal/wire"
)

// custodies says of every kind of operation where clear values are while it is carried out with the
// token at hand. Each engine answers for its own.
func (e engines) custodies() (all []*wire.OperationCustody) {
	for _, engine := range []interface{ Custodies() []hsm.OperationCustody }{
		e.pins, e.macs, e.data, e.cards, e.records, e.officers, e.injection,
	} {
		for _, o := range engine.Custodies() {
			all = append(all, &wire.OperationCustody{Operation: o.Operation, Custody: uint32(o.Custody), Why: o.Why})
		}
	}
	return all
}
