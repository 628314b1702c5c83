package keyblocks

import (
	"errors"

	"github.com/miekg/pkcs11"

	"keyd/hsm/module/internal/token"
	"keyd/keyblock"
)

// KBPK is a key block protection key in the token.
type KBPK struct {
	Algorithm string // T or A
	Length    int    // in bytes: 16 or 24 (T), 16, 24 or 32 (A)

	// Key may sign (CKM_DES3_CMAC, CKM_AES_CMAC). Versions B and D derive from it.
	Key token.Object

	// The variants are the key XORed with 45.. and 4D.. (X9.143-2021 clause 7, variant binding). Both
	// may encrypt, the first may also decrypt. Versions A and C use them; 0 where there are none.
	EncryptionVariant token.Object
	MACVariant        token.Object
}

// Bytes with which a KBPK is XORed to give its variants.
const (
	EncryptionVariantMask = 0x45 // 'E'
	MACVariantMask        = 0x4D // 'M'
)

// Check returns nil if the key may protect blocks of that version, and [ErrKBPKAlgorithm],
// [ErrKBPKSingleDES], [ErrKBPKLength] or [ErrKBPKAbsent] if not.
func (k *KBPK) Check(version byte) error {
	wanted := "T"
	if version == 'D' {
		wanted = "A"
	}
	switch {
	case k.Algorithm != wanted || keyblock.CipherBlock(version) == 0:
		return ErrKBPKAlgorithm
	case wanted == "T" && k.Length == 8:
		return ErrKBPKSingleDES
	case k.Length != 16 && k.Length != 24 && (wanted != "A" || k.Length != 32):
		return ErrKBPKLength
	}
	absent := k.Key == 0
	if derives := version == 'B' || version == 'D'; !derives {
		absent = k.EncryptionVariant == 0 || k.MACVariant == 0
	}
	if absent {
		return ErrKBPKAbsent
	}
	return nil
}

// suite is what the token calls of a version need.
type suite struct {
	block   int // the cipher's, in bytes
	cbc     uint
	cmac    uint
	keyType uint // of a derived key
}

func (k *KBPK) suite() suite {
	switch {
	case k.Algorithm == "A":
		return suite{16, pkcs11.CKM_AES_CBC, pkcs11.CKM_AES_CMAC, pkcs11.CKK_AES}
	case k.Length == 16:
		return suite{8, pkcs11.CKM_DES3_CBC, pkcs11.CKM_DES3_CMAC, pkcs11.CKK_DES2}
	}
	return suite{8, pkcs11.CKM_DES3_CBC, pkcs11.CKM_DES3_CMAC, pkcs11.CKK_DES3}
}

// Usage indicators of the derivation data.
const (
	forEncryption = 0 // the key block encryption key, KBEK
	forMAC        = 1 // the key block authentication key, KBAK
)

// derivationData is what is signed to derive one cipher block of a key (X9.143-2021
// 7.2.1.1 and 7.2.2.1, tables 24 and 25).
func (k *KBPK) derivationData(counter, usage byte) [8]byte {
	var algorithm byte
	switch {
	case k.Algorithm == "A":
		algorithm = byte(k.Length / 8) // 2, 3 or 4
	case k.Length == 24:
		algorithm = 1
	}
	bits := k.Length * 8
	return [8]byte{counter, 0, usage, 0, 0, algorithm, byte(bits >> 8), byte(bits)}
}

// derive makes a key of the KBPK's own kind and length. buffer is locked memory with room for
// whole cipher blocks of it; it is wiped.
func (k *KBPK) derive(s *token.Session, buffer []byte, usage byte, rights token.Rights) (token.Object, error) {
	defer clear(buffer)
	u := k.suite()
	for at, counter := 0, byte(1); at < k.Length; at, counter = at+u.block, counter+1 {
		data := k.derivationData(counter, usage)
		if err := sign(s, u, k.Key, buffer[at:at+u.block], data[:]); err != nil {
			return 0, err
		}
	}
	return s.Import(u.keyType, rights, buffer[:k.Length])
}

// sign makes a whole CMAC, of one cipher block.
func sign(s *token.Session, u suite, key token.Object, out, message []byte) error {
	n, err := s.Sign(u.cmac, key, out, message)
	if err == nil && n != u.block {
		err = &token.Error{Call: "C_Sign", Code: pkcs11.CKR_GENERAL_ERROR}
	}
	return err
}

// withDerived runs f with both keys derived from the KBPK, and destroys them. right is what the
// encryption key may do.
func (k *KBPK) withDerived(s *token.Session, buffer []byte, right token.Rights, f func(kbek, kbak token.Object) error) (err error) {
	kbek, err := k.derive(s, buffer, forEncryption, right)
	if err != nil {
		return err
	}
	defer func() { err = withDestroyed(err, s.Destroy(kbek)) }()
	kbak, err := k.derive(s, buffer, forMAC, token.MaySign)
	if err != nil {
		return err
	}
	defer func() { err = withDestroyed(err, s.Destroy(kbak)) }()
	return f(kbek, kbak)
}

// withDestroyed keeps err as it is where the object went as it should.
func withDestroyed(err, gone error) error {
	if gone == nil {
		return err
	}
	return errors.Join(err, gone)
}
