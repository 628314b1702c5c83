package pinrecord

import (
	"crypto/ecdh"
	"crypto/hpke"
	"errors"

	"keyd/ceremony"
)

// Codes are sealed by HPKE (RFC 9180) in base mode: DHKEM on the curve of who hands them over,
// HKDF-SHA512, AES-256-GCM. The approval's digest is in the info, so that a code opens for its own
// approval only.

// ErrSealed is returned for a sealed code that does not open.
var ErrSealed = errors.New("the sealed code was altered, or is for another approval or somebody else")

// MaxSealedCode bounds a sealed code, in bytes: a point on P-521, the code, and a tag.
const MaxSealedCode = 133 + CodeSize + 16

// SealCode seals a code to who hands it over. approval is the encoded approval. Module.
func SealCode(to *ecdh.PublicKey, approval, code []byte) ([]byte, error) {
	key, err := hpke.NewDHKEMPublicKey(to)
	if err != nil {
		return nil, err
	}
	return hpke.Seal(key, hpke.HKDFSHA512(), hpke.AES256GCM(), codeInfo(approval), code)
}

// OpenCode opens it with the private key of who hands it over, who wipes the result. The error is
// [ErrSealed]. Approver.
func OpenCode(key ecdh.KeyExchanger, approval, sealed []byte) ([]byte, error) {
	private, err := hpke.NewDHKEMPrivateKey(key)
	if err != nil {
		return nil, err
	}
	code, err := hpke.Open(private, hpke.HKDFSHA512(), hpke.AES256GCM(), codeInfo(approval), sealed)
	if err != nil || len(code) != CodeSize {
		return nil, ErrSealed
	}
	return code, nil
}

func codeInfo(approval []byte) []byte {
	return []byte("keyd pin code 1\x00" + ceremony.Digest(approval))
}
