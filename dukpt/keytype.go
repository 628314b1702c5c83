package dukpt

import "errors"

// KeyType is an algorithm with its key length. The zero value is no key type.
type KeyType uint8

// The key types of X9.24-3:2017 6.2.1. A BDK is AES128, AES192 or AES256 in the AES scheme and TDES2Key in
// the TDES scheme; a working key of the AES scheme may be of any type.
const (
	TDES2Key KeyType = iota + 1
	TDES3Key
	AES128
	AES192
	AES256
	HMAC128
	HMAC192
	HMAC256
)

// ErrKeyType refuses a value that is no key type, or one that cannot be the type of this key.
var ErrKeyType = errors.New("dukpt: key type not allowed here")

type keyTypeRow struct {
	name      string
	algorithm uint16 // X9.24-3:2017 6.3.2, algorithm indicator
	size      uint8  // bytes
	strength  uint16 // bits, NIST SP 800-57 part 1
}

var keyTypes = [...]keyTypeRow{
	TDES2Key: {"TDES_2KEY", 0x0000, 16, 80},
	TDES3Key: {"TDES_3KEY", 0x0001, 24, 112},
	AES128:   {"AES_128", 0x0002, 16, 128},
	AES192:   {"AES_192", 0x0003, 24, 192},
	AES256:   {"AES_256", 0x0004, 32, 256},
	HMAC128:  {"HMAC_128", 0x0005, 16, 128},
	HMAC192:  {"HMAC_192", 0x0005, 24, 192},
	HMAC256:  {"HMAC_256", 0x0005, 32, 256},
}

// AESKeyType returns the AES key type for a key of size bytes (16, 24 or 32), else [ErrKeyType].
func AESKeyType(size int) (KeyType, error) {
	switch size {
	case 16:
		return AES128, nil
	case 24:
		return AES192, nil
	case 32:
		return AES256, nil
	}
	return 0, ErrKeyType
}

// Valid reports whether t is one of the key types above.
func (t KeyType) Valid() bool { return t >= TDES2Key && t <= HMAC256 }

// IsTDES reports whether t is a TDES key type.
func (t KeyType) IsTDES() bool { return t == TDES2Key || t == TDES3Key }

// IsAES reports whether t is an AES key type.
func (t KeyType) IsAES() bool { return t >= AES128 && t <= AES256 }

// IsHMAC reports whether t is an HMAC key type.
func (t KeyType) IsHMAC() bool { return t >= HMAC128 && t <= HMAC256 }

// Size returns the key length in bytes (TDES with parity bits): 16, 24 or 32; 0 for an invalid type.
func (t KeyType) Size() int { return int(t.row().size) }

// Strength returns the strength in bits as NIST SP 800-57 part 1 gives it (80 for two-key, 112 for three-key
// TDES); 0 for an invalid type.
func (t KeyType) Strength() int { return int(t.row().strength) }

// String returns the name, such as "TDES_2KEY", "AES_128" or "HMAC_256"; "invalid" for an invalid type.
func (t KeyType) String() string { return t.row().name }

// NoStrongerThan reports whether a working key of type t may come from a BDK of type bdk: a derived key
// cannot be worth more than the key from which it comes (X9.24-3:2017). False where either is invalid.
func (t KeyType) NoStrongerThan(bdk KeyType) bool {
	return t.Valid() && bdk.Valid() && t.Strength() <= bdk.Strength()
}

func (t KeyType) row() keyTypeRow {
	if !t.Valid() {
		return keyTypeRow{name: "invalid"}
	}
	return keyTypes[t]
}
