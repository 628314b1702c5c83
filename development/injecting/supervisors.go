package injecting

import (
	"context"

	"keyd/ceremony"
	"keyd/hsm"
)

// supervisorKeys are the base derivation keys of supervisors' PINs, which the key sets name. A new
// development service has them among its sample keys.
var supervisorKeys = []struct{ name, algorithm string }{
	{"bdk-supervisor", "A"},
	{"bdk-supervisor-tdes", "T"},
}

// supervisorKey has officers make a base derivation key of supervisors' PINs where there is none of
// its name: a service that was made by an older keyd, or with keys of its own.
func (p *preparation) supervisorKey(ctx context.Context, name, algorithm string) error {
	there, err := p.key(ctx, name)
	if err != nil || there != nil {
		return err
	}
	spec := &ceremony.KeySpec{
		Name: name, Version: 1, Usage: "B0", Algorithm: algorithm, Length: 16, Mode: "X", Exportability: "N",
		Direction: hsm.DirectionIncoming, PINKind: hsm.PINRecord,
	}
	for _, h := range hosts {
		spec.InjectionHosts = append(spec.InjectionHosts, h.name)
	}
	if err := p.ceremony(ctx, &ceremony.Definition{Kind: ceremony.Create, Key: spec}); err != nil {
		return err
	}
	p.step(true, "base derivation key %s, for PINs of supervisors", name)
	return nil
}
