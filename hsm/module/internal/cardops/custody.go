package cardops

import "keyd/hsm"

// The token makes the block of which a value's digits are taken, and hands it out.
const (
	custody     = hsm.InModule
	whyInModule = "a card verification value is in the module's memory"
)

// Custodies says where card verification values are in clear.
func (e *Engine) Custodies() []hsm.OperationCustody {
	return []hsm.OperationCustody{hsm.CustodyOf("card verification values", custody, whyInModule)}
}
