package receipt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"slices"

	"keyd/ceremony"
)

// ErrStatement is returned for a statement that is malformed or contradicts itself.
var ErrStatement = errors.New("the statement on an injection is malformed, or contradicts itself")

// statement is what a module signs once it has verified a terminal's receipt.
type statement struct {
	Record  []byte `json:"record"`  // a Record, encoded
	Receipt []byte `json:"receipt"` // a Receipt, encoded
	At      int64  `json:"at"`      // Unix seconds, by the module's clock
}

// signed is a statement with its signature, and the key of the module's identity.
type signed struct {
	Statement []byte `json:"statement"`
	Identity  []byte `json:"identity"` // SubjectPublicKeyInfo in DER
	Signature []byte `json:"signature"`
}

// Confirmed is what a statement says.
type Confirmed struct {
	Record   Record
	Receipt  Receipt
	At       int64            // Unix seconds
	Identity *ecdsa.PublicKey // of the module
}

// Sign returns the statement of a module's identity that it has verified the MAC of a receipt
// for a record, whose check values are those of the record.
func Sign(identity crypto.Signer, record *Record, r *Receipt, at int64) ([]byte, error) {
	s := statement{At: at}
	var err error
	if s.Record, err = record.Encode(); err != nil {
		return nil, err
	}
	if s.Receipt, err = r.Encode(); err != nil {
		return nil, err
	}
	if !together(record, r, at) {
		return nil, ErrStatement
	}
	var out signed
	if out.Statement, err = ceremony.Encode(&s); err != nil {
		return nil, err
	}
	if out.Identity, err = x509.MarshalPKIXPublicKey(identity.Public()); err != nil {
		return nil, err
	}
	if out.Signature, err = ceremony.Sign(identity, ceremony.OfInjection, out.Statement); err != nil {
		return nil, err
	}
	return ceremony.Encode(&out)
}

// Open verifies a statement. Whose the identity is, is for who pinned its fingerprint to say.
// Errors are [ErrStatement] and [ceremony.ErrSignature].
func Open(b []byte) (*Confirmed, error) {
	in, err := ceremony.Decode[signed](b, MaxStatement)
	if err != nil {
		return nil, ErrStatement
	}
	key, err := ceremony.ParseKey(in.Identity)
	if err != nil {
		return nil, ErrStatement
	}
	if err := ceremony.Verify(key, ceremony.OfInjection, in.Statement, in.Signature); err != nil {
		return nil, err
	}
	s, err := ceremony.Decode[statement](in.Statement, MaxStatement)
	if err != nil {
		return nil, ErrStatement
	}
	record, err := ParseRecord(s.Record)
	if err != nil {
		return nil, ErrStatement
	}
	r, err := Parse(s.Receipt)
	if err != nil || !together(record, r, s.At) {
		return nil, ErrStatement
	}
	return &Confirmed{*record, *r, s.At, key}, nil
}

// together reports whether a receipt of that time can be one for a record: of the same keys, with
// a MAC as the receipt key makes them, and not before them.
func together(record *Record, r *Receipt, at int64) bool {
	whole := 8
	if record.Keys[1].Algorithm == "A" {
		whole = 16
	}
	return at >= record.At && len(r.MAC) == whole && slices.Equal(record.CheckValues(), r.CheckValues)
}
