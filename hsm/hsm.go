// Package hsm is the hardware boundary as the rest of keyd sees it: the closed set
// of operations that a module carries out on sealed keys, and the sealed keys
// themselves.
//
// Nothing here touches a token, a clear key or a clear PIN; that happens in
// processes of their own (package hsm/module), reached over socket pairs that the
// supervisor hands out. What the module refuses, it refuses whoever asks.
package hsm

import (
	"fmt"
	"time"
)

// Format is an ISO 9564-1 PIN-block format by its number.
type Format uint8

// The formats of ISO 9564-1:2017. Format2 is never accepted.
const (
	Format0 Format = 0
	Format1 Format = 1
	Format2 Format = 2
	Format3 Format = 3
	Format4 Format = 4
)

// BlockSize returns the size of a PIN block of the format in bytes: 8, or 16 for
// format 4.
func (f Format) BlockSize() int {
	if f == Format4 {
		return 16
	}
	return 8
}

// String returns "ISO-0" and so on.
func (f Format) String() string { return fmt.Sprintf("ISO-%d", uint8(f)) }

// Custody says where clear values existed during an operation.
type Custody uint8

const (
	// InToken: every clear value stayed inside the token.
	InToken Custody = 1
	// InModule: a clear value existed for microseconds in the module's locked memory.
	InModule Custody = 2
)

// String returns the name that policies and the audit log use.
func (c Custody) String() string {
	switch c {
	case InToken:
		return "CUSTODY_TOKEN"
	case InModule:
		return "CUSTODY_MODULE"
	}
	return "CUSTODY_UNSPECIFIED"
}

// Demands are what the front asks of a module besides an operation's own data.
type Demands struct {
	// KSNRefused says that the key serial number will not be accepted: the module looks at
	// everything that comes before it in the order of checks, refuses with
	// fault.KSNReplayed, and neither deciphers anything nor counts a try.
	KSNRefused bool

	// TokenCustody says that the policy allows the operation in the token only: one for
	// which a clear value would be in the module's memory is refused with
	// fault.CustodyUnavailable.
	TokenCustody bool
}

// Key is a sealed key under the name by which it was asked for. The module refuses
// a sealed key that was sealed under another name.
type Key struct {
	Name   string
	Sealed []byte
}

// WorkingType is the type of a DUKPT working key as the contract numbers it
// (keyd.v1 DukptAttributes.KeyType). Zero lets the scheme choose: TDES with two keys
// for TDES, AES-128 for AES.
type WorkingType uint8

// The working-key types of the contract.
const (
	WorkingDefault WorkingType = iota
	WorkingTDES2
	WorkingTDES3
	WorkingAES128
	WorkingAES192
	WorkingAES256
)

// Description is what a module says of itself and its token.
type Description struct {
	Module       int // index of the module
	Label        string
	Manufacturer string
	Model        string
	Generation   uint32
	Development  bool   // the token carries the dev mark
	EpochLoaded  uint64 // version of the register of officers and keys that the module goes by; 0: none
	EpochPinned  uint64 // the one that counts
	Probes       []Measure
	Confinement  []Measure
	SelfTests    []string
	CachedKeys   int64
	DerivedKeys  int64 // AES DUKPT derivation keys
	Erasure      string
	Velocity     *Velocity // nil where tries are not limited
	Calls        []TokenCalls
	Errors       []TokenErrors
	Operations   []OperationCustody // every kind of operation
}

// Velocity is how the table of tries stands, as a module sees it.
type Velocity struct {
	Verifications, Translations Limits // of PINs
	Cards                       Limits // of card verification values
	Entries, InUse              uint64
	Refusals, Crowded           uint64
	PresumedUntil               time.Time // zero: nothing is presumed
	Failing                     string    // why nothing is allowed; empty if all is well
}

// Limits are how often in any minute, hour and day; 0 is no limit.
type Limits struct{ Minute, Hour, Day uint32 }

// TokenCalls is how often a module called one function of its token, and how many
// blocks went through.
type TokenCalls struct {
	Name          string
	Count, Blocks uint64
}

// TokenErrors is how many calls of a module's token failed with return values of one class
// since it was ready: "token_dead", "session_dead", "handle_stale", "busy", "refused",
// "bug", "login_failed".
type TokenErrors struct {
	Class string
	Count uint64
}

// Measure is one thing that is on, off or partial, and why.
type Measure struct{ Name, State, Detail string }

// SeparateUsers is the measure that front and modules run under users of their own.
func SeparateUsers(on bool) Measure {
	if on {
		return Measure{Name: "separate-users", State: "on"}
	}
	return Measure{Name: "separate-users", State: "off", Detail: "front and modules share a user; Landlock, seccomp and non-dumpable memory stand between them"}
}
