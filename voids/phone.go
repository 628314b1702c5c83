package voids

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/keyuse"
	"keyd/passkey"
	"keyd/pinrecord"
	"keyd/policies"
	"keyd/store"
	"keyd/voids/code"
	"keyd/voids/flow"
	"keyd/voidtoken"
)

// What is done on phones, as events and the audit log name it.
const (
	ActionByPasskey = "Page/ApproveByPasskey"
	ActionByPIN     = "Page/ApproveByPIN"
)

// OnPhone is a void as a phone may show it.
type OnPhone struct {
	Void    *Void
	PaidAt  time.Time
	Expires time.Time // the code
	Passkey bool      // it may be approved by a passkey
	PIN     bool      // it may be approved by a supervisor's PIN, here
	Key     *PageKey  // with PIN
}

// ByPasskey is an assertion over a void, and whose it is.
type ByPasskey struct {
	passkey.Assertion
	User []byte // digest of the subject
}

// ByPIN is a supervisor's PIN that was typed on a phone for a void (package pinrecord).
type ByPIN struct {
	Name         string
	OfTerminal   bool // a supervisor of the void's terminal, else of its merchant
	Point, Block []byte
}

// shown is a code that is genuine, with the void that it is for.
type shown struct {
	record *store.VoidRecord
	expiry time.Time
	over   error // why it is not good any more, or nil
	by     *codePair
}

// shown reads a code that somebody has scanned with a phone, who claims to be nobody: whether a code is
// genuine is all that he has to show. What is not gets one answer, and the audit log has the reason.
func (s *Service) shown(ctx context.Context, settings *policies.Voids, text string) (*shown, error) {
	general := func(why error) (*shown, error) { return nil, s.codeRefused(ctx, false, why) }
	p, err := code.Scan(text, settings.CodeHost)
	if err != nil {
		return general(err)
	}
	pairs, err := s.codePairs(ctx, settings)
	if err != nil {
		return nil, err
	}
	why := code.ErrUnknownKey
	for i := range pairs {
		known, err := keysOf(code.NewKeys(pairs[i].public))
		if err != nil {
			return nil, err
		}
		c, err := p.Authentic(known)
		if err != nil {
			if !errors.Is(err, code.ErrUnknownKey) {
				why = err
			}
			continue
		}
		r, err := s.Store.VoidOfCode(ctx, c.Identifier[:])
		switch {
		case errors.Is(err, store.ErrNotFound):
			return general(errors.New("its void is not known here"))
		case err != nil:
			return nil, refused(ctx, err)
		}
		return &shown{&r, c.Expiry, c.CheckTime(s.now()), &pairs[i]}, nil
	}
	return general(why)
}

// Look returns what a code is for. Nothing changes. A code that is genuine and over is
// [fault.VoidCodeRefused] with a reason, any other that cannot be used without one. Of a void that is
// past its code nothing may be approved.
func (s *Service) Look(ctx context.Context, text string) (*OnPhone, error) {
	settings, err := s.phones(ctx)
	if err != nil {
		return nil, err
	}
	found, err := s.shown(ctx, settings, text)
	if err != nil {
		return nil, err
	}
	if found.over != nil {
		return nil, s.codeRefused(ctx, true, found.over)
	}
	now := s.now()
	r, standing, err := s.Store.VoidStanding(ctx, found.record.ID, today(settings, found.record.Merchant, now))
	if err != nil {
		return nil, refused(ctx, err)
	}
	answer := &OnPhone{PaidAt: r.PaidAt, Expires: found.expiry}
	if due(&r, now) {
		answer.Void, err = s.expire(ctx, &r)
	} else {
		answer.Void, err = seen(&r)
	}
	if err != nil {
		return nil, err
	}
	s.note(ctx, answer.Void)
	if answer.Void.State != flow.Created {
		return answer, nil
	}
	decision := flow.Decide(rulesOf(settings), answer.Void.Fields, paymentOfRecord(&r).facts(standing), now.Unix())
	for _, set := range decision.Methods {
		answer.Passkey = answer.Passkey || len(set) == 1 && set[0] == voidtoken.PhonePasskey
		answer.PIN = answer.PIN || len(set) == 1 && set[0] == voidtoken.PhonePIN
	}
	if answer.PIN = answer.PIN && found.by.own; answer.PIN {
		answer.Key, err = s.pageKey(ctx, settings, found.by)
	}
	return answer, err
}

// paymentOfRecord is what is known of a payment when nobody is asked: what was said when the void was
// created, for which the payment was neither settled nor voided. The switch has the last word.
func paymentOfRecord(r *store.VoidRecord) *Payment {
	no := false
	p := &Payment{Merchant: r.Merchant, Amount: r.Amount, Currency: voidtoken.Currency(r.Currency), Settled: &no, Voided: &no}
	if !r.PaidAt.IsZero() {
		p.PaidAt = r.PaidAt.Unix()
	}
	return p
}

// ApproveByPasskey burns a code and authorises its void by a passkey, for actor, in one. An assertion
// that does not verify is an answer, costs the void a try, and leaves the code as it was. The same
// assertion again has the same answer.
func (s *Service) ApproveByPasskey(ctx context.Context, actor, text string, by ByPasskey) (*Authorized, error) {
	settings, err := s.phones(ctx)
	if err != nil {
		return nil, err
	}
	found, err := s.shown(ctx, settings, text)
	if err != nil {
		return nil, err
	}
	fields := fieldsOf(found.record)
	key, err := s.Records.Passkey(ctx, by.User, &fields, settings.Origin())
	if err != nil {
		return nil, err
	}
	a := s.authorizationOnPhone(actor, settings, found, ActionByPasskey, voidtoken.PhonePasskey, key.Owner())
	a.request = sent(by.User, by.ID, by.ClientData, by.AuthenticatorData, by.Signature)
	return a.onPhone(ctx, found, func(ctx context.Context, fields voidtoken.Fields, token hsm.Key, expires int64) (hsm.AuthorizedVoid, error) {
		answer, err := s.Modules.AuthorizeByPasskey(ctx, hsm.AuthorizeByPasskey{Fields: fields, ExpiresAt: expires, Record: key.Sealed(), Assertion: by.Assertion, TokenKey: token})
		verified, err := key.Settle(answer.Verified, err)
		if err != nil || !verified {
			return hsm.AuthorizedVoid{}, err
		}
		return answer, nil
	})
}

// ApproveByPIN burns a code and authorises its void by a supervisor's PIN likewise. A wrong one costs a
// try of the PIN, too. It is verified by the host whose pair has signed the code, under whose page key it
// was typed: at any other it costs no try, and is [fault.PolicyDenied].
func (s *Service) ApproveByPIN(ctx context.Context, actor, text string, by ByPIN) (*Authorized, error) {
	settings, err := s.phones(ctx)
	if err != nil {
		return nil, err
	}
	found, err := s.shown(ctx, settings, text)
	if err != nil {
		return nil, err
	}
	subject := &pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: found.record.Merchant, Name: by.Name}
	if by.OfTerminal {
		subject.Terminal = found.record.Terminal
	}
	if err := subject.Validate(); err != nil {
		return nil, keyuse.Invalid(strings.TrimPrefix(err.Error(), pinrecord.ErrSubject.Error()+": "))
	}
	if err := keyuse.CheckPhone(by.Point, by.Block); err != nil {
		return nil, err
	}
	page, err := s.page(ctx, settings)
	if err != nil {
		return nil, err
	}
	keyuse.Record(s.Used.Entry(ctx), page.Name, nil)
	a := s.authorizationOnPhone(actor, settings, found, ActionByPIN, voidtoken.PhonePIN, by.Name)
	a.request, a.subjects = sent([]byte(by.Name), []byte(subject.Terminal), by.Point, by.Block), []*pinrecord.Subject{subject}
	return a.onPhone(ctx, found, func(ctx context.Context, fields voidtoken.Fields, token hsm.Key, expires int64) (hsm.AuthorizedVoid, error) {
		if !found.by.own {
			return hsm.AuthorizedVoid{}, fault.Wrap(fault.PolicyDenied, errors.New("the code is another host's (voids.other_code_keys), which alone opens a PIN that a phone enciphers for it"))
		}
		pin := hsm.VoidPIN{Key: hsm.PINKey{Key: hsm.Key{Name: page.Name, Sealed: page.Sealed}, Format: hsm.Format4}, Block: by.Block, Phone: by.Point}
		s.Keys.Used(page)
		request := hsm.AuthorizeVoid{Fields: fields, ExpiresAt: expires, TokenKey: token, PINs: []hsm.VoidPIN{pin}}
		return s.attempt(ctx, actor, &Authorize{PINs: []PIN{{Subject: subject}}}, request)
	})
}

func (s *Service) authorizationOnPhone(actor string, settings *policies.Voids, found *shown, action string, method voidtoken.Method, who string) *authorization {
	return &authorization{
		Service: s, actor: actor, void: found.record.ID, settings: settings, payment: paymentOfRecord(found.record), action: action,
		by: []voidtoken.Authorization{{Method: method, Subject: who}},
	}
}

// onPhone is run behind a code. What was answered before is answered again although the code is burnt by
// it, or its time is over.
func (a *authorization) onPhone(ctx context.Context, found *shown, ask func(context.Context, voidtoken.Fields, hsm.Key, int64) (hsm.AuthorizedVoid, error)) (*Authorized, error) {
	answer, err := a.again(found.record)
	if answer != nil || err != nil {
		return a.noted(ctx, answer, err)
	}
	if found.over != nil {
		return nil, a.codeRefused(ctx, true, found.over)
	}
	return a.run(ctx, ask)
}

func fieldsOf(r *store.VoidRecord) voidtoken.Fields {
	return voidtoken.Fields{Void: r.ID, Merchant: r.Merchant, Terminal: r.Terminal, Reference: r.Reference, Amount: r.Amount, Currency: voidtoken.Currency(r.Currency)}
}

// sent is the identifier of what came from a phone.
func sent(parts ...[]byte) string {
	var b bytes.Buffer
	for _, p := range parts {
		_ = binary.Write(&b, binary.BigEndian, uint32(len(p))) // to a buffer it never fails
		b.Write(p)
	}
	digest := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(digest[:])
}
