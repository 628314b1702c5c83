package card

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"testing"

	"github.com/miekg/pkcs11"
)

// The PIN is not even asked for where a mistake would lock the card.
func TestMayLogIn(t *testing.T) {
	const usable = pkcs11.CKF_TOKEN_INITIALIZED | pkcs11.CKF_USER_PIN_INITIALIZED
	for flags, want := range map[uint]error{
		usable:                                 nil,
		usable | pkcs11.CKF_USER_PIN_COUNT_LOW: nil,
		usable | pkcs11.CKF_USER_PIN_FINAL_TRY: ErrLastTry,
		usable | pkcs11.CKF_USER_PIN_LOCKED:    ErrLocked,
		usable | pkcs11.CKF_USER_PIN_FINAL_TRY | pkcs11.CKF_USER_PIN_LOCKED: ErrLocked,
		usable | pkcs11.CKF_USER_PIN_TO_BE_CHANGED:                          ErrLocked,
	} {
		if got := mayLogIn(pkcs11.TokenInfo{Flags: flags}); !errors.Is(got, want) {
			t.Errorf("flags %#x: %v, want %v", flags, got, want)
		}
	}
	if mayLogIn(pkcs11.TokenInfo{Flags: pkcs11.CKF_TOKEN_INITIALIZED}) == nil {
		t.Error("a card without a PIN is usable")
	}
}

// A bare point begins like an OCTET STRING, and one in some 256 looks like one.
func TestParsePoint(t *testing.T) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		for range 300 {
			key, err := ecdsa.GenerateKey(curve, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			bare, err := key.PublicKey.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			wrapped, err := asn1.Marshal(bare)
			if err != nil {
				t.Fatal(err)
			}
			for _, value := range [][]byte{bare, wrapped} {
				if got, err := parsePoint(curve, value); err != nil || !got.Equal(&key.PublicKey) {
					t.Fatalf("%x: %v", value, err)
				}
			}
		}
		for _, bad := range [][]byte{nil, {4}, {4, 0}, make([]byte, 65)} {
			if _, err := parsePoint(curve, bad); err == nil {
				t.Errorf("%x is a point", bad)
			}
		}
	}
}
