package hsm

import (
	"context"
	"sync"

	"keyd/hsm/internal/wire"
)

// TranslatePIN re-enciphers a PIN block. Errors are refusals of package fault.
func (c *Client) TranslatePIN(ctx context.Context, r TranslatePIN) (TranslatedPIN, error) {
	var answer wire.TranslatedPin
	err := c.call(ctx, wire.OpTranslatePIN, &wire.TranslatePin{
		Incoming: r.Incoming.wire(),
		Outgoing: r.Outgoing.wire(),
		Pan:      r.PAN,
		Block:    r.Block,
	}, &answer)
	if err != nil {
		return TranslatedPIN{}, err
	}
	return TranslatedPIN{Block: answer.Block, CheckValue: answer.CheckValue, Custody: Custody(answer.Custody)}, nil
}

// VerifyPIN verifies the PIN in a block. A wrong PIN is no error.
func (c *Client) VerifyPIN(ctx context.Context, r VerifyPIN) (VerifiedPIN, error) {
	request := &wire.VerifyPin{
		Incoming:     r.Incoming.wire(),
		Verification: r.Verification.wire(),
		Pan:          r.PAN,
		Block:        r.Block,
	}
	switch {
	case r.VisaPVV != nil:
		request.Expected = &wire.VerifyPin_VisaPvv{VisaPvv: &wire.VisaPvv{KeyIndex: uint32(r.VisaPVV.KeyIndex), Pvv: r.VisaPVV.PVV}}
	case r.IBM3624 != nil:
		request.Expected = &wire.VerifyPin_Ibm3624{Ibm3624: &wire.Ibm3624{Offset: r.IBM3624.Offset}}
	}
	var answer wire.VerifiedPin
	if err := c.call(ctx, wire.OpVerifyPIN, request, &answer); err != nil {
		return VerifiedPIN{}, err
	}
	return VerifiedPIN{Verified: answer.Verified, Custody: Custody(answer.Custody)}, nil
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
					SelfTests: d.SelfTests, CachedKeys: d.CachedKeys, Erasure: d.Erasure,
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

func (k PINKey) wire() *wire.PinKey {
	return &wire.PinKey{
		Key:         k.Key.wire(),
		Ksn:         k.KSN.Bytes(),
		WorkingType: uint32(k.WorkingType),
		Format:      uint32(k.Format),
	}
}

func measures(list []*wire.Measure) []Measure {
	var out []Measure
	for _, m := range list {
		out = append(out, Measure{Name: m.Name, State: m.State, Detail: m.Detail})
	}
	return out
}
