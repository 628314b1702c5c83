package terminals

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"keyd/fault"
	"keyd/store"
)

// State says whether a terminal is in service.
type State = store.TerminalState

// Terminal is a device of the inventory. What it is does not change, but for its site.
type Terminal struct {
	ID     string // see [Registration]
	Owner  string
	Model  string
	Serial string
	Site   string
	State  State

	Certificate *Certificate // nil where none is known
	KeySet      string       // name of the key set by which it gets keys, or empty
	ReplacedBy  string       // the identifier of the terminal that took its place, or empty
	Registered  time.Time
	Changed     time.Time
}

// Certificate is what a device proves itself with.
type Certificate struct {
	Chain     [][]byte          // DER: the device's, then its issuers in the order in which they were given
	SHA256    [sha256.Size]byte // of the device's
	PublicKey [sha256.Size]byte // of its SubjectPublicKeyInfo
	Subject   string            // RFC 4514, valid UTF-8, at most maxSubject bytes: for people
	NotBefore time.Time
	NotAfter  time.Time
}

// Registration is what a terminal is registered with.
type Registration struct {
	ID     string // see [ValidID]
	Owner  string // the merchant: see [ValidOwner]
	Model  string // 1 to 64 printable ASCII characters, no space at either end
	Serial string // of the device, likewise
	Site   string // where it stands: at most 128 bytes of printable UTF-8

	// Certificates are the device's and then its issuers', in DER, see [MaxChain]; none
	// where the device's is not known yet.
	Certificates [][]byte
}

// Kinds of events. There may be others: whoever adds one gives it a name.
const (
	EventRegistered = "registered"
	EventSuspended  = "suspended"
	EventResumed    = "resumed"
	EventRetired    = "retired"
	EventReplaced   = "replaced"
	EventCertified  = "certified" // it got its first certificate
	EventRenewed    = "renewed"   // it got another certificate over its public key

	EventKeySet        = "key-set"        // it gets keys by another key set
	EventKeysSent      = "keys-sent"      // there is an answer for it
	EventKeysConfirmed = "keys-confirmed" // it has them
	EventKeysFailed    = "keys-failed"    // nothing was given
	EventKeysExpired   = "keys-expired"   // it has not confirmed them in time
	EventUnbound       = "unbound"        // it is to forget its host
	EventRebound       = "rebound"        // it is to have another host
)

// longFigure is the number of hex digits in a row that the audit log takes for a card number
// or a PIN block, and leaves out.
const longFigure = 12

// ValidID reports whether a terminal can have an identifier: 1 to 64 letters, digits and ._-,
// the first of which is a letter or a digit, and nowhere 12 hex digits in a row, which the
// audit log would leave out.
func ValidID(id string) bool {
	run := 0
	for i := range len(id) {
		if run++; !strings.ContainsRune("0123456789abcdefABCDEF", rune(id[i])) {
			run = 0
		}
		if run >= longFigure {
			return false
		}
	}
	return ValidOwner(id)
}

// ValidOwner reports whether an owner can have a name: 1 to 64 letters, digits and ._-, the
// first of which is a letter or a digit.
func ValidOwner(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return name != "" && len(name) <= store.MaxTerminalName
}

// check says what is wrong with a registration, but for its certificates.
func (r *Registration) check() error {
	switch {
	case !ValidID(r.ID):
		return badID("terminal_id")
	case !ValidOwner(r.Owner):
		return fault.New(fault.RequestInvalid, "owner has 1 to 64 letters, digits and ._-, the first a letter or a digit")
	case !plate(r.Model):
		return fault.New(fault.RequestInvalid, "model has 1 to 64 printable ASCII characters, no space at either end")
	case !plate(r.Serial):
		return fault.New(fault.RequestInvalid, "serial_number has 1 to 64 printable ASCII characters, no space at either end")
	case len(r.Site) > store.MaxSite || !printable(r.Site):
		return fault.New(fault.RequestInvalid, "site has at most 128 bytes of printable UTF-8")
	}
	return nil
}

func badID(field string) error {
	return fault.New(fault.RequestInvalid, fmt.Sprintf("%s has 1 to 64 letters, digits and ._-, the first a letter or a digit, and no 12 hex digits in a row", field))
}

func plate(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return s != "" && len(s) <= store.MaxTerminalName && s[0] != ' ' && s[len(s)-1] != ' '
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
