package pinrecord

import (
	"keyd/ceremony"
	"keyd/passkey"
)

// PasskeyRecord is by what a supervisor's passkey is verified. Its subject has the kind [Passkey], and
// versions as those of PINs: the next one is the end of the one before.
type PasskeyRecord struct {
	Subject Subject `json:"subject"`
	Version uint32  `json:"version"` // from 1
	passkey.Credential
}

// Encode returns the one encoding of a record. The error is [ErrRecord].
func (r *PasskeyRecord) Encode() ([]byte, error) {
	if !r.valid() {
		return nil, ErrRecord
	}
	return ceremony.Encode(r)
}

// ParsePasskey reads a sealed record of a passkey as [Parse] does.
func ParsePasskey(sealed []byte) (r *PasskeyRecord, body, mac []byte, err error) {
	if body, mac, err = split(sealed); err != nil {
		return nil, nil, nil, err
	}
	if r, err = ceremony.Decode[PasskeyRecord](body, MaxRecord); err != nil || !r.valid() {
		return nil, nil, nil, ErrRecord
	}
	return r, body, mac, nil
}

func (r *PasskeyRecord) valid() bool {
	return r.Subject.Validate() == nil && r.Subject.Kind == Passkey && r.Version >= 1 && r.Version <= MaxVersion && r.Credential.Valid()
}
