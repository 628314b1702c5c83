package main

import (
	"crypto/aes"
	"encoding/binary"
	"errors"

	"keyd/dukpt"
	"keyd/dukpt/software"
	blocks "keyd/keyblock/software"
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

// mac is the CMAC of an AES terminal under the key serial number of a request that it has made.
func (m *maker) mac(r *request, text []byte) ([]byte, error) {
	if !m.aes() {
		return nil, errors.New("only AES terminals make MACs here")
	}
	ksn, err := dukpt.ParseKSN(m.serial(r).KeySerialNumber)
	if err != nil {
		return nil, err
	}
	path, err := dukpt.NewPath(ksn, dukpt.AES128, dukpt.UsageMACGeneration, dukpt.AES128)
	if err != nil {
		return nil, err
	}
	var key [16]byte
	if err := software.AESDerive(key[:], m.bdk, path); err != nil {
		return nil, err
	}
	c, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return blocks.CMAC(c, text), nil
}
