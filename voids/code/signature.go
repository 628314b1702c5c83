package code

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"math/big"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

const signatureDomain = "keyd void code 1\x00"

var (
	order     = elliptic.P256().Params().N
	halfOrder = new(big.Int).Rsh(order, 1)
)

// KeyID is how a code names its key: the first 4 bytes of the SHA-256 of the key's
// SubjectPublicKeyInfo. It finds a key and proves nothing.
type KeyID [keyIDSize]byte

// subjectPublicKeyInfo is what stands before the point, which is uncompressed, in the DER of a
// key of P-256 (RFC 5480). crypto/x509 would bring the network with it.
const subjectPublicKeyInfo = "\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00"

// IDOf returns a key's identifier. The error is [ErrKey].
func IDOf(key *ecdsa.PublicKey) (KeyID, error) {
	//lint:ignore SA1019 without coordinates Bytes would panic
	if key == nil || key.Curve != elliptic.P256() || key.X == nil || key.Y == nil {
		return KeyID{}, ErrKey
	}
	point, err := key.Bytes()
	if err != nil {
		return KeyID{}, ErrKey
	}
	sum := sha256.Sum256(append([]byte(subjectPublicKeyInfo), point...))
	return KeyID(sum[:keyIDSize]), nil
}

// Keys are those whose codes are believed. Without any, none is.
type Keys struct {
	keys map[KeyID][]*ecdsa.PublicKey // seldom more than one
}

// NewKeys returns the set of some keys of P-256. The error is [ErrKey].
func NewKeys(keys ...*ecdsa.PublicKey) (Keys, error) {
	k := Keys{map[KeyID][]*ecdsa.PublicKey{}}
	for _, key := range keys {
		id, err := IDOf(key)
		if err != nil {
			return Keys{}, err
		}
		k.keys[id] = append(k.keys[id], key)
	}
	return k, nil
}

// Signer signs a SHA-256 digest of 32 bytes with a key of P-256, which is in a token. It returns
// the signature as the DER of ECDSA-Sig-Value, or as r and s of 32 bytes each (PKCS #11).
type Signer func(digest []byte) ([]byte, error)

// SignerOf returns a Signer that calls one of Go's.
func SignerOf(s crypto.Signer) Signer {
	return func(digest []byte) ([]byte, error) { return s.Sign(rand.Reader, digest, crypto.SHA256) }
}

// Sign makes a live code, signed by the token that has the key's other half. The expiry is
// rounded down to the second. The signature is verified before it is given out. Errors are the
// signer's own, [ErrKey], [ErrSigner], [ErrIdentifier] and [ErrExpiryRange].
func Sign(key *ecdsa.PublicKey, sign Signer, c Code) (*Payload, error) {
	id, err := IDOf(key)
	if err != nil {
		return nil, err
	}
	b, err := c.append(append([]byte{version, byte(Live)}, id[:]...))
	if err != nil {
		return nil, err
	}
	digest := digestOf(b)
	signature, err := sign(slices.Clone(digest))
	if err != nil {
		return nil, fmt.Errorf("sign void code: %w", err)
	}
	for _, raw := range normalised(signature) {
		if verifies(key, digest, raw) {
			return &Payload{append(b, raw...)}, nil
		}
	}
	return nil, ErrSigner
}

// digestOf returns what is signed of a code's bytes before the signature.
func digestOf(signed []byte) []byte {
	sum := sha256.Sum256(append([]byte(signatureDomain), signed...))
	return sum[:]
}

// normalised returns a signer's signature as r and s of 32 bytes with a low s: what it can be
// read as, since 64 bytes may be either form.
func normalised(signature []byte) (list [][]byte) {
	if len(signature) == signatureSize {
		list = appendLow(list, new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
	}
	var inner cryptobyte.String
	r, s := new(big.Int), new(big.Int)
	input := cryptobyte.String(signature)
	if input.ReadASN1(&inner, asn1.SEQUENCE) && input.Empty() && inner.ReadASN1Integer(r) && inner.ReadASN1Integer(s) && inner.Empty() {
		list = appendLow(list, r, s)
	}
	return list
}

// appendLow appends r and s, or r and the order less s, if both are in their range.
func appendLow(list [][]byte, r, s *big.Int) [][]byte {
	if r.Sign() <= 0 || s.Sign() <= 0 || r.Cmp(order) >= 0 || s.Cmp(order) >= 0 {
		return list
	}
	if s.Cmp(halfOrder) > 0 {
		s = new(big.Int).Sub(order, s)
	}
	raw := make([]byte, signatureSize)
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	return append(list, raw)
}

// canonical reports whether 64 bytes are r and s in their range, s in its lower half.
func canonical(raw []byte) bool {
	list := appendLow(nil, new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:]))
	return len(list) == 1 && bytes.Equal(list[0], raw)
}

// verifies reports whether raw is a signature in its one form.
func verifies(key *ecdsa.PublicKey, digest, raw []byte) bool {
	if !canonical(raw) {
		return false
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[:32]))
		b.AddASN1BigInt(new(big.Int).SetBytes(raw[32:]))
	})
	der, err := b.Bytes()
	return err == nil && ecdsa.VerifyASN1(key, digest, der)
}
