package ceremony

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
)

// Record is a module's account of a ceremony that it carried out: all papers, and what
// came of it. The module signs it with its identity; it can be verified anywhere.
type Record struct {
	Proceedings
	Roster  []byte  `json:"roster"` // encoded
	Outcome Outcome `json:"outcome"`
	Time    int64   `json:"time"`
}

// Outcome is what came of a ceremony.
type Outcome struct {
	Epoch      uint64  `json:"epoch"`                 // version of the epoch that begins with it
	Document   string  `json:"document,omitempty"`    // its digest, as the module's identity names it once it is pinned; Init has none
	Key        *KeyRef `json:"key,omitempty"`         //
	Usage      string  `json:"usage,omitempty"`       //
	CheckValue string  `json:"check_value,omitempty"` //
	Header     string  `json:"header,omitempty"`      // digest of the key's header, see HeaderDigest
	Block      string  `json:"block,omitempty"`       // Export: digest of the key block
	Masters    string  `json:"masters,omitempty"`     // Init, Masters: their check value
}

// MaxRecord bounds an encoded record, in bytes.
const MaxRecord = 256 << 10

// ErrRecord is returned for a record that contradicts itself.
var ErrRecord = errors.New("the record contradicts itself")

// VerifyRecord checks a record as somebody who has nothing else can: the module's signature
// on it, every officer's signature under the roster in it, that each is about this ceremony,
// and that they were enough by that roster. Whose the identity is, is for who pinned its
// fingerprint to say; the record names it in its opening.
func VerifyRecord(identity *ecdsa.PublicKey, signed Signed) (*Record, *Checked, error) {
	if err := Verify(identity, OfRecord, signed.Document, signed.Signature); err != nil {
		return nil, nil, err
	}
	r, err := Decode[Record](signed.Document, MaxRecord)
	if err != nil {
		return nil, nil, err
	}
	roster, err := Decode[Roster](r.Roster, MaxDocument)
	if err != nil {
		return nil, nil, err
	}
	if err := roster.Validate(); err != nil {
		return nil, nil, err
	}
	c, err := r.Check(identity, roster, r.Time)
	if err != nil {
		return nil, nil, err
	}
	if m := c.Missing(); m != (Need{}) {
		return nil, nil, fmt.Errorf("%w: %d components and %d approvals are missing", ErrRecord, m.Components, m.Approvals)
	}
	usage := r.Outcome.Usage
	if c.Definition.Key != nil {
		usage = c.Definition.Key.Usage
	}
	if least := roster.Quorum.Need(c.Definition, usage, false); c.Opening.Need.Components < least.Components || c.Opening.Need.Approvals < least.Approvals {
		return nil, nil, fmt.Errorf("%w: its roster demands more officers than took part", ErrRecord)
	}
	if r.Time < c.Opening.Opened {
		return nil, nil, fmt.Errorf("%w: it ended before it began", ErrRecord)
	}
	approved := ""
	if len(c.Approvals) > 0 {
		approved = c.Approvals[0].CheckValue
	}
	if err := c.CheckApprovals(approved); err != nil {
		return nil, nil, err
	}
	if approved != "" && r.Outcome.CheckValue != "" && approved != r.Outcome.CheckValue {
		return nil, nil, fmt.Errorf("%w: another check value than was approved", ErrRecord)
	}
	return r, c, nil
}
