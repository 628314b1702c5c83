package store

import (
	"context"
	"fmt"
	"time"
)

// TerminalKey is a sealed key of a terminal: master or receipt key of an injection, or a session
// key. Terminal, name, version and injection identify it.
type TerminalKey struct {
	Terminal  string
	Name      string // 1 to MaxKeyPart bytes of printable ASCII without spaces
	Version   uint32 // from 1; of a session key counted for each name
	Injection string // under whose master key it was given
	Sealed    []byte // 1 to MaxSealed bytes, opaque
	NotAfter  time.Time
	CreatedAt time.Time
}

// TerminalKeys keeps the sealed keys of terminals. See [Injections].
type TerminalKeys interface {
	// AddSessionKeys adds the next version of each of some session keys, and deletes all but the
	// two newest of each. [ErrConflict] unless the terminal is registered, the injection is
	// the terminal's confirmed one, and each version is the next. [ErrInvalid] outside the
	// limits.
	AddSessionKeys(ctx context.Context, terminal, injection string, keys []TerminalKey) error

	// SessionKey returns a session key, the newest for version 0, with the state of its terminal.
	// [ErrNotFound] where there is none, also where the injection under whose master key it was
	// given is the terminal's confirmed one no more.
	SessionKey(ctx context.Context, terminal, name string, version uint32) (TerminalKey, TerminalState, error)

	// KeysOfTerminal returns all sealed keys of a terminal, by name, version and injection.
	KeysOfTerminal(ctx context.Context, terminal string) ([]TerminalKey, error)

	// ListTerminalKeys returns those of all terminals that come after one, in the order of what
	// identifies them, at most limit (1 to [MaxList], otherwise [ErrInvalid]).
	ListTerminalKeys(ctx context.Context, after TerminalKey, limit int) ([]TerminalKey, error)

	// ReplaceTerminalKey is [Keys.ReplaceSealed] of a terminal's key.
	ReplaceTerminalKey(ctx context.Context, k TerminalKey, sealed []byte) error
}

// Validate returns [ErrInvalid] for a key outside the limits; see [KeyRecord.Validate].
func (k TerminalKey) Validate() error {
	switch {
	case !validTerminalName(k.Terminal) || !visible(k.Name, MaxKeyPart) || k.Version == 0 || !validInjectionID(k.Injection):
		return fmt.Errorf("%w: a terminal's key has a name of 1 to %d printable ASCII characters without spaces, a version from 1, and an injection", ErrInvalid, MaxKeyPart)
	case len(k.Sealed) == 0 || len(k.Sealed) > MaxSealed:
		return fmt.Errorf("%w: terminal %s: a sealed key has 1 to %d bytes", ErrInvalid, k.Terminal, MaxSealed)
	case !validTime(k.NotAfter) || !validTime(k.CreatedAt):
		return fmt.Errorf("%w: terminal %s: a time of a key is not within the years 1970 to 9999", ErrInvalid, k.Terminal)
	}
	return nil
}

// session reports whether the name is one of a session key.
func session(name string) bool { return name != MasterName && name != ReceiptName }
