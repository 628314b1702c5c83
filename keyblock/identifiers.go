package keyblock

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// NewKS returns the optional block KS of an initial key of TDES DUKPT: its key serial number,
// in which the counter is 0 (X9.143-2021 6.3.6.9; X9.24-3:2017 C.2.3).
func NewKS(ksn [10]byte) Optional { return Optional{"KS", upperHex(ksn[:])} }

// KSN returns the key serial number in the block KS: 10 bytes, or the 8 that name the initial
// key, which some write. Text of other makers and shorter identifiers give [ErrContent].
func (h *Header) KSN() ([]byte, error) { return content(h, "KS", readKSN) }

func readKSN(data string) ([]byte, bool) {
	if len(data) != 20 && len(data) != 16 {
		return nil, false
	}
	return bytesOf(data)
}

// NewIK returns the optional block IK of an initial key of AES DUKPT: its initial key ID
// (6.3.6.6; X9.24-3:2017 4.17).
func NewIK(id [8]byte) Optional { return Optional{"IK", upperHex(id[:])} }

// InitialKeyID returns the initial key ID in the block IK, 16 hex digits.
func (h *Header) InitialKeyID() ([8]byte, error) { return content(h, "IK", readInitialKeyID) }

func readInitialKeyID(data string) (id [8]byte, ok bool) {
	b, ok := bytesOf(data)
	if !ok || len(b) != len(id) {
		return id, false
	}
	return [8]byte(b), true
}

// BaseKeyID is the content of the block BI: which base derivation key it is, or whose
// initial keys (6.3.6.2, table 9).
type BaseKeyID struct {
	AES bool   // of the AES scheme; else of the TDES scheme
	ID  []byte // 4 bytes (AES: BDK ID) or 5 (TDES: key set ID)
}

// BaseKeyID returns the content of the block BI: two digits for the scheme, then the ID in
// hex.
func (h *Header) BaseKeyID() (BaseKeyID, error) { return content(h, "BI", readBaseKeyID) }

func readBaseKeyID(data string) (BaseKeyID, bool) {
	b, ok := bytesOf(data)
	switch {
	case ok && len(b) == 6 && b[0] == 0:
		return BaseKeyID{ID: b[1:]}, true
	case ok && len(b) == 5 && b[0] == 1:
		return BaseKeyID{AES: true, ID: b[1:]}, true
	}
	return BaseKeyID{}, false
}

// CheckMethod is how a check value was made (6.3.6.7, table 15).
type CheckMethod byte

// The methods.
const (
	CheckEncryption CheckMethod = 0 // a block of zeros, enciphered: up to 3 bytes
	CheckCMAC       CheckMethod = 1 // the CMAC of a block of zeros: up to 5 bytes
)

// CheckValue is a key check value (X9.24-1:2017 annex A) as a block carries it.
type CheckValue struct {
	Method CheckMethod
	Value  []byte // 2 to 5 bytes
}

// fits tells whether the method has check values of that size.
func (v CheckValue) fits() bool {
	switch v.Method {
	case CheckEncryption:
		return len(v.Value) >= 2 && len(v.Value) <= 3
	case CheckCMAC:
		return len(v.Value) >= 2 && len(v.Value) <= 5
	}
	return false
}

// NewKC returns the optional block KC: the check value of the wrapped key. The error is
// [ErrContent].
func NewKC(v CheckValue) (Optional, error) { return checkBlock("KC", v) }

// NewKP returns the optional block KP: the check value of the key block protection key. The
// error is [ErrContent].
func NewKP(v CheckValue) (Optional, error) { return checkBlock("KP", v) }

func checkBlock(id string, v CheckValue) (Optional, error) {
	if !v.fits() {
		return Optional{}, fmt.Errorf("%w: %s", ErrContent, id)
	}
	return Optional{id, upperHex([]byte{byte(v.Method)}) + upperHex(v.Value)}, nil
}

// KeyCheckValue returns the check value of the wrapped key, block KC: two digits for the
// method, then the value in hex.
func (h *Header) KeyCheckValue() (CheckValue, error) { return content(h, "KC", readCheckValue) }

// ProtectionCheckValue returns that of the key block protection key, block KP.
func (h *Header) ProtectionCheckValue() (CheckValue, error) { return content(h, "KP", readCheckValue) }

// ExportCheckValue returns that of the key block protection key under which the key may be
// exported, block PK (6.3.6.12).
func (h *Header) ExportCheckValue() (CheckValue, error) { return content(h, "PK", readCheckValue) }

func readCheckValue(data string) (CheckValue, bool) {
	b, ok := bytesOf(data)
	if !ok || len(b) == 0 {
		return CheckValue{}, false
	}
	v := CheckValue{Method: CheckMethod(b[0]), Value: b[1:]}
	if !v.fits() {
		return CheckValue{}, false
	}
	return v, true
}

func upperHex(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

// bytesOf decodes upper-case hex.
func bytesOf(data string) ([]byte, bool) {
	b, err := hex.DecodeString(data)
	return b, err == nil && upperHex(b) == data
}
