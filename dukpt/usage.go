package dukpt

import "errors"

// Usage is what a working key is for. Its value is the key usage indicator of the derivation data
// (X9.24-3:2017 6.3.2). Usages are seen from the device that originates the transaction: it generates the
// MAC of a request under UsageMACGeneration and verifies that of the response under UsageMACVerification;
// the host does the reverse with the same keys.
type Usage uint16

// The usages.
const (
	UsageKeyEncryption   Usage = 0x0002
	UsagePIN             Usage = 0x1000
	UsageMACGeneration   Usage = 0x2000 // requests
	UsageMACVerification Usage = 0x2001 // responses
	UsageMACBoth         Usage = 0x2002
	UsageDataEncryption  Usage = 0x3000 // requests
	UsageDataDecryption  Usage = 0x3001 // responses
	UsageDataBoth        Usage = 0x3002
	UsageKeyDerivation   Usage = 0x8000

	usageInitialKey Usage = 0x8001
)

// Errors of [CheckWorkingKey] and [NewPath].
var (
	ErrUsage    = errors.New("dukpt: unknown key usage, or one that this scheme or key type does not have")
	ErrStronger = errors.New("dukpt: working key is stronger than its base derivation key")
)

// String returns the usage's name, such as "PIN" or "MAC generation"; "invalid" for an unknown one.
func (u Usage) String() string {
	switch u {
	case UsageKeyEncryption:
		return "key encryption"
	case UsagePIN:
		return "PIN"
	case UsageMACGeneration:
		return "MAC generation"
	case UsageMACVerification:
		return "MAC verification"
	case UsageMACBoth:
		return "MAC both ways"
	case UsageDataEncryption:
		return "data encryption"
	case UsageDataDecryption:
		return "data decryption"
	case UsageDataBoth:
		return "data both ways"
	case UsageKeyDerivation:
		return "key derivation"
	case usageInitialKey:
		return "initial key"
	}
	return "invalid"
}

// CheckWorkingKey tells whether the AES scheme has a working key of the given usage and type under a BDK of
// type bdk. It returns [ErrKeyType] where bdk is not AES or working is invalid, [ErrUsage] where the usage is
// unknown or has no key of that type (HMAC keys make MACs only, derivation keys are AES), and [ErrStronger]
// where working is stronger than bdk.
func CheckWorkingKey(bdk KeyType, usage Usage, working KeyType) error {
	if !bdk.IsAES() || !working.Valid() {
		return ErrKeyType
	}
	var allowed bool
	switch usage {
	case UsagePIN, UsageDataEncryption, UsageDataDecryption, UsageDataBoth, UsageKeyEncryption:
		allowed = working.IsAES() || working.IsTDES()
	case UsageMACGeneration, UsageMACVerification, UsageMACBoth:
		allowed = true
	case UsageKeyDerivation:
		allowed = working.IsAES()
	}
	if !allowed {
		return ErrUsage
	}
	if !working.NoStrongerThan(bdk) {
		return ErrStronger
	}
	return nil
}
