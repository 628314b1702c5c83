package records

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"keyd/fault"
	"keyd/keyuse"
	"keyd/pinrecord"
	"keyd/store"
)

// State is what can be done with a record, as the contract names it.
type State string

// The states.
const (
	EnrolPending State = "ENROL_PENDING"
	Active       State = "ACTIVE"
	Blocked      State = "BLOCKED"
	ResetPending State = "RESET_PENDING"
	Revoked      State = "REVOKED"
	Ended        State = "ENDED" // a temporary PIN whose time is over
)

// Record is what may be told of a subject's PIN.
type Record struct {
	Subject     pinrecord.Subject
	State       State
	Version     uint32    // the next one that is begun has the number after it
	TriesLeft   uint32    //
	CodeExpires time.Time // while something is pending; else zero
	NotAfter    time.Time // of a temporary PIN; else zero
	Created     time.Time
	Changed     time.Time
}

// Summary says whose PIN it is about, for the audit log.
func Summary(s *pinrecord.Subject) string {
	if s.Validate() != nil {
		return "no subject"
	}
	of := "PIN of cardholder "
	switch s.Kind {
	case pinrecord.Supervisor:
		of = "PIN of supervisor "
	case pinrecord.Passkey:
		of = "passkey of supervisor "
	}
	text := of + s.Name
	if s.Terminal != "" {
		text += ", terminal " + s.Terminal
	}
	if s.Merchant != "" {
		text += ", merchant " + s.Merchant
	}
	return text
}

// Event is something that happened to a record.
type Event struct {
	Number uint64
	Kind   string
	Actor  string
	Detail string
	At     time.Time
}

// record is what is kept, as it is now.
func (s *Service) record(r *store.PINRecord) *Record {
	v := &Record{
		Subject: pinrecord.Subject{Kind: pinrecord.Kind(r.Kind), Merchant: r.Merchant, Terminal: r.Terminal, Name: r.Name}, State: State(r.State), Version: r.Version,
		TriesLeft: r.TriesLeft, CodeExpires: r.CodeExpires, NotAfter: r.NotAfter, Created: r.CreatedAt, Changed: r.ChangedAt,
	}
	if (r.State == store.PINActive || r.State == store.PINBlocked) && r.Ended(s.now()) {
		v.State, v.TriesLeft = Ended, 0
	}
	return v
}

// Get returns the record of a subject, [fault.PINRecordNotFound] where it has none.
func (s *Service) Get(ctx context.Context, subject *pinrecord.Subject) (*Record, error) {
	if err := checkSubject(subject); err != nil {
		return nil, err
	}
	r, err := s.store.PINRecord(ctx, digestOf(subject))
	if err != nil {
		return nil, refused(ctx, err)
	}
	return s.record(&r), nil
}

// List returns the records of a merchant after a place (empty: from the beginning), at most limit (1
// to [store.MaxList]), and the place where the next page begins; empty after the last.
func (s *Service) List(ctx context.Context, merchant, after string, limit int) (list []*Record, next string, err error) {
	probe := pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: merchant, Name: "a"}
	if probe.Validate() != nil {
		return nil, "", keyuse.Invalid("merchant has 1 to 64 letters, digits and ._-, the first a letter or a digit")
	}
	place, err := hex.DecodeString(after)
	if err != nil || len(place) != 0 && len(place) != len(probe.Digest()) {
		return nil, "", keyuse.Invalid("page_token is not one of an answer")
	}
	found, err := s.store.PINRecords(ctx, merchant, place, limit)
	if err != nil {
		return nil, "", refused(ctx, err)
	}
	for n := range found {
		list = append(list, s.record(&found[n]))
	}
	if len(found) == limit {
		next = hex.EncodeToString(found[limit-1].Subject)
	}
	return list, next, nil
}

// Events returns what happened to a subject's record after the event of a number, at most limit (1 to
// [store.MaxList]); fewer are the last. [fault.PINRecordNotFound] where it has none.
func (s *Service) Events(ctx context.Context, subject *pinrecord.Subject, after uint64, limit int) ([]Event, error) {
	if _, err := s.Get(ctx, subject); err != nil {
		return nil, err
	}
	found, err := s.store.PINEvents(ctx, digestOf(subject), after, limit)
	if err != nil {
		return nil, refused(ctx, err)
	}
	list := make([]Event, len(found))
	for n, e := range found {
		list[n] = Event{e.Number, e.Kind, e.Actor, e.Detail, e.At}
	}
	return list, nil
}

// mostTurns is how often a change is decided anew because something else came first. What comes
// first without being such a change are tries, of which there are few.
const mostTurns = 10

// change has decide say what becomes of a subject's record, and keeps it with the event: once more,
// where the record has changed meanwhile. A nil event without an error changes nothing.
func (s *Service) change(ctx context.Context, subject []byte, decide func(r *store.PINRecord) (*store.PINEvent, error)) (*store.PINRecord, error) {
	for turn := 0; ; turn++ {
		r, err := s.store.PINRecord(ctx, subject)
		if err != nil {
			return nil, refused(ctx, err)
		}
		e, err := decide(&r)
		if err != nil {
			return nil, err
		}
		if e == nil {
			return &r, nil
		}
		kept, err := s.store.UpdatePINRecord(ctx, r, e)
		switch {
		case err == nil:
			return &kept, nil
		case !errors.Is(err, store.ErrConflict) || turn == mostTurns:
			return nil, refused(ctx, err)
		}
	}
}

// filled gives a record a PIN that may be tried as often as any.
func filled(r *store.PINRecord) {
	r.State, r.TriesLeft = store.PINActive, r.Tries
	r.Series++
}

// checkReason refuses what is no reason for people to read.
func checkReason(reason string) error {
	if len(reason) > MaxReason || !utf8.ValidString(reason) {
		return keyuse.Invalid(fmt.Sprintf("reason has at most %d bytes of printable UTF-8", MaxReason))
	}
	for _, c := range reason {
		if !unicode.IsPrint(c) {
			return keyuse.Invalid(fmt.Sprintf("reason has at most %d bytes of printable UTF-8", MaxReason))
		}
	}
	return nil
}

func ended(detail string) error { return fault.New(fault.PINRecordState, detail) }
