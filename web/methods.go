package web

import (
	"context"
	"crypto/sha256"

	"keyd/fault"
	"keyd/passkey"
	"keyd/pinrecord"
)

// method reads what a page asks, and asks the backend.
type method func(ctx context.Context, o *object) (answer any, err error)

// Sizes of what pages send. Whether it is any good is for the backend to say.
const (
	maxLink   = 26 // base32 of 16 bytes
	maxName   = 64
	blockSize = 16
)

// invalid is the refusal of a request that is not well formed.
func invalid() error { return fault.New(fault.RequestInvalid, "") }

func (h *handler) void(ctx context.Context, o *object) (any, error) {
	code := o.text("code", maxCode)
	if o.end() != nil {
		return nil, invalid()
	}
	v, err := h.config.Backend.Void(ctx, code)
	if err != nil {
		return nil, err
	}
	return answerVoid(v), nil
}

func (h *handler) voidByPasskey(ctx context.Context, o *object) (any, error) {
	code := o.text("code", maxCode)
	a := ByPasskey{
		User: o.bytes("user", sha256.Size, sha256.Size),
		Assertion: passkey.Assertion{
			ID:                o.bytes("id", passkey.MinID, passkey.MaxID),
			ClientData:        o.bytes("client_data", 1, passkey.MaxClientData),
			AuthenticatorData: o.bytes("authenticator_data", 1, passkey.MaxData),
			Signature:         o.bytes("signature", 1, passkey.MaxSignature),
		},
	}
	if o.end() != nil {
		return nil, invalid()
	}
	return answerOutcome(h.config.Backend.ApproveByPasskey(ctx, code, a))
}

func (h *handler) voidByPIN(ctx context.Context, o *object) (any, error) {
	code := o.text("code", maxCode)
	p := ByPIN{Name: o.text("name", maxName), OfTerminal: o.flag("of_terminal"), Typed: typed(o)}
	if o.end() != nil {
		return nil, invalid()
	}
	return answerOutcome(h.config.Backend.ApproveByPIN(ctx, code, p))
}

func (h *handler) enrolment(ctx context.Context, o *object) (any, error) {
	link := o.text("link", maxLink)
	if o.end() != nil {
		return nil, invalid()
	}
	e, err := h.config.Backend.Enrolment(ctx, link)
	if err != nil {
		return nil, err
	}
	return answerEnrolment(e), nil
}

func (h *handler) setPIN(ctx context.Context, o *object) (any, error) {
	link, code, pin := o.text("link", maxLink), o.within("code"), o.within("pin")
	s := NewPIN{Code: typed(code), PIN: typed(pin)}
	if o.end(code, pin) != nil {
		return nil, invalid()
	}
	return answerSet(h.config.Backend.SetPIN(ctx, link, s))
}

func (h *handler) setPasskey(ctx context.Context, o *object) (any, error) {
	link, code := o.text("link", maxLink), o.within("code")
	s := NewPasskey{
		Code:              typed(code),
		ClientData:        o.bytes("client_data", 1, passkey.MaxClientData),
		AuthenticatorData: o.bytes("authenticator_data", 1, passkey.MaxData),
	}
	if o.end(code) != nil {
		return nil, invalid()
	}
	return answerSet(h.config.Backend.SetPasskey(ctx, link, s))
}

func typed(o *object) Typed {
	return Typed{Point: o.bytes("point", pinrecord.PointSize, pinrecord.PointSize), Block: o.bytes("block", blockSize, blockSize)}
}
