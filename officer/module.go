package officer

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"

	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
	"keyd/ceremony"
)

// ErrNotBelieved is wrapped by every error about a paper that a service has shown and that
// is not what a module or an officer has signed. Nothing was sent after it.
var ErrNotBelieved = errors.New("what the service shows is not believed")

// ErrElsewhere says that a ceremony was opened by the token of another keyd on the same
// database, by the word of the one that was asked. Nothing was sent after it.
var ErrElsewhere = errors.New("the ceremony was opened by the token of keyd")

func unbelieved(format string, a ...any) error {
	return fmt.Errorf("%w: %w", ErrNotBelieved, fmt.Errorf(format, a...))
}

// Module is a module as its own signature shows it: who it is, and who its officers are.
// Whether it is the right one is what an officer has confirmed ([Known.Check]).
type Module struct {
	Key      *ecdsa.PublicKey
	Officers *ceremony.Roster
	Said     *ceremony.Identity

	Identity Fingerprint // of Key
	Roster   Fingerprint // of Officers

	// Waiting is the digest of another token's register that the database has, in hex, and its
	// version: the service's word. Empty where there is none.
	Waiting        string
	WaitingVersion uint64

	// Restored says that the register is that of a backup from which the database was restored:
	// the service's word.
	Restored bool

	// Node is the name of the keyd that answered among those that share a database: the
	// service's word. Empty where none does.
	Node string
}

// FetchModule asks a service what its module says of itself.
func FetchModule(ctx context.Context, conn grpc.ClientConnInterface) (*Module, error) {
	answer, err := keydv1.NewCeremonyServiceClient(conn).GetModule(ctx, &keydv1.GetModuleRequest{})
	if err != nil {
		return nil, err
	}
	m, err := ParseModule(fromWire(answer.GetIdentity()))
	if err != nil {
		return nil, err
	}
	m.Waiting, m.WaitingVersion, m.Restored = answer.WaitingRegister, answer.WaitingRegisterVersion, answer.Restored
	m.Node = answer.Node
	return m, nil
}

// ParseModule checks the module's signature on what it says of itself. The error wraps
// [ErrNotBelieved].
func ParseModule(signed ceremony.Signed) (*Module, error) {
	said, key, roster, err := ceremony.ParseIdentity(signed)
	if err != nil {
		return nil, unbelieved("it shows no identity that a module has signed (%w)", err)
	}
	m := &Module{Key: key, Officers: roster, Said: said}
	identity, err := ceremony.KeyFingerprint(key)
	if err != nil {
		return nil, err
	}
	fingerprint, err := roster.Fingerprint()
	if err != nil {
		return nil, err
	}
	if m.Identity, err = ParseFingerprint(identity); err != nil {
		return nil, err
	}
	m.Roster, err = ParseFingerprint(fingerprint)
	return m, err
}

// KeyPrint returns the fingerprint of an officer's key.
func KeyPrint(o *ceremony.Officer) Fingerprint {
	f, err := ParseFingerprint(ceremony.Digest(o.Key))
	if err != nil {
		panic(err) // a SHA-256 has 64 hex digits
	}
	return f
}

// digestOf is a fingerprint as documents write it.
func digestOf(f Fingerprint) string { return fmt.Sprintf("%x", f[:]) }

func fromWire(m *keydv1.SignedDocument) ceremony.Signed {
	return ceremony.Signed{Document: m.GetDocument(), Signature: m.GetSignature()}
}

func toWire(s ceremony.Signed) *keydv1.SignedDocument {
	return &keydv1.SignedDocument{Document: s.Document, Signature: s.Signature}
}
