package voidtoken

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Limits.
const (
	MaxToken = 4 << 10        // bytes of a token's text
	MaxLife  = 24 * time.Hour // from authorisation to expiry, whatever a policy says
)

// ErrToken is returned for what is no void token.
var ErrToken = errors.New("malformed void token")

// Token is what a void token says.
type Token struct {
	Fields
	Authorizations []Authorization `json:"authorizations"` // in the order of [Methods], no method and no subject twice
	AuthorizedAt   int64           `json:"authorized_at"`  // Unix seconds
	ExpiresAt      int64           `json:"expires_at"`     // Unix seconds; it is not good any more from then on
	Key            string          `json:"key"`            // identifier of the signer's key, see [KeyID]
}

// Sign returns the text of a token, whose Key it sets to the signer's. The signer is asked for
// one signature; the private key may be in a token. Errors wrap [ErrToken], [ErrKeys], or are
// the signer's.
func Sign(signer crypto.Signer, token Token) (string, error) {
	key, id, err := signerKey(signer)
	if err != nil {
		return "", err
	}
	token.Key = id
	encoded, err := token.encode()
	if err != nil {
		return "", err
	}
	digest, hash := digestFor(key, encoded)
	signature, err := signer.Sign(rand.Reader, digest, hash)
	if err != nil {
		return "", fmt.Errorf("sign void token: %w", err)
	}
	if !ecdsa.VerifyASN1(key, digest, signature) { // a fault in a signature may give the key away
		return "", errors.New("sign void token: the signer's signature is wrong; do not use this signer any more")
	}
	return base64.RawURLEncoding.EncodeToString(encoded) + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// encode returns the one encoding of a token.
func (t *Token) encode() ([]byte, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("encode void token: %w", err)
	}
	return b, nil
}

// Validate checks all of a token, its fields included. The error is [ErrToken].
func (t *Token) Validate() error {
	if t.Fields.Validate() != nil || !validAuthorizations(t.Authorizations) || !lowerHex(t.Key, sha256.Size) ||
		t.AuthorizedAt <= 0 || t.ExpiresAt <= t.AuthorizedAt || t.ExpiresAt-t.AuthorizedAt > int64(MaxLife/time.Second) {
		return ErrToken
	}
	return nil
}

// parse takes a text apart of which nothing is verified. It accepts one text for each token and
// signature. The error is [ErrToken].
func parse(text string) (token *Token, encoded, signature []byte, err error) {
	if len(text) > MaxToken {
		return nil, nil, nil, ErrToken
	}
	first, second, found := strings.Cut(text, ".")
	if !found {
		return nil, nil, nil, ErrToken
	}
	if encoded, err = decode(first); err != nil {
		return nil, nil, nil, err
	}
	if signature, err = decode(second); err != nil {
		return nil, nil, nil, err
	}
	token = new(Token)
	if json.Unmarshal(encoded, token) != nil {
		return nil, nil, nil, ErrToken
	}
	again, err := token.encode()
	if err != nil || !bytes.Equal(again, encoded) {
		return nil, nil, nil, ErrToken
	}
	return token, encoded, signature, nil
}

// decode accepts exactly what the encoder returns: line breaks, which the decoder passes over,
// and padding bits are no second form.
func decode(text string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) == 0 || base64.RawURLEncoding.EncodeToString(b) != text {
		return nil, ErrToken
	}
	return b, nil
}
