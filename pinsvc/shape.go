package pinsvc

import (
	"keyd/dukpt"
	"keyd/hsm"
	"keyd/keys"
	"keyd/keyuse"
)

// PINKey names a key that enciphers PIN blocks, as a request does.
type PINKey struct {
	KeyID  string
	DUKPT  *keyuse.DUKPT // set if the request says that the key is a BDK
	Format int32         // keyd.v1.PinBlockFormat
}

// Numbers of the contract (keyd.v1): a PIN-block format is the format of ISO 9564-1
// plus one.
const (
	formatUnspecified = 0
	format1           = 2
	lastFormat        = 5
)

// Check is about the shape of everything but the KSN.
func (k PINKey) Check(field string) error {
	if err := keyuse.CheckKeyID(field+".key_id", k.KeyID); err != nil {
		return err
	}
	switch {
	case k.Format == formatUnspecified:
		return keyuse.Invalid(field + ".format is not set")
	case k.Format < 0 || k.Format > lastFormat:
		return keyuse.Invalid(field + ".format is none of ISO_FORMAT_0 to ISO_FORMAT_4")
	}
	return k.DUKPT.Check(field)
}

// Named is the key as the policy is asked about it.
func (k PINKey) Named(field string) keyuse.Named {
	return keyuse.Named{Field: field + ".key_id", Name: k.KeyID}
}

// blockSize is the size of a block in the key's format, which has been checked.
func (k PINKey) blockSize() int { return k.hsmFormat().BlockSize() }

func (k PINKey) hsmFormat() hsm.Format { return hsm.Format(k.Format - 1) }

// With returns the key as a module gets it.
func (k PINKey) With(key keys.Key, serial dukpt.KSN) hsm.PINKey {
	return hsm.PINKey{Key: keyuse.Sealed(key), KSN: serial, WorkingType: k.DUKPT.WorkingType(), Format: k.hsmFormat()}
}

// Identify adds a key that enciphers PIN blocks to the identity of a request.
func Identify(i keyuse.Identity, k keys.Key, p hsm.PINKey) keyuse.Identity {
	return append(i.Key(k).Serial(p.KSN), uint8(p.WorkingType), uint8(p.Format))
}

func checkPAN(pan string, needed bool) error {
	switch {
	case pan == "" && needed:
		return keyuse.Invalid("primary_account_number is not set; only a translation from ISO_FORMAT_1 to ISO_FORMAT_1 needs none")
	case len(pan) > 19 || !keyuse.Decimal(pan):
		return keyuse.Invalid("primary_account_number has 1 to 19 decimal digits and nothing else")
	}
	return nil
}

// CheckBlock refuses a block that has another size than those of the key's format, which has been checked.
func CheckBlock(field string, block []byte, k PINKey) error {
	if len(block) == k.blockSize() {
		return nil
	}
	if k.blockSize() == 16 {
		return keyuse.Invalid(field + " has 16 bytes in ISO_FORMAT_4")
	}
	return keyuse.Invalid(field + " has 8 bytes in ISO_FORMAT_0 to ISO_FORMAT_3")
}
