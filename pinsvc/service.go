package pinsvc

import (
	"keyd/hsm"
	"keyd/keyuse"
)

// The actions that a policy allows or not.
const (
	ActionTranslate = "PinService/TranslatePinData"
	ActionVerify    = "PinService/VerifyPinData"
	ActionGenerate  = "PinService/GeneratePinData"
	ActionChange    = "PinService/ChangePinData"

	ActionResetVerifications = "VelocityService/ResetVerifications"
	ActionResetTranslations  = "VelocityService/ResetTranslations"
)

// Service carries out PIN operations. It is safe for concurrent use.
type Service struct {
	keys    *keyuse.Keys
	modules *hsm.Client
}

// New returns a service with keys, on the modules that are attached to a client.
func New(keys *keyuse.Keys, modules *hsm.Client) *Service {
	return &Service{keys: keys, modules: modules}
}
