package officer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

const (
	publicType  = "PUBLIC KEY"
	privateType = "PRIVATE KEY"
)

// maxPublicPEM bounds the file of a public key in bytes; one of P-521 has 268.
const maxPublicPEM = 4096

var errPublicKey = errors.New("an officer's key is an ECDSA key of P-256, P-384 or P-521")

// PublicPEM returns a public key as PEM ("PUBLIC KEY", SubjectPublicKeyInfo): what is
// handed in for the roster.
func PublicPEM(key crypto.PublicKey) ([]byte, error) {
	der, err := publicDER(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: publicType, Bytes: der}), nil
}

// ParsePublicPEM reads one public key, and refuses anything before or after it but white
// space. The key is an *ecdsa.PublicKey of P-256, P-384 or P-521.
func ParsePublicPEM(text []byte) (crypto.PublicKey, error) {
	if len(text) > maxPublicPEM {
		return nil, fmt.Errorf("this is no public key: it has more than %d bytes", maxPublicPEM)
	}
	text = bytes.TrimSpace(text)
	block, rest := pem.Decode(text)
	if block == nil || !bytes.HasPrefix(text, []byte("-----BEGIN "+publicType+"-----")) || len(block.Headers) > 0 || len(rest) > 0 {
		if block != nil && (block.Type == privateType || block.Type == keyType) {
			return nil, errors.New("this is a private key: hand in the public key only")
		}
		return nil, errors.New("this is no public key: it must be one PEM block PUBLIC KEY and nothing else")
	}
	key, err := parsePublicDER(block.Bytes)
	if err != nil {
		return nil, err
	}
	return key, nil
}

func publicDER(key crypto.PublicKey) ([]byte, error) {
	ec, ok := key.(*ecdsa.PublicKey)
	if !ok || ec == nil || !officerCurve(ec.Curve) {
		return nil, errPublicKey
	}
	return x509.MarshalPKIXPublicKey(ec)
}

// parsePublicDER reads a SubjectPublicKeyInfo in its one encoding: two encodings of a key
// would have two fingerprints.
func parsePublicDER(der []byte) (*ecdsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, errPublicKey
	}
	again, err := publicDER(parsed)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, der) {
		return nil, errors.New("the public key is encoded in an unusual way: write it again, with openssl pkey -pubin for one")
	}
	return parsed.(*ecdsa.PublicKey), nil
}

func officerCurve(curve elliptic.Curve) bool {
	return curve == elliptic.P256() || curve == elliptic.P384() || curve == elliptic.P521()
}
