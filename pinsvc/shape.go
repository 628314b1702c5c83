package pinsvc

import (
	"errors"
	"strings"

	"keyd/audit"
	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
)

// PINKey names a key that enciphers PIN blocks, as a request does.
type PINKey struct {
	KeyID  string
	DUKPT  *DUKPT // set if the request says that the key is a BDK
	Format int32  // keyd.v1.PinBlockFormat
}

// DUKPT names a transaction under a BDK.
type DUKPT struct {
	KSN     []byte
	KeyType int32 // keyd.v1.DukptAttributes.KeyType
}

// Numbers of the contract (keyd.v1): a PIN-block format is the format of ISO 9564-1
// plus one, a working-key type is that of package hsm.
const (
	formatUnspecified = 0
	format1           = 2
	lastFormat        = 5
)

// record puts into the audit entry what a request names. What is no key name stays
// out, whatever else it may be.
func (k PINKey) record(entry *audit.Entry) {
	var e audit.Key
	if keys.ValidName(k.KeyID) {
		e.Name = k.KeyID
	}
	if k.DUKPT != nil {
		if ksn, err := dukpt.ParseKSN(k.DUKPT.KSN); err == nil {
			e.KSN = ksn.String()
		}
	}
	entry.Keys = append(entry.Keys, e)
}

func recordKey(entry *audit.Entry, name string) {
	PINKey{KeyID: name}.record(entry)
}

// check is about the shape of everything but the KSN.
func (k PINKey) check(field string) error {
	if err := checkKeyID(field+".key_id", k.KeyID); err != nil {
		return err
	}
	switch {
	case k.Format == formatUnspecified:
		return invalid(field + ".format is not set")
	case k.Format < 0 || k.Format > lastFormat:
		return invalid(field + ".format is none of ISO_FORMAT_0 to ISO_FORMAT_4")
	case k.DUKPT != nil && (k.DUKPT.KeyType < 0 || k.DUKPT.KeyType > int32(hsm.WorkingAES256)):
		return invalid(field + ".dukpt.key_type is none of TDES_2KEY, TDES_3KEY, AES_128, AES_192, AES_256")
	}
	return nil
}

// ksn parses the key serial number, after everything else has been checked.
func (k PINKey) ksn(field string) (dukpt.KSN, error) {
	if k.DUKPT == nil {
		return dukpt.KSN{}, nil
	}
	ksn, err := dukpt.ParseKSN(k.DUKPT.KSN)
	if err == nil {
		return ksn, nil
	}
	field += ".dukpt.key_serial_number "
	switch {
	case errors.Is(err, dukpt.ErrKSNLength):
		return ksn, fault.New(fault.KSNInvalid, field+"has 10 bytes for a TDES BDK, 12 for an AES BDK")
	case errors.Is(err, dukpt.ErrKSNCounterZero):
		return ksn, fault.New(fault.KSNInvalid, field+"has the transaction counter 0, under which no transaction takes place")
	case errors.Is(err, dukpt.ErrKSNCounterWeight):
		return ksn, fault.New(fault.KSNInvalid, field+"has a transaction counter with more one-bits than the scheme uses (10 TDES, 16 AES)")
	}
	return ksn, fault.New(fault.KSNInvalid, field+"is not one")
}

// blockSize is the size of a block in the key's format, which has been checked.
func (k PINKey) blockSize() int { return k.hsmFormat().BlockSize() }

func (k PINKey) hsmFormat() hsm.Format { return hsm.Format(k.Format - 1) }

// with returns the key as a module gets it.
func (k PINKey) with(key keys.Key, ksn dukpt.KSN) hsm.PINKey {
	p := hsm.PINKey{Key: sealed(key), KSN: ksn, Format: k.hsmFormat()}
	if k.DUKPT != nil {
		p.WorkingType = hsm.WorkingType(k.DUKPT.KeyType)
	}
	return p
}

func sealed(k keys.Key) hsm.Key { return hsm.Key{Name: k.Name, Sealed: k.Sealed} }

func checkKeyID(field, name string) error {
	switch {
	case name == "":
		return invalid(field + " is not set")
	case !keys.ValidName(name):
		return invalid(field + " has 1 to 128 characters, letters, digits and ._:/@+=#~-, and begins with a letter or a digit")
	}
	return nil
}

func checkPAN(pan string, needed bool) error {
	switch {
	case pan == "" && needed:
		return invalid("primary_account_number is not set; only a translation from ISO_FORMAT_1 to ISO_FORMAT_1 needs none")
	case len(pan) > 19 || !decimal(pan):
		return invalid("primary_account_number has 1 to 19 decimal digits and nothing else")
	}
	return nil
}

func checkBlock(block []byte, k PINKey) error {
	if len(block) == k.blockSize() {
		return nil
	}
	if k.blockSize() == 16 {
		return invalid("encrypted_pin_block has 16 bytes in ISO_FORMAT_4")
	}
	return invalid("encrypted_pin_block has 8 bytes in ISO_FORMAT_0 to ISO_FORMAT_3")
}

// invalid refuses a request. The sentence is about the field; what was sent stays out.
func invalid(sentence string) error { return fault.New(fault.RequestInvalid, sentence) }

func decimal(s string) bool { return fits(s, len(s), "0123456789") }

// fits reports whether s has n bytes, all of the set.
func fits(s string, n int, set string) bool {
	if len(s) != n {
		return false
	}
	for i := range len(s) {
		if strings.IndexByte(set, s[i]) < 0 {
			return false
		}
	}
	return true
}
