package server

import (
	"context"
	"errors"

	"keyd/fault"
	"keyd/pinrecord"
	"keyd/pinsvc/records"
	"keyd/voids"
	"keyd/voids/flow"
	"keyd/web"
)

// pages binds what phones ask to voids and PIN records.
type pages struct {
	phones  phones
	voids   *voids.Service
	records *records.Service
}

var _ web.Backend = pages{}

// Pages is what the pages on phones ask, as long as the server is there.
func (s *Server) Pages() web.Backend { return s.pages }

// Void implements [web.Backend].
func (b pages) Void(ctx context.Context, code string) (*web.Void, error) {
	return ask(ctx, &b.phones, pageVoid, func(ctx context.Context) (*web.Void, error) {
		seen, err := b.voids.Look(ctx, code)
		if err != nil {
			return nil, err
		}
		return pageVoidOf(seen)
	})
}

// pageVoidOf is a void as a phone shows it. Of one about which nothing can be done there it has the
// state alone: whoever finds a code that was used learns no more.
func pageVoidOf(seen *voids.OnPhone) (*web.Void, error) {
	v := seen.Void
	answer := &web.Void{State: string(v.State), ExpiresAt: seen.Expires, Next: nexts(v.Outcome.Next)}
	if v.State != flow.Created {
		return answer, nil
	}
	f := &v.Fields
	digits, _ := f.Currency.Exponent()
	answer.Merchant, answer.Terminal, answer.Reference = f.Merchant, f.Terminal, masked(f.Reference)
	answer.Amount, answer.Currency, answer.Digits, answer.PaidAt = f.Amount, f.Currency.Code(), digits, seen.PaidAt
	if !seen.Passkey && !seen.PIN {
		return answer, nil
	}
	digest, err := f.Digest()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err)
	}
	challenge := pinrecord.VoidChallenge(digest)
	answer.Digest, answer.Challenge, answer.Passkey, answer.PIN = digest[:], challenge[:], seen.Passkey, seen.PIN
	answer.Key, answer.CodeKey = pageKeyOf(seen.Key)
	return answer, nil
}

// masked leaves the last four characters of a reference.
func masked(reference string) string {
	const shown = 4
	if len(reference) <= shown {
		return reference
	}
	return "…" + reference[len(reference)-shown:]
}

func nexts(list []flow.Next) []string {
	out := make([]string, 0, len(list))
	for _, n := range list {
		out = append(out, string(n))
	}
	return out
}

func pageKeyOf(k *voids.PageKey) (*web.PageKey, []byte) {
	if k == nil {
		return nil, nil
	}
	return &web.PageKey{Point: k.Point, ExpiresAt: k.Expires.Unix(), Signature: k.Signature}, k.Signer
}

// ApproveByPasskey implements [web.Backend].
func (b pages) ApproveByPasskey(ctx context.Context, code string, a web.ByPasskey) (*web.Outcome, error) {
	return ask(ctx, &b.phones, pagePasskey, func(ctx context.Context) (*web.Outcome, error) {
		return pageOutcome(b.voids.ApproveByPasskey(ctx, pageIdentity, code, voids.ByPasskey{Assertion: a.Assertion, User: a.User}))
	})
}

// ApproveByPIN implements [web.Backend].
func (b pages) ApproveByPIN(ctx context.Context, code string, p web.ByPIN) (*web.Outcome, error) {
	return ask(ctx, &b.phones, pagePIN, func(ctx context.Context) (*web.Outcome, error) {
		return pageOutcome(b.voids.ApproveByPIN(ctx, pageIdentity, code, voids.ByPIN{Name: p.Name, OfTerminal: p.OfTerminal, Point: p.Point, Block: p.Block}))
	})
}

// pageOutcome is without the token, which is the switch's.
func pageOutcome(a *voids.Authorized, err error) (*web.Outcome, error) {
	if err != nil {
		return nil, err
	}
	o := &a.Void.Outcome
	return &web.Outcome{Verified: a.Verified, State: string(a.Void.State), Result: string(o.Result), Next: nexts(o.Next), TriesLeft: a.Void.Tries}, nil
}

// Enrolment implements [web.Backend].
func (b pages) Enrolment(ctx context.Context, link string) (*web.Enrolment, error) {
	return ask(ctx, &b.phones, pageEnrolment, func(ctx context.Context) (*web.Enrolment, error) {
		e, err := b.records.Enrolment(ctx, link)
		if err != nil {
			return nil, err
		}
		s := &e.Record.Subject
		gate{}.Entry(ctx).Detail = records.Summary(s)
		if !settableOnPhone(ctx, s.Kind) {
			return nil, noSuchSetting()
		}
		key, err := b.voids.PageKey(ctx)
		if err != nil {
			return nil, err
		}
		digest := s.Digest()
		answer := &web.Enrolment{
			Kind: "PIN", Merchant: s.Merchant, Terminal: s.Terminal, Name: s.Name, Number: s.Number(), ExpiresAt: e.Record.CodeExpires, Least: s.MinPIN(),
			Subject: digest[:], Approval: e.Approval[:],
		}
		if s.Kind == pinrecord.Passkey {
			challenge := pinrecord.PasskeyChallenge(e.Approval, s)
			answer.Kind, answer.Challenge, answer.Least = "PASSKEY", challenge[:], 0
		}
		answer.Key, answer.CodeKey = pageKeyOf(key)
		return answer, nil
	})
}

// settableOnPhone reports whether what a kind of subjects has is set on phones, by the policy of a
// request.
func settableOnPhone(ctx context.Context, kind pinrecord.Kind) bool {
	v := voidSettings(ctx)
	if v == nil || v.Phone == nil {
		return false
	}
	return kind == pinrecord.Passkey || kind == pinrecord.Supervisor && v.Phone.SetPIN
}

func noSuchSetting() error {
	return fault.Wrap(fault.PolicyDenied, errors.New("the policy lets no PIN be set on a phone (voids.phone.set_pin)"))
}

// SetPIN implements [web.Backend].
func (b pages) SetPIN(ctx context.Context, link string, n web.NewPIN) (bool, error) {
	return ask(ctx, &b.phones, pageSetPIN, func(ctx context.Context) (bool, error) {
		if !settableOnPhone(ctx, pinrecord.Supervisor) {
			return false, noSuchSetting()
		}
		page, err := b.voids.Page(ctx)
		if err != nil {
			return false, err
		}
		verified, err := b.records.SetPINOnPhone(ctx, pageIdentity, link, page, records.Typed(n.Code), records.Typed(n.PIN))
		return b.verdict(ctx, verified, err)
	})
}

// SetPasskey implements [web.Backend].
func (b pages) SetPasskey(ctx context.Context, link string, n web.NewPasskey) (bool, error) {
	return ask(ctx, &b.phones, pageSetPasskey, func(ctx context.Context) (bool, error) {
		page, err := b.voids.Page(ctx)
		if err != nil {
			return false, err
		}
		verified, err := b.records.SetPasskeyOnPhone(ctx, pageIdentity, link, voidSettings(ctx).Origin(), page, records.NewPasskey{
			Code: records.Typed(n.Code), ClientData: n.ClientData, AuthenticatorData: n.AuthenticatorData,
		})
		return b.verdict(ctx, verified, err)
	})
}

// verdict writes into the audit entry what was answered.
func (b pages) verdict(ctx context.Context, verified bool, err error) (bool, error) {
	if err == nil {
		recordBinding{}.verdict(ctx, verified)
	}
	return verified, err
}
