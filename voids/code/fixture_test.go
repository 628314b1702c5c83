package code_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/binary"
	"testing"
	"time"

	"keyd/voids/code"
)

// now is when the tests happen.
var now = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// merchant and host are of the example in docs/void-code.md.
const (
	merchant = "m-17"
	host     = "void.example.com"
)

// newKey returns the key whose number is 1, 2, …: the same in each run.
func newKey(t testing.TB, number byte) *ecdsa.PrivateKey {
	t.Helper()
	scalar := make([]byte, 32)
	scalar[31] = number
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// deterministic signs by RFC 6979, so that a test draws the same symbol each time.
func deterministic(key *ecdsa.PrivateKey) code.Signer {
	return func(digest []byte) ([]byte, error) { return key.Sign(nil, digest, crypto.SHA256) }
}

func keysOf(t testing.TB, keys ...*ecdsa.PrivateKey) code.Keys {
	t.Helper()
	var public []*ecdsa.PublicKey
	for _, key := range keys {
		public = append(public, &key.PublicKey)
	}
	set, err := code.NewKeys(public...)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func audienceOf(t testing.TB, merchant string) code.Audience {
	t.Helper()
	a, err := code.AudienceOf(merchant)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// newCode returns the code with a number, which ends in a minute.
func newCode(t testing.TB, number uint64) code.Code {
	t.Helper()
	c := code.Code{Expiry: now.Add(time.Minute), Audience: audienceOf(t, merchant)}
	binary.BigEndian.PutUint64(c.Identifier[:], 0x6b657964<<32|number+1)
	binary.BigEndian.PutUint64(c.Identifier[8:], (number+1)*0x9e3779b97f4a7c15)
	return c
}

func live(t testing.TB, number uint64) *code.Payload {
	t.Helper()
	key := newKey(t, 1)
	p, err := code.Sign(&key.PublicKey, deterministic(key), newCode(t, number))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func slip(t testing.TB, number uint64) *code.Payload {
	t.Helper()
	p, err := code.NewSlip(newCode(t, number))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func url(t testing.TB, p *code.Payload, host string) string {
	t.Helper()
	u, err := p.URL(host)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
