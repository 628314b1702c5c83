package terminals

import (
	"context"
	"crypto/sha256"
	"crypto/x509"

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

// Unrevoked refuses a chain that was verified, one of whose certificates is on the revocation list
// of its issuer, which is in the chain or one of the anchors: [fault.CertificateRevoked], and
// [fault.CertificateInvalid] where such a list is not valid any more.
func (v *Inventory) Unrevoked(ctx context.Context, chain, anchors []*x509.Certificate) error {
	return v.revocations.check(ctx, chain, anchors, v.now())
}
