package voids

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"strings"
	"time"

	"keyd/fault"
	"keyd/keys"
	"keyd/keyuse"
	"keyd/policies"
	"keyd/store"
	"keyd/voids/code"
	"keyd/voids/flow"
	"keyd/voidtoken"
)

// Scan is a code that was scanned, for a merchant.
type Scan struct {
	Request  string
	Code     string // text or URL
	Merchant string
}

// Scan burns a code for actor, who speaks for a merchant: its void is SCANNED. A code that cannot be
// used is [fault.VoidCodeRefused]. Why is said where the code names that merchant, and where it is no
// code at all; the audit log has it in any case.
func (s *Service) Scan(ctx context.Context, actor string, r Scan) (*Void, error) {
	if err := checkRequest(r.Request); err != nil {
		return nil, err
	}
	if !voidtoken.ValidName(r.Merchant) {
		return nil, keyuse.Invalid("merchant has 1 to 64 letters, digits and ._-, the first a letter or a digit")
	}
	settings := s.Settings(ctx)
	if settings == nil {
		return nil, s.codeRefused(ctx, true, errors.New("the policy lets nothing be voided"))
	}
	audience, err := code.AudienceOf(r.Merchant)
	if err != nil {
		return nil, keyuse.Invalid("merchant: " + err.Error())
	}
	var hosts []string
	if settings.CodeHost != "" {
		hosts = []string{settings.CodeHost}
	}
	p, err := code.Scan(r.Code, hosts...)
	if err != nil {
		return nil, s.codeRefused(ctx, true, err)
	}
	own := p.Claims(audience)
	now := s.now()
	if p.Kind() == code.Slip {
		if _, err = p.Reference(audience, now, 0); err == nil {
			err = code.ErrNoAuthority
		}
		return nil, s.codeRefused(ctx, own, err)
	}
	known, err := s.codeKeys(ctx, settings)
	if err != nil {
		return nil, err
	}
	c, err := p.Verify(known, audience, now, 0)
	if err != nil {
		return nil, s.codeRefused(ctx, own, err)
	}
	found, err := s.Store.VoidOfCode(ctx, c.Identifier[:])
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, s.codeRefused(ctx, own, errors.New("its void is not known here"))
	case err != nil:
		return nil, refused(ctx, err)
	case found.Merchant != r.Merchant: // another with the same eight bytes
		return nil, s.codeRefused(ctx, false, code.ErrForeignCode)
	}
	v, err := s.apply(ctx, found.ID, found.Merchant, settings, func(v *flow.Void, _ store.Standing) flow.Event {
		return flow.Event{Kind: flow.EventScan, Request: eventOf(actor, ActionScan, r.Request, 0), At: now.Unix()}
	}, func(r *store.VoidRecord, outcome *flow.Outcome) {
		if outcome.Result == flow.ResultScanned {
			r.Burnt = now
		}
	})
	if err != nil {
		return nil, err
	}
	s.note(ctx, v)
	switch v.Outcome.Result {
	case flow.ResultScanned:
		return v, nil
	case flow.ResultCodeUsed:
		return nil, s.codeRefused(ctx, true, errors.New("it was used before"))
	}
	return nil, s.codeRefused(ctx, true, fmt.Errorf("its void is %s", v.State))
}

// codeRefused refuses a code. Only who speaks for the merchant that it names is told why.
func (s *Service) codeRefused(ctx context.Context, own bool, why error) error {
	detail := strings.TrimPrefix(why.Error(), "void code: ")
	if own {
		return fault.New(fault.VoidCodeRefused, detail)
	}
	entry := s.Used.Entry(ctx)
	if entry.Detail != "" {
		entry.Detail += ": "
	}
	entry.Detail += "said to nobody: " + detail
	return fault.New(fault.VoidCodeRefused, "")
}

// codeKeys are the keys whose codes are believed.
func (s *Service) codeKeys(ctx context.Context, settings *policies.Voids) (code.Keys, error) {
	pairs, err := s.codePairs(ctx, settings)
	if err != nil {
		return code.Keys{}, err
	}
	var public []*ecdsa.PublicKey
	for i := range pairs {
		public = append(public, pairs[i].public)
	}
	return keysOf(code.NewKeys(public...))
}

// codePair is a key pair that signs codes.
type codePair struct {
	keys.Key
	public *ecdsa.PublicKey
	own    bool // of this host: its modules sign with it
}

// codePairs are that of now, which is the first, and those of other hosts, and of each the version before
// it, since a code may have been shown before the key was replaced. Of others those are left out that
// cannot be used.
func (s *Service) codePairs(ctx context.Context, settings *policies.Voids) ([]codePair, error) {
	pair, err := s.pair(ctx, settings.CodeKey, "codes")
	if err != nil {
		return nil, err
	}
	public, err := publicOf(&pair)
	if err != nil {
		return nil, err
	}
	list := []codePair{{pair, public, true}}
	add := func(reference string, own bool) *keys.Key {
		k, err := s.pair(ctx, reference, "codes")
		if err != nil {
			return nil
		}
		if public, err := publicOf(&k); err == nil && public.Curve == elliptic.P256() {
			list = append(list, codePair{k, public, own})
		}
		return &k
	}
	before := func(reference string, k *keys.Key, own bool) {
		if k != nil && k.Version > 1 && !strings.Contains(reference, "?") {
			add(fmt.Sprintf("%s?version=%d", k.Name, k.Version-1), own)
		}
	}
	before(settings.CodeKey, &pair, true)
	for _, reference := range settings.CodeKeys {
		before(reference, add(reference, false), false)
	}
	return list, ctx.Err()
}

func keysOf(k code.Keys, err error) (code.Keys, error) {
	if err != nil {
		return k, fault.New(fault.KeyUsageMismatch, "codes are signed with a key pair of usage S0 on P-256")
	}
	return k, nil
}

// apply applies an event to a void of a merchant, in one transaction, and keeps what comes of it. change
// fills in what else of the record changes with it.
func (s *Service) apply(ctx context.Context, id, merchant string, settings *policies.Voids, event func(*flow.Void, store.Standing) flow.Event, change func(*store.VoidRecord, *flow.Outcome)) (*Void, error) {
	return s.transact(ctx, id, merchant, settings, func(v flow.Void, standing store.Standing) (flow.Void, flow.Outcome, error) {
		return v.Apply(event(&v, standing), rulesOf(settings))
	}, change)
}

// transact has do decide in one transaction what becomes of a void of a merchant.
func (s *Service) transact(ctx context.Context, id, merchant string, settings *policies.Voids, do func(flow.Void, store.Standing) (flow.Void, flow.Outcome, error), change func(*store.VoidRecord, *flow.Outcome)) (*Void, error) {
	now := s.now()
	var next flow.Void
	var outcome flow.Outcome
	kept, err := s.Store.ChangeVoid(ctx, id, today(settings, merchant, now), func(r store.VoidRecord, standing store.Standing) (store.VoidRecord, error) {
		v, err := decode(&r)
		if err != nil {
			return r, err
		}
		if next, outcome, err = do(v, standing); err != nil {
			return r, flowRefusal(err)
		}
		if next.Version == v.Version {
			return r, nil
		}
		if err := fill(&r, &next, laterOf(now, r.Changed)); err != nil {
			return r, err
		}
		if change != nil {
			change(&r, &outcome)
		}
		return r, nil
	})
	if err != nil {
		return nil, refused(ctx, err)
	}
	s.watchers.changed(id)
	return view(&kept, next, &outcome), nil
}

func laterOf(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// note adds to the audit entry what has become of a void.
func (s *Service) note(ctx context.Context, v *Void) {
	entry := s.Used.Entry(ctx)
	if entry.Detail != "" {
		entry.Detail += ": "
	}
	entry.Detail += fmt.Sprintf("void %s of %s: %s, %s", grouped(v.Fields.Void), v.Fields.Merchant, v.Outcome.Result, v.State)
}

// grouped writes an identifier so that the audit log, which leaves out long figures, keeps it.
func grouped(id string) string {
	var groups []string
	for len(id) > 8 {
		groups, id = append(groups, id[:8]), id[8:]
	}
	return strings.Join(append(groups, id), "-")
}
