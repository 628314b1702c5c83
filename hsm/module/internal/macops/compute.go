package macops

import (
	"crypto/subtle"
	"errors"

	"github.com/miekg/pkcs11"

	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/erase"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/working"
)

// compute makes the whole MAC.
func (m *operation) compute(message []byte) error {
	switch {
	case m.inMemory():
		return m.inModule(message)
	case m.isBDK:
		return m.derived(message)
	}
	return m.inToken(m.key.Object, m.key.Twin, message)
}

// derived makes it with a working key of AES DUKPT in the token.
func (m *operation) derived(message []byte) (err error) {
	kind, rights := working.Type(m.request.WorkingType), token.MaySign
	switch m.request.Algorithm {
	case hsm.HMACSHA256:
		kind = map[dukpt.KeyType]dukpt.KeyType{dukpt.AES128: dukpt.HMAC128, dukpt.AES192: dukpt.HMAC192, dukpt.AES256: dukpt.HMAC256}[kind]
	case hsm.MACAlgorithm1:
		rights = token.MayEncrypt
	}
	object, err := m.keys.DeriveAES(m.session, &m.key, m.request.KSN, m.usage(), kind, rights)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.session.Destroy(object)) }()
	err = m.inToken(object, 0, message)
	var failed *token.Error
	if errors.As(err, &failed) && failed.Code == pkcs11.CKR_KEY_SIZE_RANGE {
		// SoftHSM 2.6.1 makes no HMAC with a key that is shorter than the hash.
		return fault.New(fault.KeyUsageMismatch, "this token makes no HMAC with a working key of that length: use key type AES_256")
	}
	return err
}

// inToken makes it with a key in the token; twin is that of an M3 key.
func (m *operation) inToken(key, twin token.Object, message []byte) error {
	switch m.request.Algorithm {
	case hsm.MACAlgorithm1:
		return m.cbcMAC(key, padded(message, m.request.Padding))
	case hsm.MACAlgorithm3:
		return m.retailMAC(key, twin, padded(message, m.request.Padding))
	}
	mechanism := uint(pkcs11.CKM_SHA256_HMAC)
	if m.request.Algorithm == hsm.CMAC {
		mechanism = pkcs11.CKM_DES3_CMAC
		if m.aes {
			mechanism = pkcs11.CKM_AES_CMAC
		}
	}
	n, err := m.session.Sign(mechanism, key, m.mac[:], message)
	if err == nil && n != m.size {
		err = &token.Error{Call: "C_Sign", Code: pkcs11.CKR_GENERAL_ERROR}
	}
	return err
}

// cbcMAC is ISO 9797-1 algorithm 1 over whole blocks: the last block of their encipherment
// in CBC mode.
func (m *operation) cbcMAC(key token.Object, blocks []byte) error {
	var zero [tdesBlock]byte
	out := make([]byte, len(blocks))
	if err := m.session.EncryptCBC(pkcs11.CKM_DES3_CBC, zero[:], key, out, blocks); err != nil {
		return err
	}
	copy(m.mac[:tdesBlock], out[len(out)-tdesBlock:])
	return nil
}

// retailMAC is ISO 9797-1 algorithm 3: algorithm 1 with single DES under the left half of
// the key, with which the twin enciphers, and TDES for the last block.
func (m *operation) retailMAC(key, twin token.Object, blocks []byte) error {
	last := blocks[len(blocks)-tdesBlock:]
	if before := blocks[:len(blocks)-tdesBlock]; len(before) > 0 {
		if err := m.cbcMAC(twin, before); err != nil {
			return err
		}
	}
	var chained [tdesBlock]byte
	subtle.XORBytes(chained[:], m.mac[:tdesBlock], last)
	return m.session.Encrypt(pkcs11.CKM_DES3_ECB, key, m.mac[:tdesBlock], chained[:])
}

// inModule makes it with a working key of TDES DUKPT in the session's locked memory.
func (m *operation) inModule(message []byte) error {
	variant, ok := m.usage().Variant()
	if !ok {
		return errors.New("a MAC usage without a variant")
	}
	k := &m.memory().tdes
	if err := m.keys.DeriveTDES(m.session, &m.key, m.request.KSN, variant, k); err != nil {
		return err
	}
	erase.Do(func() {
		mac := (*[tdesBlock]byte)(m.mac[:])
		switch m.request.Algorithm {
		case hsm.MACAlgorithm1:
			algorithm1(mac, &k.Key, padded(message, m.request.Padding))
		case hsm.MACAlgorithm3:
			algorithm3(mac, &k.Key, &k.Left, padded(message, m.request.Padding))
		case hsm.CMAC:
			cmac(mac, &k.Key, message)
		}
		k.Destroy()
	})
	return nil
}
