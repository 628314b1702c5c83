package datasvc

import (
	"fmt"

	"keyd/hsm"
	"keyd/keyuse"
)

// The actions that a policy allows or not.
const (
	ActionGenerateMAC = "MacService/GenerateMac"
	ActionVerifyMAC   = "MacService/VerifyMac"

	ActionEncrypt   = "DataService/EncryptData"
	ActionDecrypt   = "DataService/DecryptData"
	ActionReEncrypt = "DataService/ReEncryptData"

	ActionGenerateCard = "DataService/GenerateCardValidationData"
	ActionVerifyCard   = "DataService/VerifyCardValidationData"
)

// MaxMessage bounds a message that a MAC is made of, and data, in bytes.
const MaxMessage = hsm.MaxMessage

// Service carries out the operations. It is safe for concurrent use.
type Service struct {
	keys    *keyuse.Keys
	modules *hsm.Client
}

// New returns a service with keys, on the modules that are attached to a client.
func New(keys *keyuse.Keys, modules *hsm.Client) *Service {
	return &Service{keys: keys, modules: modules}
}

// The numbers of the contract (keyd.v1) for the direction of a DUKPT transaction, of MAC
// keys and of data keys alike.
const (
	unspecified = 0
	request     = 1
	response    = 2
)

// checkDirection refuses a direction where there is no transaction, and its absence where
// there is one.
func checkDirection(field string, d *keyuse.DUKPT, direction int32) error {
	switch {
	case d == nil && direction != unspecified:
		return keyuse.Invalid(field + ".direction is set, but dukpt is not: the MACs and data of a DUKPT transaction alone have one")
	case d != nil && direction != request && direction != response:
		return keyuse.Invalid(field + ".direction is REQUEST or RESPONSE where dukpt is set")
	}
	return d.Check(field)
}

func checkMessage(field string, b []byte) error {
	if len(b) > MaxMessage {
		return keyuse.Invalid(fmt.Sprintf("%s has at most %d bytes", field, MaxMessage))
	}
	return nil
}
