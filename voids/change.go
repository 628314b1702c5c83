package voids

import (
	"context"
	"fmt"
	"time"

	"keyd/fault"
	"keyd/keyuse"
	"keyd/store"
	"keyd/voids/flow"
)

// Confirm takes the switch's word about an authorised void: that the payment was reversed, or that
// it was not and will not be. Results that change nothing are answers, see package flow.
func (s *Service) Confirm(ctx context.Context, actor, request, id string, reversed bool) (*Void, error) {
	kind := flow.EventReject
	if reversed {
		kind = flow.EventConfirm
	}
	return s.change(ctx, actor, ActionConfirm, request, id, kind)
}

// Cancel gives a void up. One that is authorised is never cancelled: its token may be anywhere.
func (s *Service) Cancel(ctx context.Context, actor, request, id string) (*Void, error) {
	return s.change(ctx, actor, ActionCancel, request, id, flow.EventCancel)
}

func (s *Service) change(ctx context.Context, actor, action, request, id string, kind flow.Kind) (*Void, error) {
	if err := checkRequest(request); err != nil {
		return nil, err
	}
	before, err := s.Store.Void(ctx, id) // its merchant never changes
	if err != nil {
		return nil, refused(ctx, err)
	}
	v, err := s.apply(ctx, id, before.Merchant, s.Settings(ctx), func(*flow.Void, store.Standing) flow.Event {
		return flow.Event{Kind: kind, Request: eventOf(actor, action, request, 0), At: s.now().Unix()}
	}, nil)
	if err != nil {
		return nil, err
	}
	s.note(ctx, v)
	return v, nil
}

// Get returns a void. One whose time is over has expired before. [fault.VoidNotFound] where there is
// none.
func (s *Service) Get(ctx context.Context, id string) (*Void, error) {
	r, err := s.Store.Void(ctx, id)
	if err != nil {
		return nil, refused(ctx, err)
	}
	if due(&r, s.now()) {
		return s.expire(ctx, &r)
	}
	return seen(&r)
}

// Token returns the token of a void that is AUTHORIZED, however it was; of any other the void alone.
func (s *Service) Token(ctx context.Context, id string) (*Authorized, error) {
	r, err := s.Store.Void(ctx, id)
	if err != nil {
		return nil, refused(ctx, err)
	}
	answer := new(Authorized)
	if due(&r, s.now()) {
		answer.Void, err = s.expire(ctx, &r)
	} else {
		answer.Void, err = seen(&r)
	}
	if err != nil {
		return nil, err
	}
	if answer.Void.State == flow.Authorized && r.State == store.VoidAuthorized {
		answer.Verified, answer.Token = true, r.Token
	}
	s.note(ctx, answer.Void)
	return answer, nil
}

func due(r *store.VoidRecord, now time.Time) bool { return r.State.Live() && !now.Before(r.Due) }

// expire looks at the time. What comes of it needs no rules.
func (s *Service) expire(ctx context.Context, r *store.VoidRecord) (*Void, error) {
	v, err := s.apply(ctx, r.ID, r.Merchant, nil, func(v *flow.Void, _ store.Standing) flow.Event {
		return flow.Event{Kind: flow.EventExpire, Request: fmt.Sprintf("expire.%d", v.Version), At: s.now().Unix()}
	}, nil)
	if err != nil {
		return nil, err
	}
	last := v.Applied[len(v.Applied)-1].Outcome // where somebody else was quicker, what came of that
	v.Outcome = last
	return v, nil
}

// Expire ends voids whose time is over, and returns how many.
func (s *Service) Expire(ctx context.Context) (ended int, err error) {
	for {
		list, err := s.Store.DueVoids(ctx, s.now(), expireAtOnce)
		if err != nil {
			return ended, refused(ctx, err)
		}
		for i := range list {
			v, err := s.expire(ctx, &list[i])
			if err != nil {
				return ended, err
			}
			if v.State.Live() { // its clock is ahead of this one
				return ended, nil
			}
			ended++
		}
		if len(list) < expireAtOnce {
			return ended, nil
		}
	}
}

const expireAtOnce = 100

// Place is where a list goes on. The zero value is its beginning.
type Place struct {
	Created time.Time
	ID      string
}

// List returns the voids of a merchant, in a state or in any, the newest first, that come after a
// place; at most limit (1 to [store.MaxList]). next is the place of the last; fewer than limit are
// the last.
func (s *Service) List(ctx context.Context, merchant string, state flow.State, after Place, limit int) (list []*Void, next Place, err error) {
	if merchant == "" {
		return nil, Place{}, keyuse.Invalid("merchant is not set")
	}
	records, err := s.Store.ListVoids(ctx, merchant, store.VoidState(state), after.Created, after.ID, limit)
	if err != nil {
		return nil, Place{}, refused(ctx, err)
	}
	for i := range records {
		v, err := seen(&records[i])
		if err != nil {
			return nil, Place{}, err
		}
		list, next = append(list, v), Place{records[i].Created, records[i].ID}
	}
	return list, next, nil
}

// Named returns whose a void is, for the policy: merchant and terminal, empty where there is none. Its
// error is one of the database.
func (s *Service) Named(ctx context.Context, id string) (merchant, terminal string, err error) {
	r, err := s.Store.Void(ctx, id)
	if err != nil {
		if err = refused(ctx, err); fault.Of(err).Reason == fault.VoidNotFound && ctx.Err() == nil {
			err = nil
		}
		return "", "", err
	}
	return r.Merchant, r.Terminal, nil
}
