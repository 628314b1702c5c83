package pinrecord

import (
	"errors"
	"strings"

	"keyd/ceremony"
)

// Limits of records.
const (
	MaxRecord = 2048 // bytes, without the modules' MAC
	MACSize   = 16   // bytes of the modules' MAC behind a record
	DatumSize = 16   // bytes
)

// ErrRecord is returned for bytes that are no record, or no pending one.
var ErrRecord = errors.New("malformed PIN record")

// DatumKey names the key that makes a record's datum: a V0 key of officers' (AES). The modules make
// sure by the fingerprint that it is the same one.
type DatumKey struct {
	Name        string `json:"name"`
	Version     uint32 `json:"version"`
	Fingerprint string `json:"fingerprint"` // 32 upper-case hex digits
}

func (k *DatumKey) valid() bool {
	return k.Name != "" && len(k.Name) <= 128 && k.Version != 0 && len(k.Fingerprint) == 32 && strings.Trim(k.Fingerprint, "0123456789ABCDEF") == ""
}

// Record is by what a subject's PIN is verified.
type Record struct {
	Subject Subject  `json:"subject"`
	Version uint32   `json:"version"` // from 1
	Key     DatumKey `json:"key"`
	Length  uint8    `json:"length"` // digits of the PIN
	Datum   string   `json:"datum"`  // 32 lower-case hex digits
}

// Pending is a record that has no PIN yet: its subject sets it, who is given a code.
type Pending struct {
	Subject  Subject  `json:"subject"`
	Version  uint32   `json:"version"`
	Approval string   `json:"approval"` // digest of the approval, 64 lower-case hex digits
	Key      DatumKey `json:"key"`      // of the code's datum
	Code     string   `json:"code"`     // datum of the code, 32 lower-case hex digits
	NotAfter int64    `json:"not_after"`
}

// Encode returns the one encoding of a record. The error is [ErrRecord].
func (r *Record) Encode() ([]byte, error) {
	if !r.valid() {
		return nil, ErrRecord
	}
	return ceremony.Encode(r)
}

// Encode returns the one encoding of a pending record. The error is [ErrRecord].
func (p *Pending) Encode() ([]byte, error) {
	if !p.valid() {
		return nil, ErrRecord
	}
	return ceremony.Encode(p)
}

// Parse reads a sealed record and returns the modules' MAC besides, which only a module can
// verify. It accepts nothing but what a module seals. The error is [ErrRecord].
func Parse(sealed []byte) (r *Record, body, mac []byte, err error) {
	if body, mac, err = split(sealed); err != nil {
		return nil, nil, nil, err
	}
	if r, err = ceremony.Decode[Record](body, MaxRecord); err != nil || !r.valid() {
		return nil, nil, nil, ErrRecord
	}
	return r, body, mac, nil
}

// ParsePending reads a sealed pending record likewise.
func ParsePending(sealed []byte) (p *Pending, body, mac []byte, err error) {
	if body, mac, err = split(sealed); err != nil {
		return nil, nil, nil, err
	}
	if p, err = ceremony.Decode[Pending](body, MaxRecord); err != nil || !p.valid() {
		return nil, nil, nil, ErrRecord
	}
	return p, body, mac, nil
}

func split(sealed []byte) (body, mac []byte, err error) {
	at := len(sealed) - MACSize
	if at <= 0 || at > MaxRecord {
		return nil, nil, ErrRecord
	}
	return sealed[:at:at], sealed[at:], nil
}

func (r *Record) valid() bool {
	return r.Subject.Validate() == nil && r.Subject.Kind != Passkey && r.Version >= 1 && r.Version <= MaxVersion && r.Key.valid() &&
		int(r.Length) >= r.Subject.MinPIN() && r.Length <= MaxPIN && lowerHex(r.Datum, DatumSize)
}

func (p *Pending) valid() bool {
	return p.Subject.Validate() == nil && p.Version >= 1 && p.Version <= MaxVersion && p.Key.valid() &&
		lowerHex(p.Approval, 32) && lowerHex(p.Code, DatumSize) && p.NotAfter > 0
}
