package pinops

import (
	"errors"

	"github.com/miekg/pkcs11"

	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/hsm"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
)

// cipher enciphers PIN blocks under the key that an operation names: a static key or
// an AES DUKPT working key in the token, or a TDES DUKPT working key in locked
// memory, since no PKCS#11 mechanism derives one.
type cipher struct {
	session   *token.Session
	mechanism uint
	object    token.Object
	derived   bool              // object was made for this operation
	memory    *software.TDESKey // instead of object
}

// cipherFor makes the cipher of a PIN key. Working keys of TDES DUKPT are left in the
// workspace; those of AES DUKPT are session objects until close.
func (w *workspace) cipherFor(s *token.Session, k *sealing.Key, p *hsm.PINKey) (cipher, error) {
	switch {
	case k.Header.Usage != "B0":
		return cipher{session: s, mechanism: k.Mechanism(), object: k.Object}, nil
	case k.Header.Algorithm == "T":
		return w.deriveTDES(s, k, p.KSN)
	default:
		return deriveAES(s, k, p)
	}
}

// deriveTDES derives the PIN encryption key of ANSI X9.24-1:2009 §A.4. The token
// enciphers the initial key ID under the BDK and the masked BDK, which gives the
// initial key's halves; the rest is computed here and the initial key forgotten.
func (w *workspace) deriveTDES(s *token.Session, k *sealing.Key, ksn dukpt.KSN) (cipher, error) {
	id := ksn.InitialKeyID()
	if err := s.Encrypt(pkcs11.CKM_DES3_ECB, k.Object, w.ik[:8], id[:]); err != nil {
		return cipher{}, err
	}
	if err := s.Encrypt(pkcs11.CKM_DES3_ECB, k.Masked, w.ik[8:], id[:]); err != nil {
		return cipher{}, err
	}
	var err error
	erase.Do(func() {
		err = errors.Join(
			software.TDESTransactionKey(w.working[:], w.ik[:], ksn),
			software.TDESWorkingKey(w.working[:], w.working[:], dukpt.VariantPIN),
			w.tdes.Set(w.working[:]))
		clear(w.ik[:])
		clear(w.working[:])
	})
	return cipher{memory: &w.tdes}, err
}

// deriveAES walks the derivation path of ANSI X9.24-3:2017 inside the token: each key
// is made by enciphering public data under the one before, and destroyed when the
// next exists.
func deriveAES(s *token.Session, k *sealing.Key, p *hsm.PINKey) (cipher, error) {
	working := workingType(p.WorkingType)
	path, err := dukpt.NewPath(p.KSN, bdkType(k.Header), dukpt.UsagePIN, working)
	if err != nil {
		return cipher{}, err
	}
	object := k.Object
	for i := range path.Len() {
		step := path.Step(i)
		rights := token.MayDerive
		if i == path.Len()-1 {
			rights = token.MayEncrypt | token.MayDecrypt
		}
		keyType, length := pkcs11Type(step.Key)
		next, err := s.Derive(object, step.Data[:step.DataLen], keyType, length, rights)
		if i > 0 {
			if gone := s.Destroy(object); err == nil {
				err = gone
			}
		}
		if err != nil {
			return cipher{}, err
		}
		object = next
	}
	algorithm := "A"
	if working.IsTDES() {
		algorithm = "T"
	}
	return cipher{session: s, mechanism: sealing.ECB(algorithm), object: object, derived: true}, nil
}

// close destroys what was made for the operation.
func (c *cipher) close() error {
	if c.memory != nil {
		c.memory.Destroy()
	}
	if c.derived {
		return c.session.Destroy(c.object)
	}
	return nil
}

func (c *cipher) decrypt(out, in []byte) error {
	if c.memory == nil {
		return c.session.Decrypt(c.mechanism, c.object, out, in)
	}
	erase.Do(func() { c.memory.Decrypt(out, in) })
	return nil
}

func (c *cipher) encrypt(out, in []byte) error {
	if c.memory == nil {
		return c.session.Encrypt(c.mechanism, c.object, out, in)
	}
	erase.Do(func() { c.memory.Encrypt(out, in) })
	return nil
}
