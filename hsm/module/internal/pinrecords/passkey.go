package pinrecords

import (
	"crypto/elliptic"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/token"
	"keyd/passkey"
	"keyd/pinblock"
	"keyd/pinrecord"
	"keyd/voidtoken"
)

// sealedPasskey is a passkey's record that a module has made, unless its verdict says that none has.
type sealedPasskey struct {
	*pinrecord.PasskeyRecord
	verdict
	body []byte
}

func (r *sealedPasskey) version() ledger.Version {
	return ledger.Version{Subject: r.Subject.Digest(), Number: r.Version}
}

// shownPasskey returns a passkey's record with its verdict. What has not the form of one is an error.
func (e *Engine) shownPasskey(s *token.Session, sealed []byte) (*sealedPasskey, error) {
	parsed, body, mac, err := pinrecord.ParsePasskey(sealed)
	if err != nil {
		return nil, notOurs
	}
	r := &sealedPasskey{PasskeyRecord: parsed, body: body}
	r.verdict, err = e.authentic(s, ofPasskey, body, mac)
	return r, err
}

// SetPasskey sets the passkey of a pending record, if the code is right and was typed for this one.
func (e *Engine) SetPasskey(r hsm.SetPasskey) (answer hsm.SetRecord, err error) {
	counted := false
	err = e.do(func(s *token.Session) error {
		answer = hsm.SetRecord{}
		return e.setPasskey(s, &r, &counted, &answer)
	})
	if err != nil {
		return hsm.SetRecord{}, err
	}
	return answer, nil
}

func (e *Engine) setPasskey(s *token.Session, r *hsm.SetPasskey, counted *bool, answer *hsm.SetRecord) error {
	p, verdict, err := e.shownPending(s, r.Pending)
	if err != nil {
		return err
	}
	if p.Subject.Kind != pinrecord.Passkey || r.Code.Phone == nil {
		return fault.New(fault.RequestInvalid, "a passkey is one's who is enrolled for one, and is set on a phone")
	}
	if e.register.Now().Unix() >= p.NotAfter {
		verdict.refuse(fault.New(fault.ApprovalInvalid, pinrecord.ErrExpired.Error()))
	}
	version, approval := ledger.Version{Subject: p.Subject.Digest(), Number: p.Version}, device(p.Approval)
	made := pinrecord.PasskeyRecord{Subject: p.Subject, Version: p.Version}
	if made.Credential, err = passkey.Register(r.ClientData, r.AuthenticatorData, pinrecord.PasskeyChallenge(approval, &p.Subject), r.Origin); err != nil {
		return fault.New(fault.RequestInvalid, err.Error())
	}
	body, err := made.Encode()
	if err != nil {
		return err
	}
	key, err := e.datumKey(s, r.DatumKey, &p.Key)
	if err != nil {
		return err
	}
	defer key.Release()
	if err := verdict.asked(e.ledger.Pending(version, approval)); err != nil {
		return err
	}
	code, err := e.entry(s, &r.Code, &p.Subject, r.Demands, pinrecord.OfPasskey(approval, &p.Subject, r.AuthenticatorData))
	if err != nil {
		return err
	}
	count := func() error { return once(counted, func() bool { return e.tries.Code(version.Subject) }) }
	err = e.pins.Open(s, []pinops.Opening{code}, nil, count, func(pins []*pinblock.PIN, room []byte) error {
		datum, err := codeDatum(s, key.Object, room, pins[0], &p.Subject, p.Version, approval[:])
		answer.Verified = err == nil && verdict.live() && right(datum, p.Code, pins[0])
		return err
	})
	if err != nil || !answer.Verified {
		return verdict.or(err)
	}
	if _, err := e.ledger.Set(version, approval, digestOf(body)); err != nil {
		return ledger.Refusal(err)
	}
	answer.Record, err = e.seal(s, ofPasskey, body)
	return err
}

// AuthorizeByPasskey verifies a passkey over a void and signs its token. An assertion that is not this
// passkey's over this void is no error, whatever is wrong with it.
func (e *Engine) AuthorizeByPasskey(r hsm.AuthorizeByPasskey) (answer hsm.AuthorizedVoid, err error) {
	if err := r.Fields.Validate(); err != nil {
		return answer, fault.New(fault.RequestInvalid, err.Error())
	}
	err = e.do(func(s *token.Session) (err error) {
		answer, err = e.authorizeByPasskey(s, &r)
		return err
	})
	if err != nil {
		return hsm.AuthorizedVoid{}, err
	}
	return answer, nil
}

func (e *Engine) authorizeByPasskey(s *token.Session, r *hsm.AuthorizeByPasskey) (answer hsm.AuthorizedVoid, err error) {
	now := e.register.Now()
	if err := checkLife(now, r.ExpiresAt); err != nil {
		return answer, err
	}
	pair, err := e.signing(s, r.TokenKey, elliptic.P256(), elliptic.P384())
	if err != nil {
		return answer, err
	}
	record, err := e.shownPasskey(s, r.Record)
	if err != nil {
		return answer, err
	}
	if !record.Subject.Serves(&r.Fields) {
		return answer, fault.New(fault.RequestInvalid, "the passkey is of another merchant or terminal")
	}
	ask := e.ledger.Stands
	if !record.live() { // the ledger learns nothing from it
		ask = e.ledger.Standing
	}
	if err := record.asked(ask(record.version(), digestOf(record.body))); err != nil {
		return answer, err
	}
	digest, err := r.Fields.Digest()
	if err != nil {
		return answer, err
	}
	verified := record.Verify(&r.Assertion, pinrecord.VoidChallenge(digest)) == nil
	if !record.live() || !verified {
		return answer, record.refusal
	}
	answer.Token, err = voidtoken.Sign(s.Signer(pair), voidtoken.Token{
		Fields: r.Fields, Authorizations: []voidtoken.Authorization{{Method: voidtoken.PhonePasskey, Subject: record.Subject.Name}}, AuthorizedAt: now.Unix(), ExpiresAt: r.ExpiresAt,
	})
	answer.Verified = err == nil
	return answer, tokenRefusal(err)
}
