package simulator

import (
	keydv1 "keyd/api/keyd/v1"
	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/pinblock"
)

// BoundPIN is an enciphered PIN with the MAC that binds it to something, under one key serial number.
type BoundPIN struct {
	PINBlock
	MAC []byte // CMAC, whole
}

// EncryptBoundPIN is [Terminal.EncryptPIN] with a CMAC under the same key serial number, of what
// message returns for the block.
func (t *Terminal) EncryptBoundPIN(format pinblock.Format, number string, pin []byte, message func(block []byte) []byte) (BoundPIN, error) {
	var bound BoundPIN
	err := t.transact(format, number, pin, func(transaction *software.Transaction, block PINBlock) error {
		key := make([]byte, block.WorkingType.Size())
		defer clear(key)
		if err := transaction.Key(key, dukpt.UsageMACGeneration, block.WorkingType); err != nil {
			return err
		}
		algorithm := byte('A')
		if block.WorkingType == dukpt.TDES2Key {
			algorithm = 'T'
		}
		code, err := mac(keydv1.MacKey_CMAC, key, message(block.Block), algorithm)
		bound = BoundPIN{block, code}
		return err
	})
	return bound, err
}
