package records

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/keyuse"
	"keyd/pinrecord"
	"keyd/store"
)

// Set sets the PIN of a pending record, if the code is right. A wrong code is an answer, and so is
// whatever else keeps a code from being tried. [fault.PINWeak] only where the code is right, which
// stays good. Where key serial numbers are checked, the same request has the same answer; elsewhere a
// code that has set a PIN is a wrong one, and who has lost the answer tries the PIN.
func (s *Service) Set(ctx context.Context, actor string, subject *pinrecord.Subject, code, pin Entry) (verified bool, r *Record, err error) {
	about(s.used.Entry(ctx), Summary(subject))
	if err := checkPIN(subject); err != nil {
		return false, nil, err
	}
	in, err := s.enter(ctx, ActionSet, named{"code", code}, named{"pin", pin})
	if err != nil {
		return false, nil, err
	}
	id := func() keyuse.Identity { return keyuse.AppendField(in.id, digestOf(subject)) }
	verified, err = keyuse.Kept(ctx, s.used, in.uses, id, keptVerdict, func(refused bool) (bool, error) {
		if refused {
			return false, nil
		}
		return s.set(ctx, actor, subject, in)
	})
	if err != nil || !verified {
		return false, nil, err
	}
	r, err = s.Get(ctx, subject)
	return err == nil, r, err
}

func (s *Service) set(ctx context.Context, actor string, subject *pinrecord.Subject, in *entered) (bool, error) {
	if s.modules.Attached() == 0 {
		return false, fault.New(fault.ModuleUnavailable, "")
	}
	taken, ok, err := s.store.TakePINCode(ctx, digestOf(subject), s.now())
	if err != nil {
		return false, refused(ctx, err)
	}
	request := hsm.SetPIN{Code: in.blocks[0], PIN: in.blocks[1], Demands: in.demands}
	if !ok {
		if request.Pending, request.DatumKey, err = s.decoy(ctx, subject, decoyPending); err != nil {
			return false, err
		}
		_, err := s.modules.SetPIN(ctx, request)
		if wrong(err, true) {
			err = nil
		}
		return false, err
	}
	return s.setTaken(ctx, &taken, s.event(EventSet, actor, ""), func(pending []byte, datum hsm.Key) (hsm.SetRecord, error) {
		request.Pending, request.DatumKey = pending, datum
		return s.modules.SetPIN(ctx, request)
	})
}

// setTaken has ask set what is pending, once a try of its code was taken, and keeps it with the event.
func (s *Service) setTaken(ctx context.Context, taken *store.PINRecord, e store.PINEvent, ask func(pending []byte, datum hsm.Key) (hsm.SetRecord, error)) (bool, error) {
	pending, _, _, err := pinrecord.ParsePending(taken.Pending)
	if err != nil {
		return false, fault.Wrap(fault.StoreUnavailable, fmt.Errorf("a pending PIN record: %w", store.ErrCorrupt))
	}
	var answer hsm.SetRecord
	datum, err := s.datumKey(ctx, &pending.Key)
	if err == nil {
		answer, err = ask(taken.Pending, datum)
	}
	keep, cancel := afterwards(ctx)
	defer cancel()
	switch {
	case err != nil:
		reason := fault.Of(err).Reason
		if wrong(err, false) || reason == fault.ApprovalInvalid {
			return false, nil
		}
		if reason == fault.PINWeak || uncompared(err) {
			if e := s.store.GivePINCode(keep, *taken); e != nil && reason == fault.PINWeak {
				return false, refused(keep, e)
			}
		}
		return false, err
	case !answer.Verified:
		return false, nil
	}
	_, err = s.change(keep, taken.Subject, func(r *store.PINRecord) (*store.PINEvent, error) {
		if r.Version == taken.Version && bytes.Equal(r.Record, answer.Record) {
			return nil, nil // the same at the same moment
		}
		if !r.State.Pending() || !bytes.Equal(r.Approval, taken.Approval) {
			return nil, fault.New(fault.Conflict, "another version was begun, or the record was revoked, meanwhile")
		}
		r.Record, r.Pending, r.Code, r.CodeTriesLeft, r.CodeExpires = answer.Record, nil, nil, 0, time.Time{}
		filled(r)
		return &e, nil
	})
	return err == nil, err
}
