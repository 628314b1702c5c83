package working

import (
	"errors"

	"github.com/miekg/pkcs11"

	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
)

// TDESMemory is where a working key of TDES DUKPT comes about. It lies in a session's
// locked memory.
type TDESMemory struct {
	Key   software.TDESKey // the working key, expanded
	Left  software.TDESKey // single DES under its left half
	value [2 * software.TDESKeySize]byte
	id    [8]byte // public
}

// Destroy overwrites the keys.
func (m *TDESMemory) Destroy() {
	m.Key.Destroy()
	m.Left.Destroy()
	clear(m.value[:])
}

// DeriveTDES derives the working key of a variant of the KSN's transaction (ANSI
// X9.24-1:2009 A.4, A.6) into m. The token makes the initial key's halves.
func (k *Keys) DeriveTDES(s *token.Session, bdk *sealing.Key, ksn dukpt.KSN, v dukpt.Variant, m *TDESMemory) error {
	m.id = ksn.InitialKeyID()
	if err := s.Encrypt(pkcs11.CKM_DES3_ECB, bdk.Object, m.value[:8], m.id[:]); err != nil {
		return err
	}
	if err := s.Encrypt(pkcs11.CKM_DES3_ECB, bdk.Twin, m.value[8:], m.id[:]); err != nil {
		return err
	}
	var err error
	erase.Do(func() { err = m.expand(ksn, v) })
	return err
}

func (m *TDESMemory) expand(ksn dukpt.KSN, v dukpt.Variant) error {
	defer clear(m.value[:])
	value, left := m.value[:software.TDESKeySize], m.value[software.TDESKeySize:]
	if err := workingKey(value, ksn, v); err != nil {
		return err
	}
	copy(left, value[:8])
	copy(left[8:], value[:8])
	return errors.Join(m.Key.Set(value), m.Left.Set(left))
}

// ExpandTDES expands the working key of a variant into key, from the initial key in
// memory, which it forgets. It is called within erase.Do.
func ExpandTDES(key *software.TDESKey, memory []byte, ksn dukpt.KSN, v dukpt.Variant) error {
	defer clear(memory)
	return errors.Join(workingKey(memory, ksn, v), key.Set(memory))
}

// workingKey turns an initial key into the working key of a variant, in place.
func workingKey(memory []byte, ksn dukpt.KSN, v dukpt.Variant) error {
	return errors.Join(
		software.TDESTransactionKey(memory, memory, ksn),
		software.TDESWorkingKey(memory, memory, v))
}
