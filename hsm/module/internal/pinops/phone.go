package pinops

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"errors"

	"github.com/miekg/pkcs11"

	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/pinrecord"
)

// Phone is with whom a key for one block is agreed on, and for what (package pinrecord).
type Phone struct {
	Pair    token.Pair // the modules', on P-256, which agrees
	Point   *ecdh.PublicKey
	Context pinrecord.Context
}

// checkPhone applies the rules for a block from a phone: it opens a PIN of a PIN record, in format 4.
func (l *lane) checkPhone() error {
	switch {
	case l.task != opens:
		return fault.New(fault.KeyUsageMismatch, "from a phone come PINs of PIN records, and no others")
	case l.in.Format != hsm.Format4 || l.in.KSN != (dukpt.KSN{}) || l.in.WorkingType != 0:
		return fault.New(fault.KeyUsageMismatch, "a PIN comes from a phone in ISO format 4, under a key that is agreed on")
	}
	return l.checkDemands()
}

// agree makes a cipher with the key that the phone and the pair agree on, which is in the token while the
// block is opened. The secret passes through the lane's workspace.
func (b *batch) agree(l *lane, c *cipher) error {
	public, ok := l.phone.Pair.Public.(*ecdsa.PublicKey)
	if !ok {
		return errors.New("the pair with which phones agree is on no curve")
	}
	modules, err := public.ECDH()
	if err != nil {
		return err
	}
	secret, key := l.digits[:], l.ik[:pinrecord.PhoneKeySize]
	defer clear(secret)
	defer clear(key)
	if err := b.session.ECDH(l.phone.Pair, l.phone.Point, secret); err != nil {
		return err
	}
	erase.Do(func() { pinrecord.PhoneKey(key, secret, modules, l.phone.Point, l.phone.Context) })
	object, err := b.session.Import(pkcs11.CKK_AES, token.MayDecrypt, key)
	if err != nil {
		return err
	}
	*c = cipher{mechanism: sealing.ECB("A"), object: object, derived: true}
	return nil
}
