package terminals

import (
	"context"
	"errors"
	"fmt"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/store"
)

// SessionKey is a key for the messages of a terminal.
type SessionKey struct {
	Name       string // in the key set
	Key        string // under which others name it
	Usage      string
	Algorithm  string
	KeyBlock   string // under the master key, or
	Cryptogram []byte // bare
	CheckValue string
	NotAfter   time.Time
}

// SignIn gives a terminal the session keys of its key set, under the master key that it has
// confirmed. They are durable before they are returned; those before them are good until they
// end, or the terminal confirms another master key. legacy refuses, if it does, bare cryptograms.
//
// Its refusals are [fault.TerminalState], those of certificates, [fault.KeySetNotFound],
// [fault.InjectionState] for a terminal without confirmed keys, those of a module, and
// [fault.Conflict] for two sign-ins at the same moment.
func (d *Distribution) SignIn(ctx context.Context, terminal string, legacy func(context.Context) error) ([]SessionKey, error) {
	s, err := d.inService(ctx, terminal)
	if err != nil {
		return nil, err
	}
	set, err := d.keySetOf(ctx, &s.record)
	if err != nil {
		return nil, err
	}
	if len(set.Session) == 0 {
		return nil, fault.New(fault.KeySetNotFound, "the terminal's key set has no session keys")
	}
	i, err := d.store.ConfirmedInjection(ctx, terminal)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, fault.New(fault.InjectionState, "the terminal has no confirmed keys: give it some first (InjectKeys)")
	case err != nil:
		return nil, refused(ctx, err)
	}
	master, err := d.keyOf(ctx, terminal, i.ID, store.MasterName)
	if err != nil {
		return nil, err
	}
	header, err := hsm.ParseSealed(master.Sealed)
	if err != nil {
		return nil, fault.Wrap(fault.KeySealInvalid, fmt.Errorf("master key of terminal %s: %w", terminal, err))
	}
	if header.Header.Usage == "K0" {
		if err := legacy(ctx); err != nil {
			return nil, err
		}
	}
	now := d.inventory.now()
	specs, err := d.sessionSpecs(ctx, terminal, set, now)
	if err != nil {
		return nil, err
	}
	made, err := d.modules.MakeSessionKeys(ctx, master, specs)
	if err != nil {
		return nil, err
	}
	keep, answer := make([]store.TerminalKey, len(specs)), make([]SessionKey, len(specs))
	for n := range specs {
		if answer[n], err = session(terminal, header.Header, &specs[n], &made[n]); err != nil {
			return nil, err
		}
		keep[n] = store.TerminalKey{
			Terminal: terminal, Name: specs[n].Name, Version: specs[n].Version, Injection: i.ID, Sealed: made[n].Sealed, NotAfter: answer[n].NotAfter, CreatedAt: now,
		}
	}
	switch err := d.store.AddSessionKeys(ctx, terminal, i.ID, keep); {
	case errors.Is(err, store.ErrConflict):
		if _, err := d.registered(ctx, terminal); err != nil {
			return nil, err
		}
		return nil, fault.New(fault.Conflict, "the terminal signed in, or got other keys, at the same moment: sign in again")
	case err != nil:
		return nil, refused(ctx, err)
	}
	return answer, nil
}

// sessionSpecs says which session keys to make: the next version of each.
func (d *Distribution) sessionSpecs(ctx context.Context, terminal string, set *KeySet, now time.Time) ([]hsm.SessionKeySpec, error) {
	there, err := d.store.KeysOfTerminal(ctx, terminal)
	if err != nil {
		return nil, refused(ctx, err)
	}
	newest := map[string]uint32{}
	for _, k := range there {
		newest[k.Name] = max(newest[k.Name], k.Version)
	}
	var specs []hsm.SessionKeySpec
	for _, s := range set.Session {
		specs = append(specs, hsm.SessionKeySpec{
			Name: s.Name, Usage: s.Usage, Algorithm: s.Algorithm, Length: int(s.Length), Version: newest[s.Name] + 1,
			NotAfter: now.Add(time.Duration(s.Hours) * time.Hour).Unix(),
		})
	}
	return specs, nil
}

// session refuses what a module made unless it is what was asked for.
func session(terminal string, master *hsm.Header, spec *hsm.SessionKeySpec, made *hsm.SessionKey) (SessionKey, error) {
	s, err := hsm.ParseSealed(made.Sealed)
	name := hsm.TerminalPrefix + terminal + ":" + spec.Name
	if err != nil || s.Header.Name != name || s.Header.Version != spec.Version || s.Header.Device != master.Device || s.Header.Usage != spec.Usage || s.Header.Algorithm != spec.Algorithm ||
		s.Header.NotAfter != spec.NotAfter || (master.Usage == "K0") != (made.KeyBlock == "") || (made.KeyBlock == "") != (len(made.Cryptogram) > 0) {
		return SessionKey{}, fault.Wrap(fault.Internal, fmt.Errorf("terminal %s: a module made another session key than %s", terminal, spec.Name))
	}
	return SessionKey{
		Name: spec.Name, Key: name, Usage: spec.Usage, Algorithm: spec.Algorithm, KeyBlock: made.KeyBlock, Cryptogram: made.Cryptogram, CheckValue: made.CheckValue,
		NotAfter: time.Unix(spec.NotAfter, 0).UTC(),
	}, nil
}
