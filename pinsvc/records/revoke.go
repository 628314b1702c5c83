package records

import (
	"context"
	"time"

	"keyd/fault"
	"keyd/pinrecord"
	"keyd/store"
)

// Revoke ends a subject's PIN, and a code that is pending, at once and for good. The database has it
// first: from then on no front goes by it. Then a module is told, so that none goes by it either
// whatever a front says; where that fails, the refusal says so, and the same again goes on from
// there. A version is used up by it. One that is revoked stays so.
func (s *Service) Revoke(ctx context.Context, actor string, subject *pinrecord.Subject, reason string) (*Record, error) {
	if err := checkSubject(subject); err != nil {
		return nil, err
	}
	if err := checkReason(reason); err != nil {
		return nil, err
	}
	e := s.event(EventRevoked, actor, reason)
	r, err := s.change(ctx, digestOf(subject), func(r *store.PINRecord) (*store.PINEvent, error) {
		if r.State == store.PINRevoked {
			return nil, nil
		}
		if r.State.Pending() {
			r.Record = r.Pending
		}
		r.State, r.TriesLeft, r.Version = store.PINRevoked, 0, r.Version+1
		r.Approval, r.Pending, r.Code, r.CodeTriesLeft, r.CodeExpires, r.NotAfter = nil, nil, nil, 0, time.Time{}, time.Time{}
		return &e, nil
	})
	if err != nil {
		return nil, err
	}
	if len(r.Record) == 0 {
		return s.record(r), nil
	}
	if err := s.modules.RevokeRecord(ctx, r.Record); err != nil {
		if f := fault.Of(err); ctx.Err() == nil && f.Unwrap() == nil {
			err = fault.New(f.Reason, "the PIN is revoked on every front, and the modules do not know yet: ask again")
		}
		return nil, err
	}
	keep, cancel := afterwards(ctx)
	defer cancel()
	r.Record = nil
	kept, err := s.store.UpdatePINRecord(keep, *r, nil)
	if err != nil {
		return nil, refused(keep, err)
	}
	return s.record(&kept), nil
}
