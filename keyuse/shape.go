package keyuse

import (
	"errors"
	"strings"

	"keyd/audit"
	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
)

// DUKPT names a transaction under a BDK, as a request does.
type DUKPT struct {
	KSN     []byte
	KeyType int32 // keyd.v1.DukptAttributes.KeyType, whose numbers are those of hsm.WorkingType
}

// Check is about the shape of everything but the KSN. A missing DUKPT has none.
func (d *DUKPT) Check(field string) error {
	if d != nil && (d.KeyType < 0 || d.KeyType > int32(hsm.WorkingAES256)) {
		return Invalid(field + ".dukpt.key_type is none of TDES_2KEY, TDES_3KEY, AES_128, AES_192, AES_256")
	}
	return nil
}

// WorkingType returns the type of the working key, once it has been checked.
func (d *DUKPT) WorkingType() hsm.WorkingType {
	if d == nil {
		return hsm.WorkingDefault
	}
	return hsm.WorkingType(d.KeyType)
}

// Serial parses the key serial number, after everything else has been checked; zero for a
// missing DUKPT. The error is a [fault.KSNInvalid].
func (d *DUKPT) Serial(field string) (dukpt.KSN, error) {
	if d == nil {
		return dukpt.KSN{}, nil
	}
	ksn, err := dukpt.ParseKSN(d.KSN)
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

// Record puts a key that a request names into the audit entry. What is no key name stays
// out, whatever else it may be.
func Record(entry *audit.Entry, name string, d *DUKPT) {
	var e audit.Key
	if keys.ValidReference(name) {
		e.Name = keys.NameIn(name)
	}
	if d != nil {
		if ksn, err := dukpt.ParseKSN(d.KSN); err == nil {
			e.KSN = ksn.String()
		}
	}
	entry.Keys = append(entry.Keys, e)
}

// CheckKeyID refuses what names no key: neither a name, an alias nor a version of a key.
func CheckKeyID(field, name string) error {
	switch {
	case name == "":
		return Invalid(field + " is not set")
	case !keys.ValidReference(name):
		return Invalid(field + " has 1 to 128 characters, letters, digits and ._:/@+=#~-, and begins with a letter or a digit; ?version= and a number may follow")
	}
	return nil
}

// Invalid refuses a request. The sentence is about the field; what was sent stays out.
func Invalid(sentence string) error { return fault.New(fault.RequestInvalid, sentence) }

// Decimal reports whether s has decimal digits only.
func Decimal(s string) bool { return Fits(s, len(s), "0123456789") }

// Fits reports whether s has n bytes, all of the set.
func Fits(s string, n int, set string) bool {
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
