package records

import (
	"context"
	"encoding/binary"
	"errors"

	"keyd/fault"
	"keyd/hsm"
	"keyd/keyuse"
	"keyd/pinrecord"
	"keyd/store"
)

// Verify says whether a PIN is a subject's. A wrong PIN is an answer, and so is whatever else keeps a
// PIN from being tried. An identical retry under a key serial number that is accepted once has the
// same answer, as long as the same version lives.
func (s *Service) Verify(ctx context.Context, actor string, subject *pinrecord.Subject, pin Entry) (verified bool, err error) {
	about(s.used.Entry(ctx), Summary(subject))
	if err := checkPIN(subject); err != nil {
		return false, err
	}
	in, err := s.enter(ctx, ActionVerify, named{"pin", pin})
	if err != nil {
		return false, err
	}
	end, err := s.Turn(ctx, subject)
	if err != nil {
		return false, err
	}
	defer end()
	version, err := s.lives(ctx, subject)
	if err != nil {
		return false, err
	}
	id := func() keyuse.Identity {
		return binary.BigEndian.AppendUint32(keyuse.AppendField(in.id, digestOf(subject)), version)
	}
	return keyuse.Kept(ctx, s.used, in.uses, id, keptVerdict, func(refused bool) (bool, error) {
		if refused {
			return false, nil // the key serial number decides, and nothing is tried
		}
		a, err := s.Attempt(ctx, actor, subject)
		if err != nil {
			return false, err
		}
		verified, err := s.modules.VerifyRecord(ctx, hsm.VerifyRecord{Record: a.Record, DatumKey: a.DatumKey, PIN: in.blocks[0], Demands: in.demands})
		return a.Settle(ctx, verified, err)
	})
}

// lives returns the version of a subject's PIN, 0 where it has none that lives.
func (s *Service) lives(ctx context.Context, subject *pinrecord.Subject) (uint32, error) {
	r, err := s.store.PINRecord(ctx, digestOf(subject))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, refused(ctx, err)
	case r.State != store.PINActive && r.State != store.PINBlocked || r.Ended(s.now()):
		return 0, nil
	}
	return r.Version, nil
}

// Change replaces a PIN by another, if the current one is right; all tries are there again, and the
// end of a temporary PIN stays. [fault.PINWeak] only then. A change whose answer was lost may be
// asked for again.
func (s *Service) Change(ctx context.Context, actor string, subject *pinrecord.Subject, current, pin Entry) (verified bool, err error) {
	about(s.used.Entry(ctx), Summary(subject))
	if err := checkPIN(subject); err != nil {
		return false, err
	}
	in, err := s.enter(ctx, ActionChange, named{"current", current}, named{"pin", pin})
	if err != nil {
		return false, err
	}
	end, err := s.Turn(ctx, subject)
	if err != nil {
		return false, err
	}
	defer end()
	id := func() keyuse.Identity { return keyuse.AppendField(in.id, digestOf(subject)) }
	return keyuse.Kept(ctx, s.used, in.uses, id, keptVerdict, func(refused bool) (bool, error) {
		if refused {
			return false, nil
		}
		return s.replace(ctx, actor, subject, in)
	})
}

func (s *Service) replace(ctx context.Context, actor string, subject *pinrecord.Subject, in *entered) (bool, error) {
	a, err := s.Attempt(ctx, actor, subject)
	if err != nil {
		return false, err
	}
	answer, err := s.modules.ChangeRecord(ctx, hsm.ChangeRecord{Record: a.Record, DatumKey: a.DatumKey, Current: in.blocks[0], New: in.blocks[1], Demands: in.demands})
	if err != nil && ctx.Err() == nil && fault.Of(err).Reason == fault.PINWeak { // the current one was right
		if _, e := a.Settle(ctx, true, nil); e != nil {
			return false, e
		}
		return false, err
	}
	if err != nil || !answer.Verified || a.taken == nil {
		return a.Settle(ctx, false, err)
	}
	e := s.event(EventChanged, actor, "")
	keep, cancel := afterwards(ctx)
	defer cancel()
	_, err = s.change(keep, a.taken.Subject, func(r *store.PINRecord) (*store.PINEvent, error) {
		if r.Version != a.taken.Version || r.State != store.PINActive && r.State != store.PINBlocked {
			return nil, fault.New(fault.Conflict, "another version was begun, or the record was revoked, meanwhile")
		}
		r.Version++
		r.Record, r.Approval = answer.Record, nil
		filled(r)
		return &e, nil
	})
	return err == nil, err
}
