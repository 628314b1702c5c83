package records

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"

	"keyd/fault"
	"keyd/hsm"
	"keyd/keyuse"
	"keyd/passkey"
	"keyd/pinrecord"
	"keyd/store"
)

// Typed is what was typed on a phone: its point, and a block of ISO 9564-1 format 4 (package pinrecord).
type Typed struct{ Point, Block []byte }

// under is the entry with the key pair with which the phone has agreed on a key.
func (t *Typed) under(page hsm.Key) hsm.RecordBlock {
	return hsm.RecordBlock{Key: hsm.PINKey{Key: page, Format: hsm.Format4}, Block: t.Block, Phone: t.Point}
}

// NewPasskey is what a browser answered when a passkey was made, and the code that was typed for it.
type NewPasskey struct {
	Code                          Typed
	ClientData, AuthenticatorData []byte
}

// Enrolment is what is set by a link.
type Enrolment struct {
	Record   *Record
	Approval [sha256.Size]byte // digest of what approvers have approved
}

var linkEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// LinkOf names what an approval has begun, for who sets it on a phone: the first 16 bytes of its digest in
// base32 (RFC 4648), 26 characters. Nobody guesses it, and it gives no right: the code does.
func LinkOf(approval []byte) string { return linkEncoding.EncodeToString(approval[:store.PINLink]) }

// Enrolment returns what is set by a link. [fault.PINRecordNotFound] for a link of nothing, also where
// another version was begun; [fault.PINRecordState] where nothing can be set by it any more.
func (s *Service) Enrolment(ctx context.Context, link string) (*Enrolment, error) {
	r, err := s.linked(ctx, link)
	if err != nil {
		return nil, err
	}
	if err := s.settable(r); err != nil {
		return nil, err
	}
	return s.enrolment(r), nil
}

func (s *Service) enrolment(r *store.PINRecord) *Enrolment {
	return &Enrolment{s.record(r), [sha256.Size]byte(r.Approval)}
}

// parseLink reads what [LinkOf] has written.
func parseLink(link string) ([]byte, error) {
	name, err := linkEncoding.DecodeString(link)
	if err != nil || len(name) != store.PINLink || linkEncoding.EncodeToString(name) != link {
		return nil, fault.New(fault.PINRecordNotFound, "")
	}
	return name, nil
}

func (s *Service) linked(ctx context.Context, link string) (*store.PINRecord, error) {
	name, err := parseLink(link)
	if err != nil {
		return nil, err
	}
	r, err := s.store.PINRecordOfLink(ctx, name)
	if err != nil {
		return nil, refused(ctx, err)
	}
	return &r, nil
}

// settable says why nothing can be set by a link, to who has it.
func (s *Service) settable(r *store.PINRecord) error {
	switch {
	case r.Settable(s.now()):
		return nil
	case !r.State.Pending():
		return ended("it was set by this link, or revoked")
	case len(r.Pending) == 0:
		return fault.New(fault.Conflict, "it is just being begun")
	case r.CodeTriesLeft == 0:
		return ended("the tries of the code are used up: approvers begin another")
	}
	return ended("the code's time is over: approvers begin another")
}

// SetPINOnPhone sets the supervisor's PIN that a link is for, if the code is right. page is the key pair
// with which phones agree. A wrong code is an answer, and costs a try. The same request again, when the
// PIN is set, has the same answer. Refusals are those of [Service.Enrolment], and of [Service.Set].
func (s *Service) SetPINOnPhone(ctx context.Context, actor, link string, page hsm.Key, code, pin Typed) (verified bool, err error) {
	request := requestOf("keyd phone sets pin 1", link, code.Point, code.Block, pin.Point, pin.Block)
	check := func(*Enrolment) error {
		if err := keyuse.CheckPhone(code.Point, code.Block); err != nil {
			return err
		}
		return keyuse.CheckPhone(pin.Point, pin.Block)
	}
	return s.setOnPhone(ctx, actor, link, pinrecord.Supervisor, request, check, func(pending []byte, datum hsm.Key) (hsm.SetRecord, error) {
		return s.modules.SetPIN(ctx, hsm.SetPIN{Pending: pending, DatumKey: datum, Code: code.under(page), PIN: pin.under(page)})
	})
}

// SetPasskeyOnPhone sets the passkey that a link is for, which was made at origin, likewise.
func (s *Service) SetPasskeyOnPhone(ctx context.Context, actor, link, origin string, page hsm.Key, p NewPasskey) (verified bool, err error) {
	request := requestOf("keyd phone sets passkey 1", link, p.Code.Point, p.Code.Block, p.ClientData, p.AuthenticatorData)
	check := func(e *Enrolment) error {
		if _, err := passkey.Register(p.ClientData, p.AuthenticatorData, pinrecord.PasskeyChallenge(e.Approval, &e.Record.Subject), origin); err != nil {
			return keyuse.Invalid(err.Error())
		}
		return keyuse.CheckPhone(p.Code.Point, p.Code.Block)
	}
	return s.setOnPhone(ctx, actor, link, pinrecord.Passkey, request, check, func(pending []byte, datum hsm.Key) (hsm.SetRecord, error) {
		return s.modules.SetPasskey(ctx, hsm.SetPasskey{
			Pending: pending, DatumKey: datum, Code: p.Code.under(page), ClientData: p.ClientData, AuthenticatorData: p.AuthenticatorData, Origin: origin,
		})
	})
}

// setOnPhone sets what a link is for, unless check refuses it: what a module would refuse without having compared
// anything costs no try, so that whoever has a link could go on with it.
func (s *Service) setOnPhone(ctx context.Context, actor, link string, kind pinrecord.Kind, request []byte, check func(*Enrolment) error, ask func(pending []byte, datum hsm.Key) (hsm.SetRecord, error)) (bool, error) {
	r, err := s.linked(ctx, link)
	if err != nil {
		return false, err
	}
	subject := &s.record(r).Subject
	about(s.used.Entry(ctx), Summary(subject))
	if r.Kind != string(kind) {
		return false, keyuse.Invalid("what the link is for is set in another way")
	}
	end, err := s.Turn(ctx, subject) // the same that came twice costs one try of the code
	if err != nil {
		return false, err
	}
	defer end()
	if r, err = s.linked(ctx, link); err != nil { // who has waited looks again
		return false, err
	}
	if done, err := s.setBefore(ctx, r, request); done || err != nil {
		return done, err
	}
	if err := s.settable(r); err != nil {
		return false, err
	}
	if err := check(s.enrolment(r)); err != nil {
		return false, err
	}
	if s.modules.Attached() == 0 {
		return false, fault.New(fault.ModuleUnavailable, "")
	}
	taken, ok, err := s.store.TakePINCode(ctx, r.Subject, s.now())
	switch {
	case err != nil:
		return false, refused(ctx, err)
	case !ok: // somebody else was quicker
		return false, fault.New(fault.Conflict, "look again what can be set")
	case !bytes.Equal(taken.Approval, r.Approval): // a try of another code: nothing is compared
		keep, cancel := afterwards(ctx)
		defer cancel()
		if err := s.store.GivePINCode(keep, taken); err != nil {
			return false, refused(keep, err)
		}
		return false, fault.New(fault.PINRecordNotFound, "")
	}
	event := EventSet
	if kind == pinrecord.Passkey {
		event = EventPasskeySet
	}
	e := s.event(event, actor, "on a phone")
	e.Request = request
	verified, err := s.setTaken(ctx, &taken, e, ask)
	if err != nil && ctx.Err() == nil { // the same at another host, at the same moment
		if done, e := s.setBefore(ctx, r, request); done && e == nil {
			return true, nil
		}
	}
	return verified, err
}

// setBefore reports whether a request has set what its link is for.
func (s *Service) setBefore(ctx context.Context, r *store.PINRecord, request []byte) (bool, error) {
	e, err := s.store.PINEventOfRequest(ctx, request)
	if err != nil {
		if err = refused(ctx, err); ctx.Err() == nil && fault.Of(err).Reason == fault.PINRecordNotFound {
			err = nil
		}
		return false, err
	}
	return bytes.Equal(e.Subject, r.Subject), nil
}

// requestOf is the digest by which what was sent from a phone is known again. What is enciphered there is
// enciphered with random bytes, so nobody else sends the same.
func requestOf(what, link string, parts ...[]byte) []byte {
	b := append(append([]byte(what), 0), link...)
	for _, p := range parts {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...)
	}
	digest := sha256.Sum256(b)
	return digest[:]
}
