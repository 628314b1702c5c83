package hsm

import (
	"context"
	"sync"
	"time"

	"keyd/hsm/internal/wire"
)

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
					EpochLoaded: d.EpochLoaded, EpochPinned: d.EpochPinned,
					Velocity: velocity(d.Velocity), Calls: calls(d.Calls), Errors: tokenErrors(d.Errors),
					Operations: operations(d.Operations),
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

// Pinned returns the version of the epoch that the token pins, as far as a module knows.
func (c *Client) Pinned(ctx context.Context) (version uint64, err error) {
	var d wire.Description
	err = c.call(ctx, 0, wire.OpDescribe, &wire.Describe{}, &d)
	return d.EpochPinned, err
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
		Verifications: limits(m.Verifications), Translations: limits(m.Translations), Cards: limits(m.Cards),
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

func operations(list []*wire.OperationCustody) []OperationCustody {
	var out []OperationCustody
	for _, m := range list {
		out = append(out, OperationCustody{Operation: m.Operation, Custody: Custody(m.Custody), Why: m.Why})
	}
	return out
}

func tokenErrors(list []*wire.TokenErrors) []TokenErrors {
	var out []TokenErrors
	for _, m := range list {
		out = append(out, TokenErrors{Class: m.Class, Count: m.Count})
	}
	return out
}
