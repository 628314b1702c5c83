package dataops

import "keyd/hsm"

// Data come from the caller, or leave to it. What only changes its key passes through the session's
// locked memory, see [part].
const (
	custody     = hsm.InModule
	whyInModule = "data that are enciphered or deciphered are in the module's memory"
)

// Custodies says where data are in clear.
func (e *Engine) Custodies() []hsm.OperationCustody {
	return []hsm.OperationCustody{
		hsm.CustodyOf("encrypting and decrypting data", custody, whyInModule),
		hsm.CustodyOf("re-encrypting data", custody, whyInModule),
	}
}
