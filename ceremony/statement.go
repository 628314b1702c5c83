package ceremony

import (
	"crypto"
	"errors"
	"fmt"
)

// Action is what an officer states.
type Action string

// The actions.
const (
	Begin   Action = "begin"   // open a ceremony for this definition
	Submit  Action = "submit"  // this is my component
	Approve Action = "approve" // do it
	Abort   Action = "abort"   // do not do it
)

// Statement is what an officer signs. It binds everything that the officer has seen, so
// that it says nothing about any other ceremony.
type Statement struct {
	Action     Action   `json:"action"`
	Officer    string   `json:"officer"`
	Definition string   `json:"definition"`            // digest of the officer's own copy
	Identity   string   `json:"identity"`              // fingerprint of the module's signing key
	Roster     string   `json:"roster"`                // fingerprint of the roster
	Opening    string   `json:"opening,omitempty"`     // digest of the module's opening; Begin has none
	Index      int      `json:"index,omitempty"`       // Submit: of the component, from 1
	Component  string   `json:"component,omitempty"`   // Submit: digest of the component as sealed to the ceremony's key
	CheckValue string   `json:"check_value,omitempty"` // Submit: of the component; Approve: of the whole key, where there is one
	Components []string `json:"components,omitempty"`  // Approve: digests of the statements that submitted components, in their order
	Time       int64    `json:"time"`
}

// Sign signs the statement with the officer's key.
func (s *Statement) Sign(signer crypto.Signer) (Signed, error) {
	encoded, err := Encode(s)
	if err != nil {
		return Signed{}, err
	}
	signature, err := Sign(signer, ByOfficer, encoded)
	return Signed{Document: encoded, Signature: signature}, err
}

// Errors of statements.
var (
	ErrOfficer  = errors.New("no officer of the roster has that name")
	ErrMismatch = errors.New("the statement is about something else")
)

// Statement checks a signed statement against the roster and returns it with its officer.
// Errors are [ErrDocument], [ErrOfficer], [ErrSignature].
func (r *Roster) Statement(signed Signed) (*Statement, *Officer, error) {
	s, err := Decode[Statement](signed.Document, MaxDocument)
	if err != nil {
		return nil, nil, err
	}
	o := r.Officer(s.Officer)
	if o == nil {
		return nil, nil, ErrOfficer
	}
	key, err := o.Verifier()
	if err != nil {
		return nil, nil, err
	}
	if err := Verify(key, ByOfficer, signed.Document, signed.Signature); err != nil {
		return nil, nil, err
	}
	return s, o, nil
}

// About checks that a statement is of an action and about this opening; it says which part
// is not. The error wraps [ErrMismatch].
func (s *Statement) About(action Action, o *Opening, openingDigest string) error {
	for _, part := range []struct {
		what    string
		differs bool
	}{
		{"action", s.Action != action},
		{"definition", s.Definition != o.Definition},
		{"identity", s.Identity != o.Identity},
		{"roster", s.Roster != o.Roster},
		{"ceremony", s.Opening != openingDigest},
	} {
		if part.differs {
			return fmt.Errorf("%w: another %s", ErrMismatch, part.what)
		}
	}
	return nil
}
