package keyagreement

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
)

// Curve is on which two sides agree.
type Curve int

// The curves.
const (
	P256 Curve = iota + 1
	P384
	P521
)

// parameters of a curve.
type parameters struct {
	curve     ecdh.Curve
	id        asn1.ObjectIdentifier
	hash      crypto.Hash // of the derivation, and of signatures with keys on this curve
	size      int         // of the key block protection key, in bytes
	algorithm string      // AlgorithmID
	bits      int         // of the curve's field
}

var curves = map[Curve]parameters{
	P256: {ecdh.P256(), asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, crypto.SHA256, 16, "A128KBPK", 256},
	P384: {ecdh.P384(), asn1.ObjectIdentifier{1, 3, 132, 0, 34}, crypto.SHA384, 24, "A192KBPK", 384},
	P521: {ecdh.P521(), asn1.ObjectIdentifier{1, 3, 132, 0, 35}, crypto.SHA512, 32, "A256KBPK", 521},
}

// String returns the curve's name, P-256 for one.
func (c Curve) String() string {
	switch c {
	case P256:
		return "P-256"
	case P384:
		return "P-384"
	case P521:
		return "P-521"
	}
	return "no curve"
}

// KeySize returns the size of the key block protection key that is agreed on, in bytes: 16, 24
// or 32 for AES-128, AES-192 or AES-256; 0 for no curve.
func (c Curve) KeySize() int { return curves[c].size }

// MaxKeySize is the size of the longest key that is agreed on, in bytes.
const MaxKeySize = 32

func curveOf(id asn1.ObjectIdentifier) (Curve, error) {
	for c, p := range curves {
		if p.id.Equal(id) {
			return c, nil
		}
	}
	return 0, ErrCurve
}

// signing says how the key of a certificate signs, and refuses one that is weaker than a curve.
func signing(c *x509.Certificate, curve Curve) (crypto.Hash, error) {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		strength := 0 // in bits of a curve's field (NIST SP 800-57 part 1, table 2)
		switch bits := key.N.BitLen(); {
		case bits > 8192:
			return 0, ErrCertificate
		case bits >= 7680:
			strength = 384
		case bits >= 3072:
			strength = 256
		}
		if strength < curves[curve].bits {
			return 0, ErrWeaker
		}
		return crypto.SHA256, nil
	case *ecdsa.PublicKey:
		bits := key.Curve.Params().BitSize
		for _, p := range curves {
			if p.bits == bits {
				if bits < curves[curve].bits {
					return 0, ErrWeaker
				}
				return p.hash, nil
			}
		}
	}
	return 0, ErrCertificate
}

// verify checks a signature over a text.
func verify(c *x509.Certificate, curve Curve, text, signature []byte) error {
	hash, err := signing(c, curve)
	if err != nil {
		return err
	}
	digest := digestOf(hash, text)
	good := false
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		good = rsa.VerifyPKCS1v15(key, hash, digest, signature) == nil
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(key, digest, signature)
	}
	if !good {
		return ErrSignature
	}
	return nil
}

func digestOf(hash crypto.Hash, parts ...[]byte) []byte {
	h := hash.New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}
