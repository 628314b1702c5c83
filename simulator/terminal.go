// Package simulator is a payment terminal in software, for trying keyd out and for
// tests. It is the terminal side; nothing of it runs inside keyd.
//
// [Terminal] keeps DUKPT registers in a file and enciphers PINs as a PIN pad does. [Device] does
// what the firmware of a terminal does besides: it has a key pair and a certificate, gets its keys
// from keyd by every method, confirms them, and uses them. [Authority] makes the certificates that
// a maker of terminals and an operator of key hosts make.
//
// # Rules
//
//   - What a later step depends on is in the file, and on the disk, before anything is sent: a
//     device that is stopped at any point goes on from its file. No key serial number is used
//     twice.
//   - A device believes no host but by its own authorities, and looks at every key block before it
//     keeps anything of it.
//   - The files hold keys in the clear (mode 0600), as a device holds them in its secure memory.
package simulator

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"

	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/pinblock"
)

// Terminal is a simulated terminal whose registers lie in a file. Two processes may
// use one file: they take turns.
type Terminal struct {
	path string
}

// Open returns the terminal whose state is in the file at path.
func Open(path string) *Terminal { return &Terminal{path: path} }

// PINBlock is an enciphered PIN as a terminal sends it.
type PINBlock struct {
	KSN         dukpt.KSN
	WorkingType dukpt.KeyType
	Format      pinblock.Format
	Block       []byte // 8 bytes, 16 for format 4
}

// EncryptPIN enciphers a PIN of 4 to 12 ASCII digits for a PAN, in format 0 or 3
// under TDES DUKPT and in format 4 under AES DUKPT. The advanced registers are on disk
// before the block is made, so that no key is used twice whatever happens in between.
func (t *Terminal) EncryptPIN(format pinblock.Format, pan string, pin []byte) (PINBlock, error) {
	var block PINBlock
	err := t.transact(format, pan, pin, func(_ *software.Transaction, made PINBlock) error {
		block = made
		return nil
	})
	return block, err
}

// transact makes a block, and calls use with it and the transaction whose keys it has.
func (t *Terminal) transact(format pinblock.Format, pan string, pin []byte, use func(*software.Transaction, PINBlock) error) error {
	if !format.Valid() {
		return fmt.Errorf("%s is no format that a PIN pad makes", format)
	}
	account, err := pinblock.ParsePAN(pan)
	if err != nil {
		return err
	}
	var digits pinblock.PIN
	defer digits.Destroy()
	if err := digits.SetDigits(pin); err != nil {
		return err
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
		return err
	}
	defer transaction.Destroy()
	block, err := seal(transaction, format, account, &digits)
	if err != nil {
		return err
	}
	return use(transaction, block)
}

func seal(transaction *software.Transaction, format pinblock.Format, pan pinblock.PAN, pin *pinblock.PIN) (PINBlock, error) {
	working := dukpt.TDES2Key
	if format == pinblock.ISO4 {
		working = dukpt.AES128
	}
	key := make([]byte, working.Size())
	defer clear(key)
	if err := transaction.Key(key, dukpt.UsagePIN, working); err != nil {
		return PINBlock{}, err
	}
	var random [pinblock.RandomSize]byte
	if _, err := rand.Read(random[:]); err != nil {
		return PINBlock{}, err
	}
	block := make([]byte, format.Size())
	if err := pinblock.Encode(block, format, pin, pan, &random); err != nil {
		return PINBlock{}, err
	}
	c, err := blockCipher(key, format)
	if err != nil {
		return PINBlock{}, err
	}
	if err := encipherBlock(c, format, pan, block); err != nil {
		return PINBlock{}, err
	}
	return PINBlock{KSN: transaction.KSN(), WorkingType: working, Format: format, Block: block}, nil
}

func blockCipher(key []byte, format pinblock.Format) (cipher.Block, error) {
	if format == pinblock.ISO4 {
		return aes.NewCipher(key)
	}
	k := new(software.TDESKey)
	return k, k.Set(key)
}

// update changes the state under a lock and writes it whole or not at all.
func (t *Terminal) update(change func(*software.Terminal) error) error {
	unlock, err := lockFile(t.path)
	if err != nil {
		return err
	}
	defer unlock()
	state, err := readFile(t.path, 64<<10)
	if err != nil {
		return err
	}
	defer clear(state)
	terminal, err := software.UnmarshalTerminalState(state)
	if err != nil {
		return fmt.Errorf("terminal %s: %w", t.path, err)
	}
	defer terminal.Destroy()
	if err := change(terminal); err != nil {
		return err
	}
	next, err := terminal.MarshalState()
	if err != nil {
		return err
	}
	defer clear(next)
	return WriteFile(t.path, next, 0o600)
}
