package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"
)

// Limits of what [PINRecords] keeps.
const (
	MaxPINName    = 64        // bytes of a subject's merchant, terminal and name
	MaxPINRecord  = 4096      // bytes of a sealed record, or of a sealed pending one
	MaxPINCode    = 512       // bytes of a sealed code
	MaxPINTries   = 15        // in a row
	MaxPINVersion = 1<<32 - 1 // of a record
	MaxPINEvents  = 1_000_000 // of a record
	PINLink       = 16        // bytes of an approval by which its record is found
)

// PINState is what can be done with a PIN record.
type PINState string

// The states of a PIN record.
const (
	PINEnrolPending PINState = "ENROL_PENDING" // begun, and no PIN was set yet
	PINActive       PINState = "ACTIVE"
	PINBlocked      PINState = "BLOCKED"       // the tries are used up
	PINResetPending PINState = "RESET_PENDING" // the PIN that was is dead, and no other was set yet
	PINRevoked      PINState = "REVOKED"
)

// Pending reports whether a PIN is to be set.
func (s PINState) Pending() bool { return s == PINEnrolPending || s == PINResetPending }

// PINRecord is what is kept of a subject's PIN, or of its passkey. What is sealed is opaque here.
type PINRecord struct {
	Subject  []byte // digest of what follows, 32 bytes
	Kind     string // SUPERVISOR, CARDHOLDER or PASSKEY
	Merchant string // at most MaxPINName printable ASCII characters without spaces; may be empty
	Terminal string // likewise
	Name     string // likewise, not empty

	Version   uint32   // from 1; never falls
	State     PINState //
	Tries     uint32   // in a row that may be wrong, 1 to MaxPINTries
	TriesLeft uint32   // of them; none but in state ACTIVE
	Series    uint64   // rises whenever all tries are there again
	Record    []byte   // sealed: in states ACTIVE and BLOCKED; of one that is REVOKED, what a module has still to end

	Approval      []byte    // digest of the approval by which the version was begun, 32 bytes, or empty
	Pending       []byte    // sealed: of a pending record, once a module has begun it
	Code          []byte    // sealed to who hands it over; comes with Pending
	CodeTriesLeft uint32    // of a pending record
	CodeExpires   time.Time // of a pending record; zero for others
	NotAfter      time.Time // of a temporary PIN; zero for others

	Events    uint64 // their number
	Revision  uint64 // the number of changes, tries among them: 1 when it is added
	CreatedAt time.Time
	ChangedAt time.Time // of the last event
}

// Usable reports whether the PIN may be tried at a time.
func (r *PINRecord) Usable(now time.Time) bool {
	return r.State == PINActive && r.TriesLeft > 0 && !r.Ended(now)
}

// Ended reports whether the time of a temporary PIN is over.
func (r *PINRecord) Ended(now time.Time) bool { return !r.NotAfter.IsZero() && !now.Before(r.NotAfter) }

// Settable reports whether the code of a pending record may be tried at a time: not after the end of
// a temporary PIN either.
func (r *PINRecord) Settable(now time.Time) bool {
	return r.State.Pending() && len(r.Pending) > 0 && r.CodeTriesLeft > 0 && now.Before(r.CodeExpires) && !r.Ended(now)
}

// PINEvent is something that happened to a PIN record.
type PINEvent struct {
	Subject []byte    // of the record
	Number  uint64    // from 1, without a gap
	Kind    string    // as of a [TerminalEvent]
	Actor   string    // likewise
	Detail  string    // likewise
	Request []byte    // digest of the approval that it used up, 32 bytes, or empty
	At      time.Time // as KeyRecord.CreatedAt
}

// PINRecords keeps PIN records, and counts tries. Its methods may be called concurrently, and by
// several processes: a try that one of them was given is no other's. See [Keys] about errors; after
// an error of TakePINTry or TakePINCode nothing may be compared, and a try may be lost.
type PINRecords interface {
	// AddPINRecord adds a record with its first event; revision and number of events are 1.
	// [ErrExists] when its subject has one, [ErrTaken] when the approval of the event was used up
	// before, [ErrInvalid] outside the limits.
	AddPINRecord(ctx context.Context, r PINRecord, e PINEvent) error

	// UpdatePINRecord keeps r in the place of its subject's record, and adds e if there is one.
	// r.Revision is the one that was read: [ErrConflict] when another is stored, also where the
	// subject or the time at which it was added differ, or the version falls. Number of events,
	// revision and, with an event, the time of the change are set. [ErrNotFound] when there is no
	// such record, [ErrTaken] and [ErrInvalid] as of AddPINRecord.
	UpdatePINRecord(ctx context.Context, r PINRecord, e *PINEvent) (PINRecord, error)

	// TakePINTry takes a try of a PIN that is usable now ([PINRecord.Usable]), and returns the
	// record as it is afterwards: with the last one BLOCKED, for which e is added. Where none may
	// be tried, taken is false, and as much is written.
	TakePINTry(ctx context.Context, subject []byte, now time.Time, e PINEvent) (r PINRecord, taken bool, err error)

	// GivePINTry gives a try back that TakePINTry has returned, unless the tries began anew since,
	// or the version did. With all of them, where nothing has changed since, they begin anew. A
	// record that was blocked meanwhile is active again, for which e is added.
	GivePINTry(ctx context.Context, taken PINRecord, all bool, e PINEvent) error

	// TakePINCode takes a try of the code of a pending record that is settable now
	// ([PINRecord.Settable]), likewise.
	TakePINCode(ctx context.Context, subject []byte, now time.Time) (r PINRecord, taken bool, err error)

	// GivePINCode gives it back, unless another version was begun since, or it was set.
	GivePINCode(ctx context.Context, taken PINRecord) error

	// PINRecord returns the record of a subject, [ErrNotFound] when there is none. The caller owns
	// the result.
	PINRecord(ctx context.Context, subject []byte) (PINRecord, error)

	// PINRecordOfLink returns the record of which the last version was begun by an approval whose digest
	// begins with PINLink bytes, whatever has become of it. [ErrNotFound] when there is none.
	PINRecordOfLink(ctx context.Context, link []byte) (PINRecord, error)

	// PINRecords returns the records of a merchant whose subjects come after the given one, in
	// byte order, at most limit (1 to [MaxList], otherwise [ErrInvalid]); fewer are the last.
	PINRecords(ctx context.Context, merchant string, after []byte, limit int) ([]PINRecord, error)

	// ListPINRecords returns the records of all merchants, likewise.
	ListPINRecords(ctx context.Context, after []byte, limit int) ([]PINRecord, error)

	// PINEvents returns the events of a subject's record after the given number, in their order,
	// at most limit (1 to [MaxList], otherwise [ErrInvalid]).
	PINEvents(ctx context.Context, subject []byte, after uint64, limit int) ([]PINEvent, error)

	// PINEventOfRequest returns the event that used an approval up, by its digest. [ErrNotFound]
	// when none did.
	PINEventOfRequest(ctx context.Context, request []byte) (PINEvent, error)
}

// Validate returns [ErrInvalid] for a record outside the limits; see [KeyRecord.Validate].
func (r *PINRecord) Validate() error {
	pending, live := r.State.Pending(), r.State == PINActive || r.State == PINBlocked
	switch {
	case len(r.Subject) != sha256.Size:
		return fmt.Errorf("%w: a PIN record is of a subject, whose digest has %d bytes", ErrInvalid, sha256.Size)
	case r.Kind != "SUPERVISOR" && r.Kind != "CARDHOLDER" && r.Kind != "PASSKEY":
		return fmt.Errorf("%w: a PIN record is a supervisor's or a cardholder's, or of a passkey", ErrInvalid)
	case !validPINName(r.Name) || r.Merchant != "" && !validPINName(r.Merchant) || r.Terminal != "" && !validPINName(r.Terminal):
		return fmt.Errorf("%w: the names of a PIN record's subject have 1 to %d printable ASCII characters without spaces", ErrInvalid, MaxPINName)
	case !pending && !live && r.State != PINRevoked:
		return fmt.Errorf("%w: the state is none of a PIN record", ErrInvalid)
	case r.Version == 0:
		return fmt.Errorf("%w: versions of PIN records begin at 1", ErrInvalid)
	case r.Tries == 0 || r.Tries > MaxPINTries || r.TriesLeft > r.Tries || (r.State == PINActive) != (r.TriesLeft > 0):
		return fmt.Errorf("%w: a PIN record has 1 to %d tries, and some left if it is active", ErrInvalid, MaxPINTries)
	case live && len(r.Record) == 0 || pending && len(r.Record) > 0 || len(r.Record) > MaxPINRecord:
		return fmt.Errorf("%w: a PIN record that has a PIN is sealed, in at most %d bytes", ErrInvalid, MaxPINRecord)
	case !validDigestOrNone(r.Approval) || pending && len(r.Approval) == 0:
		return fmt.Errorf("%w: a PIN record is begun by an approval, whose digest has %d bytes", ErrInvalid, sha256.Size)
	case len(r.Pending) > MaxPINRecord || len(r.Code) > MaxPINCode || (len(r.Pending) > 0) != (len(r.Code) > 0) || !pending && len(r.Pending) > 0:
		return fmt.Errorf("%w: a pending PIN record is sealed and comes with its code, in at most %d and %d bytes", ErrInvalid, MaxPINRecord, MaxPINCode)
	case r.CodeTriesLeft > MaxPINTries || !pending && r.CodeTriesLeft > 0 || pending == r.CodeExpires.IsZero():
		return fmt.Errorf("%w: the code of a pending PIN record, and of no other, has at most %d tries and an end", ErrInvalid, MaxPINTries)
	case r.Events == 0 || r.Events > MaxPINEvents || r.Revision < r.Events || r.Revision > maxCount || r.Series > r.Revision:
		return fmt.Errorf("%w: a PIN record has 1 to %d events, and as many changes or more", ErrInvalid, MaxPINEvents)
	case !validTime(r.CreatedAt) || !validTime(r.ChangedAt) || !validTimeOrNone(r.NotAfter) || !validTimeOrNone(r.CodeExpires):
		return fmt.Errorf("%w: a time of a PIN record is not within the years 1970 to 9999", ErrInvalid)
	}
	return nil
}

// Validate returns [ErrInvalid] for an event outside the limits; see [KeyRecord.Validate].
func (e *PINEvent) Validate() error {
	switch {
	case len(e.Subject) != sha256.Size:
		return fmt.Errorf("%w: an event is of a PIN record's subject, whose digest has %d bytes", ErrInvalid, sha256.Size)
	case e.Number == 0 || e.Number > MaxPINEvents:
		return fmt.Errorf("%w: events of PIN records are numbered from 1 to %d", ErrInvalid, MaxPINEvents)
	case !validName(e.Kind) || len(e.Kind) > MaxEventKind:
		return fmt.Errorf("%w: the kind of an event has 1 to %d printable ASCII characters without spaces", ErrInvalid, MaxEventKind)
	case len(e.Actor) > MaxActor || !ascii(e.Actor):
		return fmt.Errorf("%w: who did it has at most %d bytes of printable ASCII", ErrInvalid, MaxActor)
	case len(e.Detail) > MaxEventDetail || !printable(e.Detail):
		return fmt.Errorf("%w: the detail of an event has at most %d bytes of printable UTF-8", ErrInvalid, MaxEventDetail)
	case !validDigestOrNone(e.Request):
		return fmt.Errorf("%w: an approval's digest has %d bytes", ErrInvalid, sha256.Size)
	case !validTime(e.At):
		return fmt.Errorf("%w: the time of an event is not within the years 1970 to 9999", ErrInvalid)
	}
	return nil
}

// maxCount bounds what only ever rises by one.
const maxCount = 1 << 62

func validPINName(s string) bool { return len(s) <= MaxPINName && validName(s) }

func validDigestOrNone(b []byte) bool { return len(b) == 0 || len(b) == sha256.Size }

// validTimeOrNone is about a time that may be none; 1970 itself is none too.
func validTimeOrNone(t time.Time) bool { return t.IsZero() || t.UnixMicro() > 0 && validTime(t) }
