package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"
)

// Limits of what [Terminals] keeps.
const (
	MaxTerminalName   = 64        // bytes of an identifier, an owner, a model, a serial number
	MaxSite           = 128       // bytes
	MaxCertificates   = 16 << 10  // bytes of a certificate and its issuers
	MaxEventKind      = 64        // bytes
	MaxActor          = 2048      // bytes, those of a SPIFFE ID
	MaxEventDetail    = 512       // bytes
	MaxTerminalEvents = 1_000_000 // of a terminal
	keptEvents        = 1000      // of those, which injections leave to changes of the terminal
)

// TerminalState says whether a terminal is in service.
type TerminalState string

// The states of a terminal. The last two are final.
const (
	TerminalRegistered TerminalState = "REGISTERED"
	TerminalSuspended  TerminalState = "SUSPENDED"
	TerminalRetired    TerminalState = "RETIRED"
	TerminalReplaced   TerminalState = "REPLACED"
)

// Final reports whether a terminal never leaves the state.
func (s TerminalState) Final() bool { return s == TerminalRetired || s == TerminalReplaced }

// TerminalRecord is what is kept of a terminal.
type TerminalRecord struct {
	ID     string        // 1 to MaxTerminalName bytes of printable ASCII without spaces
	Owner  string        // likewise
	Model  string        // 1 to MaxTerminalName bytes of printable ASCII, no space at either end
	Serial string        // likewise
	Site   string        // at most MaxSite bytes of printable UTF-8
	State  TerminalState //

	// Certificates is the device's certificate with its issuers, DER behind DER, at most
	// MaxCertificates bytes, opaque here. PublicKey is the SHA-256 of the certificate's
	// public key. Both are empty or neither is.
	Certificates []byte
	PublicKey    []byte

	KeySet       string    // which keys it gets: as Owner; empty for none
	ReplacedBy   string    // a terminal's identifier; in state REPLACED only, and always there
	Revision     uint64    // the number of its events: 1 when it is added
	RegisteredAt time.Time // as KeyRecord.CreatedAt
	ChangedAt    time.Time // likewise
}

// TerminalEvent is something that happened to a terminal.
type TerminalEvent struct {
	Terminal string    // its identifier
	Number   uint64    // from 1, without a gap
	Kind     string    // 1 to MaxEventKind bytes of printable ASCII without spaces; which there are is not known here
	Actor    string    // who did it: at most MaxActor bytes of printable ASCII
	Detail   string    // at most MaxEventDetail bytes of printable UTF-8
	At       time.Time // as KeyRecord.CreatedAt
}

// TerminalFilter says which terminals are looked for: those that fit all of it. What is empty
// fits any.
type TerminalFilter struct {
	Owner string
	Model string
	State TerminalState
}

// Terminals is the inventory of terminals. Nothing is ever deleted of it: a public key that a
// terminal once had is that terminal's for ever. Its methods may be called concurrently, and
// by several processes; see [Keys] about errors.
type Terminals interface {
	// AddTerminal adds a terminal with its first event, whose number, like the record's
	// revision, is 1. [ErrExists] when its identifier is taken, [ErrConflict] when another
	// terminal has its public key, [ErrInvalid] outside the limits and for a state that is
	// final.
	AddTerminal(ctx context.Context, r TerminalRecord, e TerminalEvent) error

	// UpdateTerminal keeps r in the place of the terminal with its identifier, and adds e:
	// both with the revision that follows. r.Revision is the one that was read:
	// [ErrConflict] when another is stored, so that of two who read the same one succeeds.
	// It is also ErrConflict when what is stored is in a final state, when owner, model,
	// serial number, or time of registration differ, when the stored public key is another
	// than r's, when another terminal has r's public key, and when the terminal that takes
	// its place is not a registered one of the same owner. [ErrNotFound] when there is no
	// such terminal, [ErrInvalid] outside the limits.
	UpdateTerminal(ctx context.Context, r TerminalRecord, e TerminalEvent) error

	// Terminal returns a terminal, [ErrNotFound] when there is none. The caller owns the
	// result.
	Terminal(ctx context.Context, id string) (TerminalRecord, error)

	// TerminalOfKey returns the terminal that has a public key, [ErrNotFound] when there is
	// none.
	TerminalOfKey(ctx context.Context, publicKey []byte) (TerminalRecord, error)

	// Terminals returns the terminals that fit a filter and whose identifiers come after
	// the given one, in byte order, at most limit (1 to [MaxList], otherwise
	// [ErrInvalid]); fewer are the last. ErrInvalid too for a filter that no terminal fits.
	Terminals(ctx context.Context, f TerminalFilter, after string, limit int) ([]TerminalRecord, error)

	// TerminalEvents returns the events of a terminal after the given number, in their
	// order, at most limit (1 to [MaxList], otherwise [ErrInvalid]). None for a terminal
	// that is not there.
	TerminalEvents(ctx context.Context, id string, after uint64, limit int) ([]TerminalEvent, error)
}

// Validate returns [ErrInvalid] for a record outside the limits; see [KeyRecord.Validate].
func (r TerminalRecord) Validate() error {
	switch {
	case !validTerminalName(r.ID) || !validTerminalName(r.Owner):
		return fmt.Errorf("%w: identifier and owner of a terminal have 1 to %d printable ASCII characters without spaces", ErrInvalid, MaxTerminalName)
	case !validPlate(r.Model) || !validPlate(r.Serial):
		return fmt.Errorf("%w: terminal %s: model and serial number have 1 to %d printable ASCII characters, no space at either end", ErrInvalid, r.ID, MaxTerminalName)
	case len(r.Site) > MaxSite || !printable(r.Site):
		return fmt.Errorf("%w: terminal %s: the site has at most %d bytes of printable UTF-8", ErrInvalid, r.ID, MaxSite)
	case r.KeySet != "" && !validTerminalName(r.KeySet):
		return fmt.Errorf("%w: terminal %s: the name of its key set has at most %d printable ASCII characters without spaces", ErrInvalid, r.ID, MaxTerminalName)
	case !r.State.valid():
		return fmt.Errorf("%w: terminal %s: the state is none of a terminal", ErrInvalid, r.ID)
	case len(r.Certificates) > MaxCertificates || len(r.PublicKey) != 0 && len(r.PublicKey) != sha256.Size || (len(r.Certificates) == 0) != (len(r.PublicKey) == 0):
		return fmt.Errorf("%w: terminal %s: certificates of at most %d bytes come with the SHA-256 of the public key", ErrInvalid, r.ID, MaxCertificates)
	case (r.State == TerminalReplaced) != (r.ReplacedBy != "") || r.ReplacedBy != "" && !validTerminalName(r.ReplacedBy) || r.ReplacedBy == r.ID:
		return fmt.Errorf("%w: terminal %s: one that is replaced, and no other, names another terminal", ErrInvalid, r.ID)
	case r.Revision == 0 || r.Revision > MaxTerminalEvents:
		return fmt.Errorf("%w: terminal %s: it has 1 to %d events", ErrInvalid, r.ID, MaxTerminalEvents)
	case !validTime(r.RegisteredAt) || !validTime(r.ChangedAt):
		return fmt.Errorf("%w: terminal %s: a time is not within the years 1970 to 9999", ErrInvalid, r.ID)
	}
	return nil
}

// Validate returns [ErrInvalid] for an event outside the limits; see [KeyRecord.Validate].
func (e TerminalEvent) Validate() error {
	switch {
	case !validTerminalName(e.Terminal):
		return fmt.Errorf("%w: an event is of a terminal, whose identifier has 1 to %d printable ASCII characters without spaces", ErrInvalid, MaxTerminalName)
	case e.Number == 0 || e.Number > MaxTerminalEvents:
		return fmt.Errorf("%w: terminal %s: events are numbered from 1 to %d", ErrInvalid, e.Terminal, MaxTerminalEvents)
	case !validName(e.Kind) || len(e.Kind) > MaxEventKind:
		return fmt.Errorf("%w: terminal %s: the kind of an event has 1 to %d printable ASCII characters without spaces", ErrInvalid, e.Terminal, MaxEventKind)
	case len(e.Actor) > MaxActor || !ascii(e.Actor):
		return fmt.Errorf("%w: terminal %s: who did it has at most %d bytes of printable ASCII", ErrInvalid, e.Terminal, MaxActor)
	case len(e.Detail) > MaxEventDetail || !printable(e.Detail):
		return fmt.Errorf("%w: terminal %s: the detail of an event has at most %d bytes of printable UTF-8", ErrInvalid, e.Terminal, MaxEventDetail)
	case !validTime(e.At):
		return fmt.Errorf("%w: terminal %s: the time of an event is not within the years 1970 to 9999", ErrInvalid, e.Terminal)
	}
	return nil
}

// Validate returns [ErrInvalid] for a filter that no terminal fits.
func (f TerminalFilter) Validate() error {
	switch {
	case f.Owner != "" && !validTerminalName(f.Owner):
		return fmt.Errorf("%w: no terminal can have this owner", ErrInvalid)
	case f.Model != "" && !validPlate(f.Model):
		return fmt.Errorf("%w: no terminal can be of this model", ErrInvalid)
	case f.State != "" && !f.State.valid():
		return fmt.Errorf("%w: the state is none of a terminal", ErrInvalid)
	}
	return nil
}

func (s TerminalState) valid() bool {
	return s == TerminalRegistered || s == TerminalSuspended || s.Final()
}

func validTerminalName(s string) bool { return len(s) <= MaxTerminalName && validName(s) }

// validPlate is about what a device's type plate says.
func validPlate(s string) bool {
	return s != "" && len(s) <= MaxTerminalName && ascii(s) && s[0] != ' ' && s[len(s)-1] != ' '
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
