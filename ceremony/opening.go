package ceremony

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
)

// Opening is a module's word that a ceremony is open, and the key to which components are
// sealed. The module signs it with its identity.
type Opening struct {
	ID         string `json:"id"`                    // 32 lower-case hex digits
	Kind       Kind   `json:"kind"`                  //
	Definition string `json:"definition"`            // digest
	Identity   string `json:"identity"`              // fingerprint of the module's signing key
	Roster     string `json:"roster"`                // fingerprint of the roster at that moment
	Epoch      uint64 `json:"epoch"`                 // version of the epoch at that moment
	Need       Need   `json:"need"`                  // how many officers it takes
	Key        []byte `json:"key,omitempty"`         // HPKE public key for components, see [SealComponent]
	CheckValue string `json:"check_value,omitempty"` // of the key, where it is known before any component: Import, Attach
	Opened     int64  `json:"opened"`
	Expires    int64  `json:"expires"`
	Officer    string `json:"officer"` // who began it
}

// IDSize is the length of a ceremony's identifier, in hex digits.
const IDSize = 32

// ValidID reports whether a text is a ceremony's identifier.
func ValidID(s string) bool { return len(s) == IDSize && lowerHex(s) }

// ErrOpening is returned for what is no opening of this module for this definition.
var ErrOpening = errors.New("this is no opening of the module for this definition")

// ParseOpening checks the module's signature on an opening and returns it with its digest.
// Errors are [ErrDocument], [ErrSignature] and [ErrOpening], of an opening of another module.
func ParseOpening(identity *ecdsa.PublicKey, signed Signed) (*Opening, string, error) {
	o, err := Decode[Opening](signed.Document, MaxDocument)
	if err != nil {
		return nil, "", err
	}
	if err := Verify(identity, OfOpening, signed.Document, signed.Signature); err != nil {
		return nil, "", err
	}
	fingerprint, err := KeyFingerprint(identity)
	if err != nil {
		return nil, "", err
	}
	if o.Identity != fingerprint || !ValidID(o.ID) || !validDigest(o.Definition) || !validDigest(o.Roster) {
		return nil, "", fmt.Errorf("%w: of another module", ErrOpening)
	}
	return o, Digest(signed.Document), nil
}

// Identity is what a module says of itself, signed with the key that it names.
type Identity struct {
	Key         []byte `json:"key"`        // SubjectPublicKeyInfo in DER
	Roster      []byte `json:"roster"`     // the encoded roster
	Epoch       uint64 `json:"epoch"`      // its version
	Document    string `json:"document"`   // digest of the epoch document
	Generation  uint32 `json:"generation"` // of the master keys
	Masters     string `json:"masters"`    // their check value
	Development bool   `json:"development,omitempty"`
	Time        int64  `json:"time"`
}

// ParseIdentity checks what a module says of itself, and returns it with its key and roster.
// That it is the right module is for who pinned its key's fingerprint to say.
func ParseIdentity(signed Signed) (*Identity, *ecdsa.PublicKey, *Roster, error) {
	i, err := Decode[Identity](signed.Document, MaxDocument)
	if err != nil {
		return nil, nil, nil, err
	}
	key, err := ParseKey(i.Key)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := Verify(key, OfIdentity, signed.Document, signed.Signature); err != nil {
		return nil, nil, nil, err
	}
	r, err := Decode[Roster](i.Roster, MaxDocument)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := r.Validate(); err != nil {
		return nil, nil, nil, err
	}
	return i, key, r, nil
}
