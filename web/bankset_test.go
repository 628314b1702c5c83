package web

import (
	"bytes"
	"context"
	"time"

	"keyd/fault"
	"keyd/passkey"
	"keyd/pinrecord"
)

func (b *bank) Enrolment(ctx context.Context, link string) (*Enrolment, error) {
	if err := b.begin(ctx, "Enrolment"); err != nil {
		return nil, err
	}
	b.lock.Lock()
	defer b.lock.Unlock()
	l := b.links[link]
	if l == nil {
		return nil, fault.New(fault.PINRecordNotFound, "")
	}
	digest := l.subject.Digest()
	e := &Enrolment{
		Kind: "PIN", Merchant: l.subject.Merchant, Terminal: l.subject.Terminal, Name: l.subject.Name, Number: l.subject.Number(), ExpiresAt: l.expires, Least: 6,
		Subject: digest[:], Approval: l.approval[:], Key: b.signedKey(time.Now().Add(10 * time.Minute)), CodeKey: b.publicKey(),
	}
	if l.subject.Kind == pinrecord.Passkey {
		challenge := pinrecord.PasskeyChallenge(l.approval, &l.subject)
		e.Kind, e.Challenge = "PASSKEY", challenge[:]
	}
	if l.lie != nil {
		l.lie(e)
	}
	return e, nil
}

func (b *bank) SetPIN(ctx context.Context, link string, n NewPIN) (bool, error) {
	if err := b.begin(ctx, "SetPIN"); err != nil {
		return false, err
	}
	return b.set(link, n.Code, func(l *testLink) pinrecord.Context { return pinrecord.OfCode(l.approval, &l.subject) }, func(l *testLink) error {
		if !bytes.Equal(n.Code.Point, n.PIN.Point) {
			return fault.New(fault.KeyUsageMismatch, "two points")
		}
		pin, err := b.open(n.PIN, &l.subject, pinrecord.OfNewPIN(l.approval, &l.subject))
		if pin == "123456" {
			err = fault.New(fault.PINWeak, "")
		}
		if err == nil {
			b.pins[l.subject.Digest()] = pin
		}
		return err
	})
}

func (b *bank) SetPasskey(ctx context.Context, link string, n NewPasskey) (bool, error) {
	if err := b.begin(ctx, "SetPasskey"); err != nil {
		return false, err
	}
	return b.set(link, n.Code, func(l *testLink) pinrecord.Context {
		return pinrecord.OfPasskey(l.approval, &l.subject, n.AuthenticatorData)
	}, func(l *testLink) error {
		c, err := passkey.Register(n.ClientData, n.AuthenticatorData, pinrecord.PasskeyChallenge(l.approval, &l.subject), "https://"+host)
		if err != nil {
			b.t.Error(err)
			return fault.New(fault.RequestInvalid, "")
		}
		b.passkeys[l.subject.Digest()] = c
		return nil
	})
}

func (b *bank) set(link string, typed Typed, context func(*testLink) pinrecord.Context, keep func(*testLink) error) (bool, error) {
	b.lock.Lock()
	defer b.lock.Unlock()
	l := b.links[link]
	if l == nil || l.tries == 0 {
		return false, fault.New(fault.PINRecordState, "")
	}
	digits, err := b.open(typed, &l.subject, context(l))
	if err != nil {
		return false, err
	}
	if digits != l.code {
		l.tries--
		return false, nil
	}
	if err := keep(l); err != nil {
		return false, err
	}
	delete(b.links, link)
	return true, nil
}
