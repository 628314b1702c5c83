package quorum

import "keyd/hsm"

// What the token does not do with a key that comes in parts, or in a key block.
const (
	whyComponents = "components of a key are combined in the module's memory"
	whyKeyBlocks  = "a key is in the module's memory while its key block (ANSI X9.143) is opened or made"
)

// Custodies says where keys are in clear in ceremonies.
func (e *Engine) Custodies() []hsm.OperationCustody {
	return []hsm.OperationCustody{
		hsm.CustodyOf("key ceremonies: components", hsm.InModule, whyComponents),
		hsm.CustodyOf("key ceremonies: import and export of key blocks", hsm.InModule, whyKeyBlocks),
	}
}
