package main

import (
	"crypto/aes"
	"encoding/binary"

	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/pinblock"
)

// sealAES enciphers the block of an AES DUKPT transaction: format 4 under an AES-128 key.
func (m *maker) sealAES(r *request, account pinblock.PAN) error {
	ksn, err := m.transaction(r)
	if err != nil {
		return err
	}
	path, err := dukpt.NewPath(ksn, dukpt.AES128, dukpt.UsagePIN, dukpt.AES128)
	if err != nil {
		return err
	}
	m.steps.Add(int64(path.Len()))
	m.made.Add(1)
	if err := software.AESDerive(m.key[:], m.bdk, path); err != nil {
		return err
	}
	c, err := aes.NewCipher(m.key[:])
	if err != nil {
		return err
	}
	binary.NativeEndian.PutUint64(m.fill[:], m.random.Uint64())
	if err := pinblock.EncodeISO4(r.block[:], &m.pin, &m.fill); err != nil {
		return err
	}
	c.Encrypt(r.block[:], r.block[:])
	if err := account.XORField4(r.block[:]); err != nil {
		return err
	}
	c.Encrypt(r.block[:], r.block[:])
	return nil
}
