package ceremony

import (
	"crypto/ecdh"
	"crypto/hpke"
	"errors"
	"fmt"
)

// Components are sealed by HPKE (RFC 9180) in base mode: DHKEM(P-521, HKDF-SHA512), HKDF-SHA512,
// AES-256-GCM, which is no weaker than any key that is loaded. The opening's digest, the
// officer and the index of the component are in the info, so that a sealed component
// opens in no other place.

// ErrSealed is returned for a sealed component that does not open: it was altered, or
// sealed for another ceremony, officer or place.
var ErrSealed = errors.New("the sealed component was altered, or is for another ceremony")

// MaxSealedComponent bounds a sealed component, in bytes.
const MaxSealedComponent = 512

// SealComponent seals a component of an officer's to the key in the opening.
func SealComponent(o *Opening, openingDigest, officer string, index int, component []byte) ([]byte, error) {
	point, err := ecdh.P521().NewPublicKey(o.Key)
	if err != nil {
		return nil, fmt.Errorf("the opening has no key to seal a component to: %w", err)
	}
	key, err := hpke.NewDHKEMPublicKey(point)
	if err != nil {
		return nil, err
	}
	sealed, err := hpke.Seal(key, hpke.HKDFSHA512(), hpke.AES256GCM(), componentInfo(openingDigest, officer, index), component)
	if err != nil {
		return nil, fmt.Errorf("seal component: %w", err)
	}
	return sealed, nil
}

// OpenComponent opens it with the ceremony's private key, which stays in the token. The
// error is [ErrSealed]. The caller wipes the result.
func OpenComponent(key ecdh.KeyExchanger, openingDigest, officer string, index int, sealed []byte) ([]byte, error) {
	private, err := hpke.NewDHKEMPrivateKey(key)
	if err != nil {
		return nil, err
	}
	component, err := hpke.Open(private, hpke.HKDFSHA512(), hpke.AES256GCM(), componentInfo(openingDigest, officer, index), sealed)
	if err != nil {
		return nil, ErrSealed
	}
	return component, nil
}

func componentInfo(openingDigest, officer string, index int) []byte {
	return fmt.Appendf(nil, "keyd component 1\x00%s\x00%s\x00%d", openingDigest, officer, index)
}
