package records

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/pinrecord"
	"keyd/store"
)

// Begun is the answer to [Service.Begin].
type Begun struct {
	Record *Record
	Code   []byte // sealed to who hands it over; nil of an UNBLOCK
	Link   string // by which it is set on a phone, see [LinkOf]; empty of an UNBLOCK
}

// approved is what two approvers have approved.
type approved struct {
	*pinrecord.Approval
	digest []byte
	signed []hsm.Approval
	names  string // who they are, for the history
	actor  string
}

// Approval reads what approvers have signed, before the policy is asked about whose PIN it is.
// Nothing of it is believed yet.
func Approval(two []pinrecord.Signed) (*pinrecord.Approval, error) {
	if len(two) != 2 || !bytes.Equal(two[0].Document, two[1].Document) {
		return nil, fault.New(fault.ApprovalInvalid, pinrecord.ErrTwo.Error())
	}
	a, err := pinrecord.ParseApproval(two[0].Document)
	if err != nil {
		return nil, fault.New(fault.ApprovalInvalid, pinrecord.ErrApproval.Error())
	}
	return a, nil
}

// Begin carries out what two approvers have approved: it begins a version of a record (ENROL, RESET)
// or gives tries back (UNBLOCK). notAfter is the end of a temporary PIN, zero for none. An approval
// is carried out once; the same again, until the PIN is set, has the same answer.
//
// Its refusals are [fault.ApprovalInvalid] and those of certificates, [fault.PINRecordNotFound],
// [fault.PINRecordState], [fault.RequestReplayed], and those of modules.
func (s *Service) Begin(ctx context.Context, actor string, two []pinrecord.Signed, notAfter time.Time) (*Begun, error) {
	a, err := s.approved(actor, two)
	if err != nil {
		return nil, err
	}
	if !notAfter.IsZero() && (!notAfter.After(s.now()) || notAfter.Year() > 9999 || a.Action == pinrecord.Unblock) {
		return nil, fault.New(fault.RequestInvalid, "not_after is in the future, and of a PIN that is begun")
	}
	if a.Action == pinrecord.Unblock {
		return s.unblock(ctx, a)
	}
	r, err := s.mark(ctx, a, notAfter.UTC().Truncate(time.Microsecond))
	if err != nil {
		return nil, err
	}
	return s.code(ctx, a, r)
}

func (s *Service) approved(actor string, two []pinrecord.Signed) (*approved, error) {
	anchors, err := s.authorities.Anchors(ceremony.UseApprovers)
	if err != nil {
		return nil, err
	}
	approval, digest, err := pinrecord.OpenBoth(two, anchors, s.now())
	if err != nil {
		return nil, pinrecord.Refusal(err)
	}
	a := &approved{Approval: approval, digest: digest[:], actor: actor}
	for i := range two {
		a.signed = append(a.signed, hsm.Approval(two[i]))
		c, err := x509.ParseCertificate(two[i].Certificates[0])
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err) // OpenBoth has read it
		}
		by, err := pinrecord.ApproverOf(c)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, err)
		}
		if i > 0 {
			a.names += ", "
		}
		a.names += by.ID
	}
	return a, nil
}

// mark has the database know that a version is begun: from then on the PIN before it is dead on
// every front.
func (s *Service) mark(ctx context.Context, a *approved, notAfter time.Time) (*store.PINRecord, error) {
	subject := digestOf(&a.Subject)
	if _, err := s.usableDatumKey(ctx); err != nil {
		return nil, err
	}
	kind, state := EventEnrolBegun, store.PINEnrolPending
	if a.Action == pinrecord.Reset {
		kind, state = EventResetBegun, store.PINResetPending
	}
	detail := fmt.Sprintf("version %d, approved by %s", a.Version, a.names)
	if !notAfter.IsZero() {
		detail = fmt.Sprintf("version %d until %s, approved by %s", a.Version, notAfter.Format(time.RFC3339), a.names)
	}
	e := s.event(kind, a.actor, detail)
	e.Request = a.digest
	begin := func(r *store.PINRecord) {
		r.Version, r.State, r.Approval = a.Version, state, a.digest
		r.Tries, r.TriesLeft, r.Record, r.Pending, r.Code = Tries, 0, nil, nil, nil
		r.CodeTriesLeft, r.CodeExpires, r.NotAfter = CodeTries, time.Unix(a.Approval.NotAfter, 0).UTC(), notAfter
	}
	if a.Action == pinrecord.Enrol {
		at := s.now()
		r := store.PINRecord{
			Subject: subject, Kind: string(a.Subject.Kind), Merchant: a.Subject.Merchant, Terminal: a.Subject.Terminal, Name: a.Subject.Name,
			Events: 1, Revision: 1, CreatedAt: at, ChangedAt: at,
		}
		begin(&r)
		switch err := s.store.AddPINRecord(ctx, r, e); {
		case err == nil:
			return &r, nil
		case !errors.Is(err, store.ErrExists):
			return nil, refused(ctx, err)
		}
	}
	return s.change(ctx, subject, func(r *store.PINRecord) (*store.PINEvent, error) {
		switch {
		case bytes.Equal(r.Approval, a.digest) && r.State.Pending():
			return nil, nil // the same again
		case bytes.Equal(r.Approval, a.digest):
			return nil, fault.New(fault.RequestReplayed, "the PIN was set by this approval")
		case a.Action == pinrecord.Enrol && r.State != store.PINEnrolPending:
			return nil, ended("the subject has had a PIN: what begins another is a RESET")
		case a.Action == pinrecord.Reset && r.State == store.PINEnrolPending:
			return nil, ended("the subject never had a PIN: what begins one is an ENROL")
		case a.Version <= r.Version:
			return nil, ended(fmt.Sprintf("the next version is %d", r.Version+1))
		}
		begin(r)
		return &e, nil
	})
}

// code has a module begin the version, and makes what it answers durable before it leaves. Of several
// answers to the same approval one is kept.
func (s *Service) code(ctx context.Context, a *approved, r *store.PINRecord) (*Begun, error) {
	if len(r.Pending) > 0 {
		return &Begun{s.record(r), r.Code, LinkOf(a.digest)}, nil
	}
	k, err := s.key(ctx, DatumKey)
	if err != nil {
		return nil, err
	}
	begun, err := s.modules.BeginPIN(ctx, hsm.BeginPIN{Approvals: a.signed, DatumKey: k})
	if err != nil {
		return nil, err
	}
	keep, cancel := afterwards(ctx)
	defer cancel()
	for turn := 0; ; turn++ {
		now, err := s.store.PINRecord(keep, r.Subject)
		switch {
		case err != nil:
			return nil, refused(keep, err)
		case !bytes.Equal(now.Approval, a.digest) || !now.State.Pending():
			return nil, fault.New(fault.Conflict, "another version was begun, or the record was revoked, meanwhile")
		case len(now.Pending) > 0:
			return &Begun{s.record(&now), now.Code, LinkOf(a.digest)}, nil
		}
		now.Pending, now.Code = begun.Pending, begun.Code
		kept, err := s.store.UpdatePINRecord(keep, now, nil)
		switch {
		case err == nil:
			return &Begun{s.record(&kept), kept.Code, LinkOf(a.digest)}, nil
		case !errors.Is(err, store.ErrConflict) || turn == mostTurns:
			return nil, refused(keep, err)
		}
	}
}

// unblock gives tries back, in the modules first: they use the approval up. Where they have done that
// already, and the database knows nothing of it, an earlier call was broken off between the two.
func (s *Service) unblock(ctx context.Context, a *approved) (*Begun, error) {
	if a.Subject.Kind == pinrecord.Passkey {
		return nil, ended("a passkey has no tries that could be given back: what is lost is RESET")
	}
	subject := digestOf(&a.Subject)
	r, err := s.store.PINRecord(ctx, subject)
	if err != nil {
		return nil, refused(ctx, err)
	}
	used, err := s.usedUp(ctx, a)
	switch {
	case err != nil:
		return nil, err
	case used:
		return &Begun{Record: s.record(&r)}, nil // the same again
	}
	if err := unblockable(&r, a); err != nil {
		return nil, err
	}
	if err := s.modules.UnblockRecord(ctx, r.Record, a.signed); err != nil && (ctx.Err() != nil || fault.Of(err).Reason != fault.RequestReplayed) {
		return nil, err
	}
	e := s.event(EventUnblocked, a.actor, "approved by "+a.names)
	e.Request = a.digest
	keep, cancel := afterwards(ctx)
	defer cancel()
	kept, err := s.change(keep, subject, func(r *store.PINRecord) (*store.PINEvent, error) {
		if err := unblockable(r, a); err != nil {
			return nil, err
		}
		filled(r)
		return &e, nil
	})
	if err != nil && fault.Of(err).Reason == fault.RequestReplayed { // the same at the same moment
		r, err := s.store.PINRecord(keep, subject)
		if err != nil {
			return nil, refused(keep, err)
		}
		return &Begun{Record: s.record(&r)}, nil
	}
	if err != nil {
		return nil, err
	}
	return &Begun{Record: s.record(kept)}, nil
}

func unblockable(r *store.PINRecord, a *approved) error {
	switch {
	case r.State != store.PINActive && r.State != store.PINBlocked:
		return ended("it has no PIN for which tries could be given back")
	case r.Version != a.Version:
		return ended(fmt.Sprintf("its version is %d", r.Version))
	}
	return nil
}

// usedUp reports whether an approval was carried out.
func (s *Service) usedUp(ctx context.Context, a *approved) (bool, error) {
	_, err := s.store.PINEventOfRequest(ctx, a.digest)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return false, nil
	case err != nil:
		return false, refused(ctx, err)
	}
	return true, nil
}

// usableDatumKey finds the key for records that are begun from now on.
func (s *Service) usableDatumKey(ctx context.Context) (hsm.Key, error) {
	k, err := s.usable(ctx, DatumKey)
	if err != nil {
		return hsm.Key{}, err
	}
	if k.Header.Usage != "V0" || k.Header.Algorithm != "A" {
		return hsm.Key{}, fault.New(fault.KeyUsageMismatch, "the key "+DatumKey+", which makes the data of PIN records, is an AES key of usage V0")
	}
	return hsm.Key{Name: k.Name, Sealed: k.Sealed}, nil
}
