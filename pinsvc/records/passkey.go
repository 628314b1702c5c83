package records

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"

	"keyd/fault"
	"keyd/passkey"
	"keyd/pinrecord"
	"keyd/store"
	"keyd/voidtoken"
)

// Passkey is what a module is asked to verify an assertion with. Whoever has one asks a module once and
// then calls [Passkey.Settle]. No try is counted: nobody guesses a signature.
type Passkey struct {
	Record []byte // sealed pinrecord.PasskeyRecord
	Name   string // of its owner; what it is for a subject that has none, only keyd knows

	decoy bool
}

// nobody is the name of who has no passkey.
const nobody = "nobody"

// Passkey returns the live passkey of the subject with a digest, for a void, at origin. Of a subject that
// has none, or may not approve this void, the record is one that no module has sealed; see
// [Service.Attempt].
func (s *Service) Passkey(ctx context.Context, subject []byte, f *voidtoken.Fields, origin string) (*Passkey, error) {
	if s.modules.Attached() == 0 {
		return nil, fault.New(fault.ModuleUnavailable, "")
	}
	r, err := s.store.PINRecord(ctx, subject)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, refused(ctx, err)
	}
	p := &Passkey{Name: nobody}
	if err == nil && r.Kind == string(pinrecord.Passkey) {
		whose := s.record(&r).Subject
		p.Name = whose.Name
		if r.Usable(s.now()) && whose.Serves(f) {
			p.Record = r.Record
			return p, nil
		}
	}
	p.decoy = true
	p.Record, err = decoyPasskey(f.Merchant, origin)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err)
	}
	return p, nil
}

// Settle says what may be told of what a module has answered. A record that is dead, and one that never
// was, are answered like an assertion that is wrong.
func (p *Passkey) Settle(verified bool, err error) (bool, error) {
	if wrong(err, p.decoy) {
		return false, nil
	}
	return err == nil && verified && !p.decoy, err
}

// decoyPasskey makes a record that a module has to look at and refuses.
func decoyPasskey(merchant, origin string) ([]byte, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	public, err := private.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	var random [passkey.MinID + pinrecord.MACSize]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, err
	}
	r := pinrecord.PasskeyRecord{
		Subject: pinrecord.Subject{Kind: pinrecord.Passkey, Merchant: merchant, Name: nobody}, Version: 1,
		Credential: passkey.Credential{ID: random[:passkey.MinID], Public: public, Origin: origin},
	}
	body, err := r.Encode()
	return append(body, random[passkey.MinID:]...), err
}

// SubjectSize is the size of a subject's digest, in bytes: the user handle of a passkey.
const SubjectSize = sha256.Size
