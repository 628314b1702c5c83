package terminals

import (
	"context"
	"errors"

	"keyd/fault"
	"keyd/hsm"
	"keyd/store"
)

// Binding is what a terminal is told about its host (TR-34).
type Binding struct {
	Terminal string
	Random   []byte   // RT_KRD of the terminal
	NewHost  [][]byte // DER: another host's certificate and its issuers; nil: it forgets its host
	List     []byte   // revocation list of the hosts' authority in DER; with NewHost
	Reason   string
}

// Bind makes the token by which a terminal forgets its host, or gets another, and ends the keys
// that the terminal has from here: first that is durable, then the token is returned. So a
// terminal that never gets it has to be given keys anew all the same.
func (d *Distribution) Bind(ctx context.Context, actor string, b Binding) (token []byte, err error) {
	switch {
	case len(b.Reason) > MaxReason || !printable(b.Reason):
		return nil, fault.New(fault.RequestInvalid, "reason has at most 256 bytes of printable UTF-8")
	case len(b.Random) == 0 || len(b.Random) > MaxRequest:
		return nil, fault.New(fault.RequestInvalid, "random_token is RT_KRD of the terminal, of at most 32 KiB")
	case b.NewHost != nil && (len(b.List) == 0 || len(b.List) > store.MaxHostList):
		return nil, fault.New(fault.RequestInvalid, "revocation_list is that of the hosts' authority, of at most 16 KiB")
	}
	r, err := d.inventory.record(ctx, b.Terminal)
	if err != nil {
		return nil, err
	}
	s, err := withCertificate(&r) // also one that is out of service: it forgets what it has
	if err != nil {
		return nil, err
	}
	if b.NewHost != nil {
		if _, err := hostChain(b.NewHost); err != nil {
			return nil, err
		}
	}
	set, err := d.boundBy(ctx, &r)
	if err != nil {
		return nil, err
	}
	h, err := d.Host(ctx, set.TokenHost)
	if err != nil {
		return nil, err
	}
	chain, err := parse(h.Certificates)
	if err != nil {
		return nil, err
	}
	pair, err := d.pair(ctx, h.Key, chain[0])
	if err != nil {
		return nil, err
	}
	token, err = d.modules.MakeBindingToken(ctx, hsm.MakeBindingToken{
		Host: hsm.Key{Name: pair.Name, Sealed: pair.Sealed}, HostCertificates: h.Certificates, DeviceCertificates: s.certificates(), Device: s.device(),
		RandomToken: b.Random, Profile: set.Profile, NewHost: b.NewHost, HostList: b.List,
	})
	if err != nil {
		return nil, err
	}
	kind := EventUnbound
	if b.NewHost != nil {
		kind = EventRebound
	}
	if err := d.store.EndInjections(ctx, b.Terminal, store.TerminalEvent{Kind: kind, Actor: actor, Detail: b.Reason, At: d.inventory.now()}); err != nil {
		return nil, refused(ctx, err)
	}
	return token, nil
}

// boundBy returns the key set by which a terminal is bound to a host of TR-34: that of its
// confirmed keys, or else the one that it has now.
func (d *Distribution) boundBy(ctx context.Context, r *store.TerminalRecord) (*KeySet, error) {
	i, err := d.store.ConfirmedInjection(ctx, r.ID)
	switch {
	case err == nil && Method(i.Method).token():
		found, err := d.store.KeySetVersion(ctx, i.KeySet, i.KeySetVersion)
		return keySet(ctx, found, err)
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return nil, refused(ctx, err)
	}
	set, err := d.keySetOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if set.TokenHost == "" {
		return nil, fault.New(fault.KeySetNotFound, "the terminal's key set has no host of TR-34, to which alone terminals are bound")
	}
	return set, nil
}
