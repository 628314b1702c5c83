package records

import (
	"context"
	"errors"
	"strings"
	"time"

	"keyd/fault"
	"keyd/hsm"
	"keyd/keys"
	"keyd/keyuse"
	"keyd/pinrecord"
	"keyd/store"
	"keyd/trust"
	"keyd/turns"
)

// The actions that a policy allows or not.
const (
	ActionBegin  = "PinRecordService/BeginPin"
	ActionSet    = "PinRecordService/SetPin"
	ActionVerify = "PinRecordService/VerifyPin"
	ActionChange = "PinRecordService/ChangePin"
	ActionRevoke = "PinRecordService/RevokePin"
	ActionGet    = "PinRecordService/GetPinRecord"
	ActionList   = "PinRecordService/ListPinRecords"
	ActionEvents = "PinRecordService/ListPinEvents"
)

// DatumKey is the name, or the alias, of the key that makes the data of PINs: an AES key of usage V0.
// A record remembers which key and version it was.
const DatumKey = "pin-records"

// Tries that may be wrong in a row, of a PIN and of a code.
const (
	Tries     = 3
	CodeTries = 3
)

// MaxReason is the length of the longest reason for a change, in bytes.
const MaxReason = 256

// Modules compare PINs; [hsm.Client] does. Their errors are refusals of package fault.
type Modules interface {
	Attached() int
	BeginPIN(ctx context.Context, r hsm.BeginPIN) (hsm.BegunPIN, error)
	SetPIN(ctx context.Context, r hsm.SetPIN) (hsm.SetRecord, error)
	SetPasskey(ctx context.Context, r hsm.SetPasskey) (hsm.SetRecord, error)
	VerifyRecord(ctx context.Context, r hsm.VerifyRecord) (verified bool, err error)
	ChangeRecord(ctx context.Context, r hsm.ChangeRecord) (hsm.SetRecord, error)
	RevokeRecord(ctx context.Context, record []byte) error
	UnblockRecord(ctx context.Context, record []byte, two []hsm.Approval) error
}

// Keys finds keys of the inventory; [keys.Inventory] does.
type Keys interface {
	Resolve(ctx context.Context, reference string) (keys.Key, error)
}

// Authorities say whose signatures count.
type Authorities interface {
	// Anchors returns the authorities that officers believe for a use ([ceremony.UseApprovers]).
	// Its error is a refusal of package fault.
	Anchors(use string) (trust.Anchors, error)
}

// Service keeps PIN records in a database. It is safe for concurrent use, also by several processes;
// what it remembers is whose PINs are being tried.
type Service struct {
	store       store.PINRecords
	used        *keyuse.Keys
	keys        Keys
	authorities Authorities
	modules     Modules
	clock       func() time.Time
	turns       turns.Turns
}

// New returns the service over a database. used are the keys that requests name, k those that
// records do.
func New(s store.PINRecords, used *keyuse.Keys, k Keys, a Authorities, m Modules) *Service {
	return &Service{store: s, used: used, keys: k, authorities: a, modules: m, clock: time.Now}
}

func (s *Service) now() time.Time { return s.clock().UTC().Truncate(time.Microsecond) }

// The kinds of events. There may be others.
const (
	EventEnrolBegun = "enrol-begun"
	EventResetBegun = "reset-begun"
	EventSet        = "pin-set"
	EventPasskeySet = "passkey-set"
	EventChanged    = "changed"
	EventBlocked    = "blocked"    // the last try was taken
	EventRight      = "last-right" // and was right: the record is active again
	EventReturned   = "returned"   // or was compared with nothing: likewise
	EventUnblocked  = "unblocked"
	EventRevoked    = "revoked"
)

// checkSubject refuses what is none, and says how one is written.
func checkSubject(subject *pinrecord.Subject) error {
	if err := subject.Validate(); err != nil {
		return keyuse.Invalid("subject: " + strings.TrimPrefix(err.Error(), pinrecord.ErrSubject.Error()+": "))
	}
	return nil
}

// checkPIN refuses what is none, and who has a passkey: that is set and used on a phone.
func checkPIN(subject *pinrecord.Subject) error {
	if err := checkSubject(subject); err != nil {
		return err
	}
	if subject.Kind == pinrecord.Passkey {
		return keyuse.Invalid("subject: a passkey is no PIN; it is set and used on its owner's phone")
	}
	return nil
}

func digestOf(subject *pinrecord.Subject) []byte {
	digest := subject.Digest()
	return digest[:]
}

// afterwards is for what has to be kept although the caller is gone.
func afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.WithoutCancel(ctx), keepTimeout, errNotKept)
}

const keepTimeout = 10 * time.Second

// errNotKept is why the time of [afterwards] is over.
var errNotKept = errors.New("it could not be kept in time")

// refused turns an error of the store into a refusal.
func refused(ctx context.Context, err error) error {
	ended := ctx.Err()
	switch {
	case ended != nil && errors.Is(context.Cause(ctx), errNotKept): // the caller may still wait
		return fault.Wrap(fault.StoreUnavailable, err)
	case ended != nil && errors.Is(err, ended):
		return ended
	case errors.Is(err, store.ErrNotFound):
		return fault.New(fault.PINRecordNotFound, "")
	case errors.Is(err, store.ErrInvalid):
		return fault.New(fault.RequestInvalid, "no PIN record can be like that")
	case errors.Is(err, store.ErrTaken):
		return fault.New(fault.RequestReplayed, "the approval was used up: let two approvers sign another")
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrExists):
		return fault.New(fault.Conflict, "look at the PIN record again")
	}
	return fault.Wrap(fault.StoreUnavailable, err)
}

// cut shortens the detail of an event to what is kept.
func cut(s string) string {
	if len(s) > store.MaxEventDetail {
		s = strings.ToValidUTF8(s[:store.MaxEventDetail], "")
	}
	return s
}
