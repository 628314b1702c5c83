package officer

import (
	"errors"
	"fmt"

	"keyd/ceremony"
)

// RecordFile is a record as it is kept outside: with the module's public key, so that
// nothing else is needed to verify it but the fingerprint of that key.
type RecordFile struct {
	Identity []byte          `json:"identity"` // SubjectPublicKeyInfo in DER
	Record   ceremony.Signed `json:"record"`
}

// maxRecordFile bounds it, in bytes: base64 of a record.
const maxRecordFile = 2 * ceremony.MaxRecord

// RecordFile returns the record of a completed ceremony for a file.
func (p *Papers) RecordFile(m *Module) ([]byte, error) {
	if p.Record == nil {
		return nil, errors.New("the ceremony has no record: it was not carried out")
	}
	return EncodeRecordFile(m.Said.Key, p.record)
}

// EncodeRecordFile returns the file of a record.
func EncodeRecordFile(identity []byte, record ceremony.Signed) ([]byte, error) {
	b, err := ceremony.Encode(&RecordFile{identity, record})
	return append(b, '\n'), err
}

// Account is a record that was verified.
type Account struct {
	*ceremony.Record
	Checked  *ceremony.Checked
	Officers *ceremony.Roster
	Identity Fingerprint // of the module that signed it
	Roster   Fingerprint
}

// VerifyRecordFile verifies a record as somebody who has nothing else but the fingerprint
// of the module's identity.
func VerifyRecordFile(text []byte, identity Fingerprint) (*Account, error) {
	a, err := parseRecordFile(text)
	if err != nil {
		return nil, err
	}
	if !a.Identity.Equal(identity) {
		return nil, fmt.Errorf("the record is by another module\n  expected  %s\n  signed by %s\nit proves nothing about yours", identity, a.Identity)
	}
	return a, nil
}

func parseRecordFile(text []byte) (*Account, error) {
	if len(text) > maxRecordFile {
		return nil, errors.New("this is no record: it is too long")
	}
	f, err := ceremony.Decode[RecordFile](trimNewline(text), maxRecordFile)
	if err != nil {
		return nil, errors.New("this is no record as keyd ceremony show --record writes it")
	}
	key, err := ceremony.ParseKey(f.Identity)
	if err != nil {
		return nil, fmt.Errorf("the record names no identity: %w", err)
	}
	record, checked, err := ceremony.VerifyRecord(key, f.Record)
	if err != nil {
		return nil, fmt.Errorf("the record is not valid: %w", err)
	}
	a := &Account{Record: record, Checked: checked}
	// VerifyRecord has decoded it before.
	if a.Officers, err = ceremony.Decode[ceremony.Roster](record.Roster, ceremony.MaxDocument); err != nil {
		return nil, err
	}
	if a.Identity, err = ParseFingerprint(ceremony.Digest(f.Identity)); err != nil {
		return nil, err
	}
	a.Roster, err = ParseFingerprint(ceremony.Digest(record.Roster))
	return a, err
}

// Brings checks that the record is of the change from one roster to another: the officers
// of the first one, whom somebody trusts, have signed for the second.
func (a *Account) Brings(from, to Fingerprint) error {
	if a.Checked.Definition.Kind != ceremony.Change {
		return fmt.Errorf("the record is of a ceremony of kind %s; a roster comes by one of kind change", a.Checked.Definition.Kind)
	}
	digest, err := a.Checked.Definition.Roster.Fingerprint()
	if err != nil {
		return err
	}
	brought, err := ParseFingerprint(digest)
	switch {
	case err != nil:
		return err
	case !a.Roster.Equal(from):
		return fmt.Errorf("the record changes another roster than the one that you confirmed\n  confirmed %s\n  changed   %s\nif the roster was changed several times, give the records one after the other", from, a.Roster)
	case !brought.Equal(to):
		return fmt.Errorf("the record brings another roster than the one that the module has\n  record %s\n  module %s", brought, to)
	}
	return nil
}

func trimNewline(text []byte) []byte {
	if n := len(text); n > 0 && text[n-1] == '\n' {
		return text[:n-1]
	}
	return text
}
