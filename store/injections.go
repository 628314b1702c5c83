package store

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Limits of an injection.
const (
	InjectionID     = 32        // bytes of its identifier, lower-case hex digits
	MaxInjectedKeys = 8         // of one injection
	MaxAnswer       = 128 << 10 // bytes
	MaxKeyBlocks    = 64 << 10  // bytes of all, with a byte between them
	MaxRecord       = 32 << 10  // bytes of a record, and of a receipt
	MaxStatement    = 64 << 10  // bytes
	MaxFailure      = 256       // bytes
	maxMethod       = 32        // bytes
	maxKeyList      = 4096      // bytes
	MaxKeyPart      = 16        // bytes of the name of a terminal's key, without the terminal's
)

// Names of the sealed keys of an injection; session keys have others.
const (
	MasterName  = "master"
	ReceiptName = "receipt"
)

// InjectionState says how far an injection is.
type InjectionState string

// The states of an injection. The first three lead to others.
const (
	InjectionBegun      InjectionState = "BEGUN"      // identifiers are allotted, nothing was given
	InjectionPending    InjectionState = "PENDING"    // there is an answer, which may have been given
	InjectionConfirmed  InjectionState = "CONFIRMED"  // these are the terminal's keys
	InjectionExpired    InjectionState = "EXPIRED"    // not confirmed in time
	InjectionSuperseded InjectionState = "SUPERSEDED" // a later one took its place
	InjectionFailed     InjectionState = "FAILED"     // nothing was given; it can be begun again, see [Injections.RetryInjection]
	InjectionEnded      InjectionState = "ENDED"      // its keys are the terminal's no more
)

// Injection is that a terminal is given keys.
type Injection struct {
	ID            string // InjectionID lower-case hex digits
	Terminal      string // its identifier
	Number        uint64 // of those of the terminal, from 1
	State         InjectionState
	Method        string // 1 to 32 bytes of printable ASCII without spaces
	KeySet        string
	KeySetVersion uint32
	Request       []byte // SHA-256 of what was asked for
	Nonce         []byte // SHA-256 of what makes the request a new one; empty where nothing does
	Keys          []AllottedKey
	Revision      uint64 // of the injection, from 1

	// What was given, opaque here. Answer and KeyBlocks are there in state PENDING only.
	Answer    []byte
	KeyBlocks []string
	Record    []byte
	Receipt   []byte
	Statement []byte

	Failure   string    // why, in state FAILED: at most MaxFailure bytes of printable UTF-8
	Created   time.Time // as KeyRecord.CreatedAt
	ConfirmBy time.Time // likewise
	Confirmed time.Time // likewise; zero where it never was
}

// AllottedKey is an initial key that is a terminal's.
type AllottedKey struct {
	Name string // 1 to MaxKeyPart bytes, in the key set
	BDK  string // name of the base derivation key
	ID   []byte // 8 or 10 bytes
}

// Wanted is an initial key that an injection is to have: of the terminal's own, or the next of a
// range.
type Wanted struct {
	Name  string
	BDK   string
	Own   []byte // 8 or 10 bytes; nil: of Range
	Range Range
	Skip  uint32 // how many numbers of the range are left out first
}

// Begin is an injection that begins.
type Begin struct {
	Injection // ID, Terminal, Method, KeySet, KeySetVersion, Request, Nonce, Created and ConfirmBy

	PublicKey []byte // that the terminal has
	Wanted    []Wanted
	Most      int // injections of the terminal within a day that were never confirmed
	MostAll   int // likewise, confirmed or not
}

// Given is what a module gave a terminal.
type Given struct {
	Terminal   string
	ID         string
	Revision   uint64 // that was read
	Answer     []byte
	KeyBlocks  []string
	Record     []byte
	Master     []byte // sealed
	ReceiptKey []byte // likewise
	ConfirmBy  time.Time
	At         time.Time
}

// Injections keeps which keys terminals were given. Nothing of it is ever deleted but sealed keys
// and answers that nobody may have any more. Its methods may be called concurrently, and by
// several processes; see [Keys] about errors.
//
// Where an event is given, it is added to the terminal's in the same transaction, as
// [Terminals.UpdateTerminal] does. Of two who change one injection at the same revision one gets
// [ErrConflict], as does whoever changes one in a state that does not allow it.
type Injections interface {
	// BeginInjection adds an injection in state BEGUN, with initial keys that are the terminal's
	// from then on, and returns it. [ErrConflict] unless the terminal is registered with that
	// public key and that key set, whose newest version it is. [ErrExists] when the terminal
	// has an injection with the nonce. [ErrTooMany] beyond b.Most or b.MostAll, and where the
	// terminal has so many events that the rest is for changes of its state. [ErrTaken] for an
	// identifier of the terminal's own that another terminal has, or that was confirmed.
	// [ErrExhausted] where a range is used up. After an error nothing is allotted.
	BeginInjection(ctx context.Context, b Begin) (Injection, error)

	// RetryInjection takes an injection in state BEGUN or FAILED to BEGUN at its next revision,
	// and returns it. With wanted it gets other initial keys; those that it had are nobody's.
	// Otherwise it is as BeginInjection.
	RetryInjection(ctx context.Context, terminal, id string, revision uint64, publicKey []byte, wanted []Wanted, at, confirmBy time.Time) (Injection, error)

	// AnswerInjection takes an injection from BEGUN to PENDING, with its sealed keys; that of the
	// terminal that was PENDING becomes SUPERSEDED, or EXPIRED where its time was over. [ErrConflict] too when the terminal is not
	// registered, or has another key set by now.
	AnswerInjection(ctx context.Context, g Given, e TerminalEvent) error

	// ConfirmInjection takes an injection from PENDING to CONFIRMED; the one that was CONFIRMED
	// becomes SUPERSEDED. [ErrConflict] too when the terminal is not registered, or when the
	// time to confirm is over.
	ConfirmInjection(ctx context.Context, terminal, id string, revision uint64, receipt, statement []byte, at time.Time, e TerminalEvent) error

	// EndInjection takes an injection from BEGUN to FAILED, or from PENDING to EXPIRED.
	EndInjection(ctx context.Context, terminal, id string, revision uint64, state InjectionState, failure string, e TerminalEvent) error

	// EndInjections ends what a terminal has: injections that are PENDING or CONFIRMED become
	// ENDED, those that are BEGUN FAILED, and its sealed keys are deleted.
	EndInjections(ctx context.Context, terminal string, e TerminalEvent) error

	// Injection returns an injection of a terminal, InjectionOfNonce the one with a nonce,
	// InjectionOfRequest the newest with a request, [ErrNotFound] where there is none.
	Injection(ctx context.Context, terminal, id string) (Injection, error)
	InjectionOfNonce(ctx context.Context, terminal string, nonce []byte) (Injection, error)
	InjectionOfRequest(ctx context.Context, terminal string, request []byte) (Injection, error)

	// ConfirmedInjection returns the injection of a terminal that is CONFIRMED, [ErrNotFound]
	// where there is none.
	ConfirmedInjection(ctx context.Context, terminal string) (Injection, error)

	// ListInjections returns the injections of a terminal but those in state BEGUN, whose number is
	// below before (0: any), the newest first, at most limit (1 to [MaxList], otherwise
	// [ErrInvalid]).
	ListInjections(ctx context.Context, terminal string, before uint64, limit int) ([]Injection, error)

	// DueInjections returns injections that were to be confirmed by now, and those that were
	// begun before begun and are in state BEGUN; at most limit.
	DueInjections(ctx context.Context, now, begun time.Time, limit int) ([]Injection, error)

	TerminalKeys
}

// Validate returns [ErrInvalid] for an injection outside the limits; see [KeyRecord.Validate].
func (i Injection) Validate() error {
	final := i.State != InjectionBegun && i.State != InjectionPending
	switch {
	case !validInjectionID(i.ID) || !validTerminalName(i.Terminal) || i.Number == 0 || i.Revision == 0:
		return fmt.Errorf("%w: an injection is of a terminal, and has %d lower-case hex digits", ErrInvalid, InjectionID)
	case !i.State.valid() || !visible(i.Method, maxMethod) || !validTerminalName(i.KeySet) || i.KeySetVersion == 0:
		return fmt.Errorf("%w: injection %s: state, method or key set is none", ErrInvalid, i.ID)
	case len(i.Request) != sha256.Size || len(i.Nonce) != 0 && len(i.Nonce) != sha256.Size:
		return fmt.Errorf("%w: injection %s: request and nonce are SHA-256", ErrInvalid, i.ID)
	case len(i.Keys) > MaxInjectedKeys:
		return fmt.Errorf("%w: injection %s: it has at most %d keys", ErrInvalid, i.ID, MaxInjectedKeys)
	case len(i.Answer) > MaxAnswer || len(joined(i.KeyBlocks)) > MaxKeyBlocks || len(i.Record) > MaxRecord || len(i.Receipt) > MaxRecord || len(i.Statement) > MaxStatement:
		return fmt.Errorf("%w: injection %s: what was given is too large", ErrInvalid, i.ID)
	case (i.State == InjectionPending) != (len(i.Answer) > 0) || i.State == InjectionPending && len(i.Record) == 0 || final && len(i.KeyBlocks) > 0:
		return fmt.Errorf("%w: injection %s: one that is pending, and no other, has an answer", ErrInvalid, i.ID)
	case i.State == InjectionConfirmed && (len(i.Statement) == 0 || i.Confirmed.IsZero()) || len(i.Failure) > MaxFailure || !printable(i.Failure):
		return fmt.Errorf("%w: injection %s: one that is confirmed has a statement, and why one failed has at most %d bytes of printable UTF-8", ErrInvalid, i.ID, MaxFailure)
	case !validTime(i.Created) || !validTime(i.ConfirmBy) || !i.Confirmed.IsZero() && !validTime(i.Confirmed):
		return fmt.Errorf("%w: injection %s: a time is not within the years 1970 to 9999", ErrInvalid, i.ID)
	}
	for _, b := range i.KeyBlocks {
		if !visible(b, MaxKeyBlocks) {
			return fmt.Errorf("%w: injection %s: a key block is printable ASCII without spaces", ErrInvalid, i.ID)
		}
	}
	for _, k := range i.Keys {
		if err := k.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// Validate returns [ErrInvalid] for a key outside the limits; see [KeyRecord.Validate].
func (k AllottedKey) Validate() error {
	if !visible(k.Name, MaxKeyPart) || !validName(k.BDK) || len(k.ID) != 8 && len(k.ID) != 10 {
		return fmt.Errorf("%w: an initial key has names of 1 to %d printable ASCII characters, and an identifier of 8 or 10 bytes", ErrInvalid, MaxKeyPart)
	}
	return nil
}

func (s InjectionState) valid() bool {
	switch s {
	case InjectionBegun, InjectionPending, InjectionConfirmed, InjectionExpired, InjectionSuperseded, InjectionFailed, InjectionEnded:
		return true
	}
	return false
}

func validInjectionID(id string) bool {
	return len(id) == InjectionID && strings.Trim(id, "0123456789abcdef") == ""
}

// joined is key blocks as they are stored. None has a line end.
func joined(blocks []string) []byte { return []byte(strings.Join(blocks, "\n")) }

func split(blocks []byte) []string {
	if len(blocks) == 0 {
		return nil
	}
	return strings.Split(string(blocks), "\n")
}

// writtenAllotted is an [AllottedKey] as it is written. The names of its fields are in databases.
type writtenAllotted struct {
	Name string `json:"name"`
	BDK  string `json:"bdk"`
	ID   []byte `json:"id"`
}

func encodeAllotted(keys []AllottedKey) ([]byte, error) {
	list := make([]writtenAllotted, len(keys))
	for i, k := range keys {
		list[i] = writtenAllotted(k)
	}
	b, err := json.Marshal(list)
	if err == nil && len(b) > maxKeyList {
		err = fmt.Errorf("%w: the keys of an injection take at most %d bytes", ErrInvalid, maxKeyList)
	}
	return b, err
}

func decodeAllotted(b []byte) (keys []AllottedKey, err error) {
	var list []writtenAllotted
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, ErrCorrupt
	}
	for _, k := range list {
		keys = append(keys, AllottedKey(k))
	}
	return keys, nil
}
