package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"
)

// Limits of a void.
const (
	VoidID         = 32       // bytes of its identifier, lower-case hex digits
	MaxVoidName    = 64       // bytes of a merchant, a terminal, a reference
	MaxVoidContent = 32 << 10 // bytes
	MaxVoidToken   = 4 << 10  // bytes
	VoidCode       = 16       // bytes of the identifier of a code
	VoidPayload    = 98       // bytes of a code
	VoidSlip       = 30       // bytes of a code on paper
	maxCurrency    = 999
)

// VoidState says how far a void is.
type VoidState string

// The states of a void. The first three are live, the others are left by nothing.
const (
	VoidCreated    VoidState = "CREATED"
	VoidScanned    VoidState = "SCANNED"
	VoidAuthorized VoidState = "AUTHORIZED"
	VoidConfirmed  VoidState = "CONFIRMED"
	VoidDeclined   VoidState = "DECLINED"
	VoidExpired    VoidState = "EXPIRED"
	VoidCancelled  VoidState = "CANCELLED"
)

// Live reports whether the void is not over.
func (s VoidState) Live() bool { return s == VoidCreated || s == VoidScanned || s == VoidAuthorized }

func (s VoidState) valid() bool {
	switch s {
	case VoidCreated, VoidScanned, VoidAuthorized, VoidConfirmed, VoidDeclined, VoidExpired, VoidCancelled:
		return true
	}
	return false
}

// VoidRecord is what is kept of a void. What is in Content stands beside it only where it is
// searched for.
type VoidRecord struct {
	ID        string // VoidID lower-case hex digits
	Merchant  string // 1 to MaxVoidName bytes of printable ASCII without spaces
	Terminal  string // likewise
	Reference string // likewise
	Amount    int64  // 1 or more
	Currency  uint16 // 1 to 999
	Fee       int64  // 0 to Amount
	State     VoidState
	Version   uint64 // from 1, later with each change
	Content   []byte // 1 to MaxVoidContent bytes, opaque here

	// Token is there in the states AUTHORIZED and CONFIRMED and may be in DECLINED and EXPIRED.
	Token string

	Code        []byte    // VoidCode bytes
	Payload     []byte    // VoidPayload bytes, opaque here
	Slip        []byte    // VoidSlip bytes, opaque here, or none
	CodeExpires time.Time // as KeyRecord.CreatedAt
	Burnt       time.Time // when the code was burnt; zero: it was not
	PaidAt      time.Time // when the payment was made, as it was said at creation; zero of voids from before that was kept
	Request     []byte    // SHA-256 of who created it by which request
	Due         time.Time // when a live one has to be looked at again
	Created     time.Time // as KeyRecord.CreatedAt
	Changed     time.Time // likewise
}

// Standing is what else there is of a merchant's voids at one moment, a void itself left out.
type Standing struct {
	Live  bool // another void of the payment is live
	Today int  // voids since the given time that are live or CONFIRMED
}

// VoidQuestion says which void is to be added, and what has to be known of others.
type VoidQuestion struct {
	Request   []byte
	Merchant  string
	Reference string
	Since     time.Time // from when others count as of today
}

// Voids keeps void requests. None is ever deleted. Its methods may be called concurrently, and by
// several processes; see [Keys] about errors.
//
// What decides about a void is a function of the caller's. It is called within the transaction that
// keeps what it returns, perhaps several times, so it must do nothing else and be quick. An error
// of it ends the transaction, in which nothing has changed then, and is returned as it is.
type Voids interface {
	// AddVoid keeps the void that create returns, whose version is 1, and returns it. Where there
	// is one of the same request, that one is returned, added is false, and nothing is asked.
	// [ErrExists] for an identifier, a code or a live void of the payment that is there.
	AddVoid(ctx context.Context, q VoidQuestion, create func(Standing) (VoidRecord, error)) (r VoidRecord, added bool, err error)

	// ChangeVoid keeps what change makes of a void, and returns it. One that comes back with its
	// version is left as it is; otherwise it has a later one. Identifier, merchant, terminal,
	// reference, amount, currency, fee, code, payment's time, request and creation never change, nor does a token
	// that is there ([ErrInvalid]). [ErrNotFound] where there is no such void.
	ChangeVoid(ctx context.Context, id string, since time.Time, change func(VoidRecord, Standing) (VoidRecord, error)) (VoidRecord, error)

	// VoidStanding returns a void with its standing, of one moment, and changes nothing.
	// [ErrNotFound] where there is no such void.
	VoidStanding(ctx context.Context, id string, since time.Time) (VoidRecord, Standing, error)

	// Void returns a void, VoidOfCode the one whose code has an identifier, VoidOfRequest the one
	// that was created by a request. [ErrNotFound] where there is none.
	Void(ctx context.Context, id string) (VoidRecord, error)
	VoidOfCode(ctx context.Context, code []byte) (VoidRecord, error)
	VoidOfRequest(ctx context.Context, request []byte) (VoidRecord, error)

	// ListVoids returns the voids of a merchant, in a state or (empty) in any, the newest first;
	// those that come after the given one in that order, or from the newest on for the zero time;
	// at most limit (1 to [MaxList], otherwise [ErrInvalid]).
	ListVoids(ctx context.Context, merchant string, state VoidState, before time.Time, beforeID string, limit int) ([]VoidRecord, error)

	// DueVoids returns live voids that are due by now, at most limit.
	DueVoids(ctx context.Context, now time.Time, limit int) ([]VoidRecord, error)
}

// Validate returns [ErrInvalid] for a void outside the limits; see [KeyRecord.Validate].
func (r VoidRecord) Validate() error {
	tokenless := r.State == VoidCreated || r.State == VoidScanned || r.State == VoidCancelled
	tokened := r.State == VoidAuthorized || r.State == VoidConfirmed
	switch {
	case !validVoidID(r.ID) || !visible(r.Merchant, MaxVoidName) || !visible(r.Terminal, MaxVoidName) || !visible(r.Reference, MaxVoidName):
		return fmt.Errorf("%w: a void has an identifier of %d lower-case hex digits, and a merchant, a terminal and a reference of 1 to %d printable ASCII characters", ErrInvalid, VoidID, MaxVoidName)
	case r.Amount < 1 || r.Currency < 1 || r.Currency > maxCurrency || r.Fee < 0 || r.Fee > r.Amount:
		return fmt.Errorf("%w: void %s: amount, currency or fee is outside its limits", ErrInvalid, r.ID)
	case !r.State.valid() || r.Version == 0 || len(r.Content) == 0 || len(r.Content) > MaxVoidContent:
		return fmt.Errorf("%w: void %s: its state is none, or its content has more than %d bytes", ErrInvalid, r.ID, MaxVoidContent)
	case r.Token != "" && !visible(r.Token, MaxVoidToken) || tokenless && r.Token != "" || tokened && r.Token == "":
		return fmt.Errorf("%w: void %s: one that is authorised, and none that was not, has a token of at most %d bytes", ErrInvalid, r.ID, MaxVoidToken)
	case len(r.Code) != VoidCode || len(r.Payload) != VoidPayload || len(r.Slip) != 0 && len(r.Slip) != VoidSlip || !validDigest(r.Request):
		return fmt.Errorf("%w: void %s: codes have %d and %d bytes, on paper %d, and a request is SHA-256", ErrInvalid, r.ID, VoidCode, VoidPayload, VoidSlip)
	case (tokened || r.State == VoidScanned) && r.Burnt.IsZero():
		return fmt.Errorf("%w: void %s: the code of one that was scanned is burnt", ErrInvalid, r.ID)
	}
	for _, at := range []time.Time{r.CodeExpires, r.Due, r.Created, r.Changed} {
		if !validTime(at) {
			return fmt.Errorf("%w: void %s: a time is not within the years 1970 to 9999", ErrInvalid, r.ID)
		}
	}
	if !r.Burnt.IsZero() && !validTime(r.Burnt) || !validTimeOrNone(r.PaidAt) {
		return fmt.Errorf("%w: void %s: a time is not within the years 1970 to 9999", ErrInvalid, r.ID)
	}
	return nil
}

func validVoidID(id string) bool { return validInjectionID(id) } // both are 16 bytes in hex

func validCode(code []byte) bool { return len(code) == VoidCode }

// valid reports whether a question can be asked.
func (q *VoidQuestion) valid() bool {
	return len(q.Request) == sha256.Size && visible(q.Merchant, MaxVoidName) && visible(q.Reference, MaxVoidName) && validTime(q.Since)
}
