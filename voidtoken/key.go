package voidtoken

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Limits of files with keys.
const (
	MaxKeys    = 64
	MaxKeyFile = 64 << 10 // bytes
)

// ErrKeys is returned for a file or a list of keys that cannot be used.
var ErrKeys = errors.New("signers' keys are 1 to 64 public ECDSA keys on P-256 or P-384, none twice, in PEM as PUBLIC KEY and nothing else")

// Keys are the public keys whose tokens a switch accepts, by identifier. A key that is taken out
// is not believed any more.
type Keys struct{ byID map[string]*ecdsa.PublicKey }

// NewKeys returns a set of keys. The error is [ErrKeys].
func NewKeys(list ...*ecdsa.PublicKey) (Keys, error) {
	keys := Keys{map[string]*ecdsa.PublicKey{}}
	for _, key := range list {
		id, err := KeyID(key)
		if err != nil || keys.byID[id] != nil {
			return Keys{}, ErrKeys
		}
		keys.byID[id] = key
	}
	if len(list) == 0 || len(list) > MaxKeys {
		return Keys{}, ErrKeys
	}
	return keys, nil
}

// ParseKeys reads keys in PEM, one block of type PUBLIC KEY each (RFC 7468 §13), with nothing
// but white space between them. The error is [ErrKeys].
func ParseKeys(text []byte) (Keys, error) {
	if len(text) > MaxKeyFile {
		return Keys{}, ErrKeys
	}
	var list []*ecdsa.PublicKey
	for rest := strings.TrimSpace(string(text)); rest != ""; {
		if !strings.HasPrefix(rest, "-----BEGIN PUBLIC KEY-----") {
			return Keys{}, ErrKeys
		}
		block, after := pem.Decode([]byte(rest))
		if block == nil || block.Type != "PUBLIC KEY" || len(block.Headers) > 0 {
			return Keys{}, ErrKeys
		}
		// What is decoded may stand behind something else that is not: PEM in one form only.
		if whole := strings.TrimSpace(string(pem.EncodeToMemory(block))); !strings.HasPrefix(strings.ReplaceAll(rest, "\r\n", "\n"), whole) {
			return Keys{}, ErrKeys
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return Keys{}, ErrKeys
		}
		key, ok := parsed.(*ecdsa.PublicKey)
		if !ok {
			return Keys{}, ErrKeys
		}
		list = append(list, key)
		rest = strings.TrimSpace(string(after))
	}
	return NewKeys(list...)
}

// KeyID returns a key's identifier: the SHA-256 of its SubjectPublicKeyInfo, in lower-case hex,
// as officers compare fingerprints. The error is [ErrKeys].
func KeyID(key *ecdsa.PublicKey) (string, error) {
	if key == nil || hashOf(key) == 0 {
		return "", ErrKeys
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", ErrKeys
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// purpose stands before what is signed, with a zero byte between them.
const purpose = "keyd void token 1"

func digestFor(key *ecdsa.PublicKey, encoded []byte) ([]byte, crypto.Hash) {
	message := append([]byte(purpose+"\x00"), encoded...)
	switch hash := hashOf(key); hash {
	case crypto.SHA256:
		sum := sha256.Sum256(message)
		return sum[:], hash
	case crypto.SHA384:
		sum := sha512.Sum384(message)
		return sum[:], hash
	}
	return nil, 0
}

func hashOf(key *ecdsa.PublicKey) crypto.Hash {
	switch key.Curve {
	case elliptic.P256():
		return crypto.SHA256
	case elliptic.P384():
		return crypto.SHA384
	}
	return 0
}

// signerKey returns the public key of a signer with its identifier.
func signerKey(signer crypto.Signer) (*ecdsa.PublicKey, string, error) {
	key, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, "", fmt.Errorf("sign void token: %w", ErrKeys)
	}
	id, err := KeyID(key)
	if err != nil {
		return nil, "", fmt.Errorf("sign void token: %w", err)
	}
	return key, id, nil
}
