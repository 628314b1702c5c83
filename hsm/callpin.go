package hsm

import (
	"context"

	"keyd/dukpt"
	"keyd/hsm/internal/wire"
)

// TranslatePIN re-enciphers a PIN block. Errors are refusals of package fault.
func (c *Client) TranslatePIN(ctx context.Context, r TranslatePIN) (TranslatedPIN, error) {
	var m struct { // in one allocation
		request wire.TranslatePin
		in, out pinKeyMessage
		answer  wire.TranslatedPin
	}
	answer := &m.answer
	m.request.Incoming, m.request.Outgoing = m.in.fill(&r.Incoming), m.out.fill(&r.Outgoing)
	m.request.Pan, m.request.Block, m.request.Demands = r.PAN, r.Block, r.Demands.wire()
	if err := c.call(ctx, homeOf(&r.Incoming, &r.Outgoing), wire.OpTranslatePIN, &m.request, answer); err != nil {
		return TranslatedPIN{}, err
	}
	return TranslatedPIN{Block: answer.Block, CheckValue: answer.CheckValue, Custody: Custody(answer.Custody)}, nil
}

// VerifyPIN verifies the PIN in a block. A wrong PIN is no error. Errors are refusals of
// package fault.
func (c *Client) VerifyPIN(ctx context.Context, r VerifyPIN) (VerifiedPIN, error) {
	request := &wire.VerifyPin{
		Incoming:     new(pinKeyMessage).fill(&r.Incoming),
		Verification: r.Verification.wire(),
		Pan:          r.PAN,
		Block:        r.Block,
		Demands:      r.Demands.wire(),
	}
	switch {
	case r.VisaPVV != nil:
		request.Expected = &wire.VerifyPin_VisaPvv{VisaPvv: r.VisaPVV.wire()}
	case r.IBM3624 != nil:
		request.Expected = &wire.VerifyPin_Ibm3624{Ibm3624: r.IBM3624.wire()}
	}
	var answer wire.VerifiedPin
	if err := c.call(ctx, homeOf(&r.Incoming), wire.OpVerifyPIN, request, &answer); err != nil {
		return VerifiedPIN{}, err
	}
	return VerifiedPIN{Verified: answer.Verified, Custody: Custody(answer.Custody)}, nil
}

// GeneratePIN makes a random PIN. Errors are refusals of package fault.
func (c *Client) GeneratePIN(ctx context.Context, r GeneratePIN) (GeneratedPIN, error) {
	request := &wire.GeneratePin{
		Outgoing:   new(pinKeyMessage).fill(&r.Outgoing),
		Generation: r.Generation.wire(),
		Pan:        r.PAN,
		Length:     uint32(r.Length),
		Demands:    r.Demands.wire(),
	}
	switch {
	case r.VisaPVV != nil:
		request.Method = &wire.GeneratePin_VisaPvv{VisaPvv: r.VisaPVV.wire()}
	case r.IBM3624 != nil:
		request.Method = &wire.GeneratePin_Ibm3624{Ibm3624: r.IBM3624.wire()}
	}
	var answer wire.GeneratedPin
	if err := c.call(ctx, homeOf(&r.Outgoing), wire.OpGeneratePIN, request, &answer); err != nil {
		return GeneratedPIN{}, err
	}
	return GeneratedPIN{Block: answer.Block, Datum: answer.Datum, Custody: Custody(answer.Custody)}, nil
}

// ChangePIN verifies the current PIN and makes the value to verify the new one by. A wrong
// current PIN is no error. Errors are refusals of package fault.
func (c *Client) ChangePIN(ctx context.Context, r ChangePIN) (ChangedPIN, error) {
	request := &wire.ChangePin{
		Incoming:     new(pinKeyMessage).fill(&r.Incoming),
		NewIncoming:  new(pinKeyMessage).fill(&r.NewIncoming),
		Verification: r.Verification.wire(),
		Pan:          r.PAN,
		Current:      r.Current,
		New:          r.New,
		Demands:      r.Demands.wire(),
	}
	switch {
	case r.VisaPVV != nil:
		request.Expected = &wire.ChangePin_VisaPvv{VisaPvv: r.VisaPVV.wire()}
	case r.IBM3624 != nil:
		request.Expected = &wire.ChangePin_Ibm3624{Ibm3624: r.IBM3624.wire()}
	}
	var answer wire.ChangedPin
	if err := c.call(ctx, homeOf(&r.Incoming, &r.NewIncoming), wire.OpChangePIN, request, &answer); err != nil {
		return ChangedPIN{}, err
	}
	return ChangedPIN{Verified: answer.Verified, Datum: answer.Datum, Custody: Custody(answer.Custody)}, nil
}

// ResetTries resets the tries of an account. Without a permit for it, it fails with
// [fault.PermitMissing].
func (c *Client) ResetTries(ctx context.Context, r ResetTries) error {
	request := &wire.ResetTries{Pan: r.PAN}
	if r.Verification != nil {
		request.Verification = r.Verification.wire()
	}
	return c.call(ctx, 0, wire.OpResetTries, request, &wire.TriesReset{})
}

func (v *VisaPVV) wire() *wire.VisaPvv {
	return &wire.VisaPvv{KeyIndex: uint32(v.KeyIndex), Pvv: v.PVV}
}

func (v *IBM3624) wire() *wire.Ibm3624 { return &wire.Ibm3624{Offset: v.Offset} }

// wire is nothing where nothing is demanded.
func (d Demands) wire() *wire.Demands {
	if d == (Demands{}) {
		return nil
	}
	return &wire.Demands{KsnRefused: d.KSNRefused, TokenCustody: d.TokenCustody}
}

func (k Key) wire() *wire.SealedKey { return &wire.SealedKey{Name: k.Name, Sealed: k.Sealed} }

// pinKeyMessage is the message of a key that enciphers a PIN block.
type pinKeyMessage struct {
	m   wire.PinKey
	key wire.SealedKey
	ksn [dukpt.AESKSNSize]byte
}

func (p *pinKeyMessage) fill(k *PINKey) *wire.PinKey {
	p.key.Name, p.key.Sealed = k.Key.Name, k.Key.Sealed
	p.m.Key = &p.key
	p.m.Ksn = k.KSN.AppendBytes(p.ksn[:0])
	p.m.WorkingType, p.m.Format = uint32(k.WorkingType), uint32(k.Format)
	return &p.m
}
