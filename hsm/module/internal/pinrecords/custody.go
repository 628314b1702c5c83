package pinrecords

import "keyd/hsm"

// A PIN of a record is checked for being too easy and comes into its datum here, and a code is made
// here; the key that is agreed on with a phone is made of a secret by a function (HKDF) which has to
// be computed here.
const (
	whyRecords = "a PIN is checked for being too easy, and goes into the datum of its record, in the module's memory"
	whyPhones  = "the key that is agreed on with a phone is derived in the module's memory"
)

// Custodies says where PINs of PIN records are in clear.
func (e *Engine) Custodies() []hsm.OperationCustody {
	return []hsm.OperationCustody{
		hsm.CustodyOf("PIN records: setting, changing and comparing PINs", hsm.InModule, whyRecords),
		hsm.CustodyOf("PINs typed on phones", hsm.InModule, whyPhones),
	}
}
