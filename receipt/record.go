package receipt

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

	"keyd/ceremony"
)

// Limits.
const (
	MaxKeys      = 8        // of an injection: master key, receipt key, initial keys
	MaxRecord    = 16 << 10 // bytes
	MaxStatement = 64 << 10 // bytes
	IDSize       = 16       // bytes of an injection's identifier
	CodeSize     = 16       // bytes of the modules' MAC behind a record
)

// ErrRecord is returned for bytes that are no record.
var ErrRecord = errors.New("malformed record of an injection")

// The methods of injections.
const (
	ByAgreement = "key agreement"
	ByTwoPass   = "TR-34 two-pass"
	ByOnePass   = "TR-34 one-pass"
)

// The names of keys that every injection has.
const (
	MasterName  = "master"
	ReceiptName = "receipt"
)

// Record is what a terminal was given.
type Record struct {
	Injection string `json:"injection"` // its identifier: 32 lower-case hex digits
	Terminal  string `json:"terminal"`  // as the front calls it
	Device    string `json:"device"`    // SHA-256 of the device's public key (SubjectPublicKeyInfo), in lower-case hex
	Method    string `json:"method"`    // ByAgreement, ByTwoPass or ByOnePass
	Host      string `json:"host"`      // name of the key pair that signed
	At        int64  `json:"at"`        // Unix seconds, by the module's clock
	Keys      []Key  `json:"keys"`      // the master key, the receipt key, then initial keys
}

// Key is a key that a terminal was given.
type Key struct {
	Name       string `json:"name"` // MasterName, ReceiptName, and the front's names of initial keys
	Usage      string `json:"usage"`
	Algorithm  string `json:"algorithm"`
	Length     uint16 `json:"length"`        // bytes
	BDK        string `json:"bdk,omitempty"` // of an initial key: name of the base derivation key
	BDKVersion uint32 `json:"bdk_version,omitempty"`
	ID         string `json:"id,omitempty"`     // upper-case hex: KSN of 10 bytes (TDES), initial key ID of 8 (AES)
	CheckValue string `json:"check_value"`      // six upper-case hex digits
	Header     string `json:"header,omitempty"` // of master and receipt key: digest of the sealed header (ceremony.HeaderDigest)
}

// Encode returns the one encoding of a record.
func (r *Record) Encode() ([]byte, error) {
	if !r.valid() {
		return nil, ErrRecord
	}
	return ceremony.Encode(r)
}

// ParseRecord accepts exactly what [Record.Encode] returns. The error is [ErrRecord].
func ParseRecord(b []byte) (*Record, error) {
	r, err := ceremony.Decode[Record](b, MaxRecord)
	if err != nil || !r.valid() {
		return nil, ErrRecord
	}
	return r, nil
}

// Split takes a record and the modules' MAC behind it apart, of which nothing is verified: a
// module does that. The error is [ErrRecord].
func Split(sealed []byte) (record, code []byte, err error) {
	if len(sealed) <= CodeSize || len(sealed) > MaxRecord+CodeSize {
		return nil, nil, ErrRecord
	}
	at := len(sealed) - CodeSize
	return sealed[:at:at], sealed[at:], nil
}

// CheckValues returns those of the keys, in their order.
func (r *Record) CheckValues() []string {
	values := make([]string, len(r.Keys))
	for i := range r.Keys {
		values[i] = r.Keys[i].CheckValue
	}
	return values
}

func (r *Record) valid() bool {
	if !lowerHex(r.Injection, 2*IDSize) || !lowerHex(r.Device, 2*sha256.Size) || r.Terminal == "" || len(r.Terminal) > 64 || r.Host == "" || r.At <= 0 ||
		r.Method != ByAgreement && r.Method != ByTwoPass && r.Method != ByOnePass || len(r.Keys) < 2 || len(r.Keys) > MaxKeys {
		return false
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		initial := i >= 2
		switch {
		case !ValidCheckValue(k.CheckValue) || k.Name == "" || len(k.Usage) != 2 || len(k.Algorithm) != 1 || k.Length == 0:
			return false
		case initial != (k.BDK != "") || initial != (k.BDKVersion != 0) || initial != (k.ID != "") || initial == (k.Header != ""):
			return false
		case i == 0 && k.Name != MasterName || i == 1 && k.Name != ReceiptName:
			return false
		}
	}
	return true
}

// ValidCheckValue reports whether a text is six upper-case hex digits.
func ValidCheckValue(s string) bool {
	return len(s) == 6 && strings.Trim(s, "0123456789ABCDEF") == ""
}

func lowerHex(s string, digits int) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == digits && s == strings.ToLower(s)
}
