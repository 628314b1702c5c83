package records

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/pinrecord"
	"keyd/store"
)

// Turn waits until no other request of this front tries the PINs of subjects, and returns what ends
// the turn: right PINs that come together, more than there are tries, would else be answered like wrong
// ones. Tries are counted in the database all the same. Whoever calls [Service.Attempt] has a turn.
// Unknown subjects have turns as well. Its error is ctx's.
func (s *Service) Turn(ctx context.Context, subjects ...*pinrecord.Subject) (end func(), err error) {
	var digests []string
	for _, subject := range subjects {
		digests = append(digests, string(digestOf(subject)))
	}
	return s.turns.Take(ctx, digests...)
}

// Attempt is a try of a subject's PIN, which has been counted. Whoever has one asks a module once,
// with Record and DatumKey, and then calls [Attempt.Settle], whatever came of it.
type Attempt struct {
	Record   []byte // sealed pinrecord.Record
	DatumKey hsm.Key

	service *Service
	actor   string
	taken   *store.PINRecord // nil where there is nothing to compare with
}

// Attempt counts a try of a subject's PIN for actor, who has its turn ([Service.Turn]), durably, and
// returns the sealed record to compare with. Of a subject whose PIN cannot be tried the record is one that no module has sealed: whoever
// has it goes on with it all the same, so that the caller learns nothing from how long it takes, and
// [Attempt.Settle] answers like after a wrong PIN. Nothing is counted while no module is attached
// ([fault.ModuleUnavailable]).
func (s *Service) Attempt(ctx context.Context, actor string, subject *pinrecord.Subject) (*Attempt, error) {
	if err := checkPIN(subject); err != nil {
		return nil, err
	}
	if s.modules.Attached() == 0 {
		return nil, fault.New(fault.ModuleUnavailable, "")
	}
	at := s.now()
	taken, ok, err := s.store.TakePINTry(ctx, digestOf(subject), at, store.PINEvent{Kind: EventBlocked, Actor: actor, Detail: "the last try was taken", At: at})
	if err != nil {
		return nil, refused(ctx, err)
	}
	a := &Attempt{service: s, actor: actor}
	if !ok {
		a.Record, a.DatumKey, err = s.decoy(ctx, subject, decoyRecord)
		return a, err
	}
	a.taken, a.Record = &taken, taken.Record
	record, _, _, err := pinrecord.Parse(taken.Record)
	if err != nil {
		return nil, fault.Wrap(fault.StoreUnavailable, fmt.Errorf("a PIN record: %w", store.ErrCorrupt))
	}
	if a.DatumKey, err = s.datumKey(ctx, &record.Key); err != nil {
		_, err = a.Settle(ctx, false, err)
		return nil, err
	}
	return a, nil
}

// Settle ends an attempt by what a module has answered, and returns what may be told. A right PIN
// gives all tries back, unless others were taken meanwhile: then its own. A refusal that came
// before anything was compared gives back its own and is passed on. A record that is dead, and a
// block that is none, are answered like a wrong PIN.
func (a *Attempt) Settle(ctx context.Context, verified bool, err error) (bool, error) {
	if wrong(err, a.taken == nil) {
		return false, nil
	}
	if a.taken == nil {
		return false, err
	}
	if err != nil && !uncompared(err) || err == nil && !verified {
		return false, err
	}
	kind := EventReturned
	if err == nil {
		kind = EventRight
	}
	keep, cancel := afterwards(ctx)
	defer cancel()
	if e := a.service.store.GivePINTry(keep, *a.taken, err == nil, a.service.event(kind, a.actor, "")); e != nil && err == nil {
		return false, refused(ctx, e)
	}
	return err == nil, err
}

func (s *Service) event(kind, actor, detail string) store.PINEvent {
	return store.PINEvent{Kind: kind, Actor: actor, Detail: cut(detail), At: s.now()}
}

// wrong reports whether a refusal is answered like a wrong PIN.
func wrong(err error, decoy bool) bool {
	if err == nil {
		return decoy
	}
	switch fault.Of(err).Reason {
	case fault.PINBlockInvalid, fault.PINRecordEnded:
		return true
	case fault.KeySealInvalid:
		return decoy // no module has sealed it
	}
	return false
}

// uncompared reports whether a refusal shows that a module has compared nothing.
func uncompared(err error) bool {
	switch fault.Of(err).Reason {
	case fault.RequestInvalid, fault.KSNInvalid, fault.KeyNotFound, fault.KeyDisabled, fault.KeySealInvalid, fault.KeyUsageMismatch, fault.EpochStale, fault.LedgerUnavailable,
		fault.CustodyUnavailable, fault.RateLimited:
		return true
	}
	return false
}

// datumKey finds the key with which the data of a record are made.
func (s *Service) datumKey(ctx context.Context, k *pinrecord.DatumKey) (hsm.Key, error) {
	return s.key(ctx, fmt.Sprintf("%s?version=%d", k.Name, k.Version))
}

func (s *Service) key(ctx context.Context, reference string) (hsm.Key, error) {
	found, err := s.usable(ctx, reference)
	return hsm.Key{Name: found.Name, Sealed: found.Sealed}, err
}

func (s *Service) usable(ctx context.Context, reference string) (keys.Key, error) {
	found, err := s.keys.Resolve(ctx, reference)
	if err == nil {
		err = found.CheckUsable(s.now())
	}
	if err != nil && ctx.Err() == nil && fault.Of(err).Unwrap() == nil {
		err = fault.New(fault.Of(err).Reason, "the key "+reference+", which makes the data of PIN records")
	}
	return found, err
}

// decoyRecord and decoyPending make what a module has to look at and refuses: no master key has made
// its MAC.
func decoyRecord(subject *pinrecord.Subject, k *pinrecord.DatumKey, random []byte, _ time.Time) ([]byte, error) {
	r := pinrecord.Record{Subject: *subject, Version: 1, Key: *k, Length: pinrecord.MinSupervisorPIN, Datum: hex.EncodeToString(random[:pinrecord.DatumSize])}
	return r.Encode()
}

func decoyPending(subject *pinrecord.Subject, k *pinrecord.DatumKey, random []byte, now time.Time) ([]byte, error) {
	p := pinrecord.Pending{
		Subject: *subject, Version: 1, Approval: hex.EncodeToString(random[:32]), Key: *k, Code: hex.EncodeToString(random[:pinrecord.DatumSize]), NotAfter: now.Add(time.Hour).Unix(),
	}
	return p.Encode()
}

// decoy makes one for a subject, with the key with which its data would be made.
func (s *Service) decoy(ctx context.Context, subject *pinrecord.Subject, make func(*pinrecord.Subject, *pinrecord.DatumKey, []byte, time.Time) ([]byte, error)) ([]byte, hsm.Key, error) {
	k, err := s.usable(ctx, DatumKey)
	if err != nil {
		return nil, hsm.Key{}, err
	}
	var random [48]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, hsm.Key{}, err
	}
	body, err := make(subject, datumKeyOf(&k), random[:], s.now())
	if err != nil {
		return nil, hsm.Key{}, fault.Wrap(fault.Internal, err)
	}
	return append(body, random[32:]...), hsm.Key{Name: k.Name, Sealed: k.Sealed}, nil
}

// datumKeyOf names a key as records do.
func datumKeyOf(k *keys.Key) *pinrecord.DatumKey {
	return &pinrecord.DatumKey{Name: k.Name, Version: k.Version, Fingerprint: strings.ToUpper(k.Header.Fingerprint)}
}
