package injection

import "keyd/hsm"

// Custodies says where a terminal's keys are in clear while it gets them.
func (e *Engine) Custodies() []hsm.OperationCustody {
	return []hsm.OperationCustody{
		hsm.CustodyOf("key injection into terminals", hsm.InModule, "a terminal's keys are sealed, and wrapped for it, in the module's memory"),
	}
}
