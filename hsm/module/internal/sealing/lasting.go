package sealing

import (
	"errors"

	"github.com/miekg/pkcs11"

	"keyd/hsm/module/internal/locked"
	"keyd/hsm/module/internal/token"
)

// The fingerprint key has no generation: key serial numbers and tries are counted by what it
// makes. It follows from the secret of a token's first master keys. For a token that is given
// master keys of a later generation it goes along in the epoch, wrapped.

// lastingSpec returns the fingerprint key's row.
func lastingSpec() masterSpec {
	for _, spec := range masterSpecs {
		if spec.lasting {
			return spec
		}
	}
	return masterSpec{}
}

// substitute is the label of a fingerprint key that is about to take the place of another: it
// counts where a loss of power has left no other.
const substitute = "keyd master fingerprint substitute"

// Lasting returns the fingerprint key, wrapped by the next master keys. It comes from the
// secret of the present ones, if they are a token's first, or else from what the epoch has.
func (m *Masters) Lasting(session *token.Session, wrapped, secret []byte, next *Masters) (again []byte, err error) {
	wrap := func(value []byte) (err error) {
		again, err = next.wrap(session, next.wrapModule, pkcs11.CKK_AES, value)
		return err
	}
	if len(wrapped) == 0 {
		err = derive(secret, lastingSpec().label(m.Generation), wrap)
	} else {
		err = m.withLasting(session, wrapped, wrap)
	}
	return again, err
}

// withLasting unwraps the fingerprint key in locked memory and passes it to use.
func (m *Masters) withLasting(session *token.Session, wrapped []byte, use func(value []byte) error) error {
	region, err := locked.New(SecretSize)
	if err != nil {
		return err
	}
	defer region.Free()
	n, err := session.UnwrapReadable(token.CKMAESKeyWrapPad, m.wrapModule, wrapped, region.Bytes())
	if err == nil && n != SecretSize {
		err = errors.New("the fingerprint key is of another length")
	}
	if err != nil {
		return err
	}
	return use(region.Bytes()[:n])
}

// ReplaceLasting gives the token the fingerprint key of another one. At every moment it has
// the old one or the new one.
func (m *Masters) ReplaceLasting(session *token.Session, wrapped []byte) error {
	spec := lastingSpec()
	gone := func(label string) error {
		if err := session.DestroyMaster(label); err != nil && !errors.Is(err, token.ErrNoObject) {
			return err
		}
		return nil
	}
	return m.withLasting(session, wrapped, func(value []byte) error {
		for _, label := range []string{substitute, spec.label(m.Generation)} {
			if err := gone(label); err != nil {
				return err
			}
			if _, err := session.ImportMaster(label, spec.rights, spec.mechanism, spec.unwrap, value); err != nil {
				return err
			}
		}
		return gone(substitute)
	})
}
