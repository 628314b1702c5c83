package injection

import (
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/miekg/pkcs11"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/receipt"
)

// Confirm checks a terminal's receipt, and returns the statement that the token's identity signs.
// Errors are [fault.KeySealInvalid] for a record or a key that no module made,
// [fault.ReceiptInvalid], and the token's.
func (e *Engine) Confirm(s *token.Session, c *hsm.ConfirmInjection) ([]byte, error) {
	record, err := e.authentic(s, c.Record)
	if err != nil {
		return nil, err
	}
	key, err := e.keys.Open(s, c.ReceiptKey)
	if err != nil {
		return nil, err
	}
	defer key.Release()
	if key.Digest != record.Keys[1].Header || key.Header.Device != record.Device {
		return nil, fault.New(fault.ReceiptInvalid, "the key of the receipt is not that of the injection")
	}
	id, err := hex.DecodeString(record.Injection)
	if err != nil {
		return nil, err
	}
	text, err := receipt.Text([receipt.IDSize]byte(id), c.CheckValues)
	if err != nil {
		return nil, fault.New(fault.ReceiptInvalid, "")
	}
	var mac [16]byte
	mechanism := uint(pkcs11.CKM_AES_CMAC)
	if key.Header.Algorithm == "T" {
		mechanism = pkcs11.CKM_DES3_CMAC
	}
	n, err := s.Sign(mechanism, key.Object, mac[:], text)
	if err != nil {
		return nil, err
	}
	if n != int(key.Header.MACLength) {
		return nil, &token.Error{Call: "C_Sign", Code: pkcs11.CKR_GENERAL_ERROR}
	}
	if subtle.ConstantTimeCompare(mac[:n], c.MAC) != 1 {
		return nil, fault.New(fault.ReceiptInvalid, "")
	}
	if !slices.Equal(c.CheckValues, record.CheckValues()) {
		return nil, fault.New(fault.ReceiptInvalid, "the terminal has other keys than it was given")
	}
	return e.identity.SignReceipt(s, record, &receipt.Receipt{CheckValues: c.CheckValues, MAC: c.MAC}, max(record.At, e.register.Now().Unix()))
}

// authentic returns a record that a module made. It does not say under which master keys; those
// count that the register has not retired, so that a record outlives a change of master keys as
// long as keys of the older generation do, and is refused like them after that.
func (e *Engine) authentic(s *token.Session, sealed []byte) (*receipt.Record, error) {
	encoded, code, err := receipt.Split(sealed)
	if err != nil {
		return nil, fault.New(fault.KeySealInvalid, "the record of the injection")
	}
	epoch, err := e.register.Current()
	if err != nil {
		return nil, err
	}
	for generation := epoch.Generation; generation >= epoch.Oldest; generation-- {
		var mine [receipt.CodeSize]byte
		err := e.masters.Authenticate(s, generation, mine[:], recordPurpose, encoded)
		if errors.Is(err, sealing.ErrNoMasters) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if subtle.ConstantTimeCompare(mine[:], code) != 1 {
			continue
		}
		return receipt.ParseRecord(encoded) // which a module has made: what does not fit is a bug
	}
	return nil, fault.New(fault.KeySealInvalid, "the record of the injection")
}
