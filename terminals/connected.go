package terminals

import (
	"context"
	"crypto/sha256"

	"keyd/fault"
	"keyd/store"
)

// OfKey returns the terminal that has a public key, whatever its state: the SHA-256 of a
// SubjectPublicKeyInfo, which the device has proven to be its own. [fault.TerminalNotFound]
// where none has it. A public key is one terminal's for ever.
func (v *Inventory) OfKey(ctx context.Context, publicKey [sha256.Size]byte) (*Terminal, error) {
	r, err := v.store.TerminalOfKey(ctx, publicKey[:])
	if err != nil {
		return nil, refused(ctx, err)
	}
	return terminal(&r)
}

// InService refuses what a terminal asks for by itself while it is not registered:
// [fault.TerminalState].
func (t *Terminal) InService() error {
	if t.State == store.TerminalRegistered {
		return nil
	}
	return fault.New(fault.TerminalState, "it is "+word(t.State)+", and is given nothing")
}
