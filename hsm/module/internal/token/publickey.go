package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"
)

// curves are the curves that keyd uses, by their object identifiers (RFC 5480 §2.1.1.1).
var curves = []struct {
	curve elliptic.Curve
	oid   asn1.ObjectIdentifier
}{
	{elliptic.P256(), asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}},
	{elliptic.P384(), asn1.ObjectIdentifier{1, 3, 132, 0, 34}},
	{elliptic.P521(), asn1.ObjectIdentifier{1, 3, 132, 0, 35}},
}

// ErrCurve is returned for a curve other than P-256, P-384 and P-521.
var ErrCurve = errors.New("the curve must be P-256, P-384 or P-521")

// fieldSize is the size of a curve's field elements in bytes: 32, 48 or 66. That of its
// scalars is the same.
func fieldSize(curve elliptic.Curve) int { return (curve.Params().BitSize + 7) / 8 }

// curveParameters is a curve's CKA_EC_PARAMS: its object identifier in DER.
func curveParameters(curve elliptic.Curve) ([]byte, error) {
	for _, c := range curves {
		if c.curve == curve {
			return asn1.Marshal(c.oid)
		}
	}
	return nil, ErrCurve
}

// publicKey reads a public key object.
func (s *Session) publicKey(object Object, keyType uint) (crypto.PublicKey, error) {
	if keyType == pkcs11.CKK_RSA {
		return s.publicRSA(object)
	}
	parameters, err := s.attribute(object, pkcs11.CKA_EC_PARAMS)
	if err != nil {
		return nil, err
	}
	point, err := s.attribute(object, pkcs11.CKA_EC_POINT)
	if err != nil {
		return nil, err
	}
	for _, c := range curves {
		if own, err := curveParameters(c.curve); err == nil && bytes.Equal(own, parameters) {
			return publicEC(c.curve, point)
		}
	}
	return nil, ErrCurve
}

// publicEC reads CKA_EC_POINT: an uncompressed point in a DER octet string. Some tokens
// leave the octet string out; the length tells the two apart, their first byte does not.
func publicEC(curve elliptic.Curve, point []byte) (*ecdsa.PublicKey, error) {
	if len(point) != 1+2*fieldSize(curve) {
		var inner []byte
		if rest, err := asn1.Unmarshal(point, &inner); err != nil || len(rest) != 0 {
			return nil, errors.New("the token's EC point is no DER octet string")
		}
		point = inner
	}
	return ecdsa.ParseUncompressedPublicKey(curve, point)
}

func (s *Session) publicRSA(object Object) (*rsa.PublicKey, error) {
	modulus, err := s.attribute(object, pkcs11.CKA_MODULUS)
	if err != nil {
		return nil, err
	}
	exponent, err := s.attribute(object, pkcs11.CKA_PUBLIC_EXPONENT)
	if err != nil {
		return nil, err
	}
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537}
	if bits := key.N.BitLen(); bits < 2048 || bits > 4096 || !bytes.Equal(bytes.TrimLeft(exponent, "\x00"), []byte{1, 0, 1}) {
		return nil, fmt.Errorf("an RSA key of %d bits, or with another exponent than 65537, is not used", bits)
	}
	return key, nil
}
