package simulator

import (
	"fmt"

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
	if !format.Valid() {
		return BoundPIN{}, fmt.Errorf("%s is no format that a PIN pad makes", format)
	}
	account, err := pinblock.ParsePAN(number)
	if err != nil {
		return BoundPIN{}, err
	}
	var digits pinblock.PIN
	defer digits.Destroy()
	if err := digits.SetDigits(pin); err != nil {
		return BoundPIN{}, err
	}
	var transaction *software.Transaction
	err = t.update(func(terminal *software.Terminal) error {
		if (terminal.Scheme() == dukpt.AES) != (format == pinblock.ISO4) {
			return fmt.Errorf("a terminal with %s DUKPT does not make %s blocks", terminal.Scheme(), format)
		}
		transaction, err = terminal.Begin()
		return err
	})
	if err != nil {
		return BoundPIN{}, err
	}
	defer transaction.Destroy()
	block, err := seal(transaction, format, account, &digits)
	if err != nil {
		return BoundPIN{}, err
	}
	key := make([]byte, block.WorkingType.Size())
	defer clear(key)
	if err := transaction.Key(key, dukpt.UsageMACGeneration, block.WorkingType); err != nil {
		return BoundPIN{}, err
	}
	algorithm := byte('A')
	if block.WorkingType == dukpt.TDES2Key {
		algorithm = 'T'
	}
	code, err := mac(keydv1.MacKey_CMAC, key, message(block.Block), algorithm)
	return BoundPIN{block, code}, err
}
