package quorum

import (
	"crypto/ecdh"
	"errors"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/token"
)

// pointSize is the size of an uncompressed point of P-521, the first part of a message of
// HPKE with DHKEM(P-521, HKDF-SHA512).
const pointSize = 133

// openComponent opens a sealed component into out with a ceremony's private key, which
// stays in the token. shared is locked memory for the agreement.
func openComponent(s *token.Session, pair token.Pair, openingDigest string, statement *ceremony.Statement, sealed, out, shared []byte) error {
	if len(sealed) <= pointSize || ceremony.Digest(sealed) != statement.Component {
		return ceremony.ErrSealed
	}
	peer, err := ecdh.P521().NewPublicKey(sealed[:pointSize])
	if err != nil {
		return ceremony.ErrSealed
	}
	exchanger, err := s.KeyExchanger(pair, shared)
	if err != nil {
		return err
	}
	defer exchanger.Wipe()
	// The token's part first, since no token call may be made while traces are erased.
	if _, err := exchanger.ECDH(peer); err != nil {
		return err
	}
	erase.Do(func() {
		var component []byte
		component, err = ceremony.OpenComponent(exchanger, openingDigest, statement.Officer, statement.Index, sealed)
		defer clear(component)
		if err == nil && len(component) != len(out) {
			err = fault.New(fault.ComponentInvalid, "it is not as long as the key")
		}
		if err == nil {
			copy(out, component)
		}
	})
	return err
}

// closedIfMissing says that a ceremony whose key pair is gone is over.
func closedIfMissing(err error) error {
	if errors.Is(err, token.ErrNoObject) {
		return fault.New(fault.CeremonyClosed, "")
	}
	return err
}
