package hsm

import (
	"context"
	"sync"
	"time"

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
	m.request.Pan, m.request.Block, m.request.KsnRefused = r.PAN, r.Block, r.KSNRefused
	if err := c.call(ctx, homeOf(&r.Incoming, &r.Outgoing), wire.OpTranslatePIN, &m.request, answer); err != nil {
		return TranslatedPIN{}, err
	}
	return TranslatedPIN{Block: answer.Block, CheckValue: answer.CheckValue, Custody: Custody(answer.Custody)}, nil
}

// VerifyPIN verifies the PIN in a block. A wrong PIN is no error.
func (c *Client) VerifyPIN(ctx context.Context, r VerifyPIN) (VerifiedPIN, error) {
	request := &wire.VerifyPin{
		Incoming:     new(pinKeyMessage).fill(&r.Incoming),
		Verification: r.Verification.wire(),
		Pan:          r.PAN,
		Block:        r.Block,
		KsnRefused:   r.KSNRefused,
	}
	switch {
	case r.VisaPVV != nil:
		request.Expected = &wire.VerifyPin_VisaPvv{VisaPvv: &wire.VisaPvv{KeyIndex: uint32(r.VisaPVV.KeyIndex), Pvv: r.VisaPVV.PVV}}
	case r.IBM3624 != nil:
		request.Expected = &wire.VerifyPin_Ibm3624{Ibm3624: &wire.Ibm3624{Offset: r.IBM3624.Offset}}
	}
	var answer wire.VerifiedPin
	if err := c.call(ctx, homeOf(&r.Incoming), wire.OpVerifyPIN, request, &answer); err != nil {
		return VerifiedPIN{}, err
	}
	return VerifiedPIN{Verified: answer.Verified, Custody: Custody(answer.Custody)}, nil
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

// Describe asks every attached module about itself and its token. Modules that do
// not answer are left out.
func (c *Client) Describe(ctx context.Context) []Description {
	c.mu.RLock()
	channels := c.channels
	c.mu.RUnlock()
	found := make([]*Description, len(channels))
	var wait sync.WaitGroup
	for i, ch := range channels {
		wait.Go(func() {
			var d wire.Description
			if c.callOn(ctx, ch, wire.OpDescribe, &wire.Describe{}, &d) == nil {
				found[i] = &Description{
					Module: ch.module, Label: d.Label, Manufacturer: d.Manufacturer, Model: d.Model,
					Generation: d.Generation, Development: d.Development,
					Probes: measures(d.Probes), Confinement: measures(d.Confinement),
					SelfTests: d.SelfTests, CachedKeys: d.CachedKeys, DerivedKeys: d.DerivedKeys, Erasure: d.Erasure,
					Velocity: velocity(d.Velocity), Calls: calls(d.Calls),
				}
			}
		})
	}
	wait.Wait()
	var answered []Description
	for _, d := range found {
		if d != nil {
			answered = append(answered, *d)
		}
	}
	return answered
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

func measures(list []*wire.Measure) []Measure {
	var out []Measure
	for _, m := range list {
		out = append(out, Measure{Name: m.Name, State: m.State, Detail: m.Detail})
	}
	return out
}

func velocity(m *wire.Velocity) *Velocity {
	if m == nil {
		return nil
	}
	v := &Velocity{
		Verifications: limits(m.Verifications), Translations: limits(m.Translations),
		Entries: m.Entries, InUse: m.InUse, Refusals: m.Refusals, Crowded: m.Crowded, Failing: m.Failing,
	}
	if m.PresumedUntil != 0 {
		v.PresumedUntil = time.Unix(m.PresumedUntil, 0)
	}
	return v
}

func limits(m *wire.Limits) Limits {
	return Limits{Minute: m.GetMinute(), Hour: m.GetHour(), Day: m.GetDay()}
}

func calls(list []*wire.TokenCalls) []TokenCalls {
	var out []TokenCalls
	for _, m := range list {
		out = append(out, TokenCalls{Name: m.Name, Count: m.Count, Blocks: m.Blocks})
	}
	return out
}
