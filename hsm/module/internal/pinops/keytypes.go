package pinops

import (
	"github.com/miekg/pkcs11"

	"keyd/dukpt"
	"keyd/hsm"
)

// workingType returns the key type of an AES DUKPT working key; AES-128 when the
// request leaves it open.
func workingType(t hsm.WorkingType) dukpt.KeyType {
	switch t {
	case hsm.WorkingTDES2:
		return dukpt.TDES2Key
	case hsm.WorkingTDES3:
		return dukpt.TDES3Key
	case hsm.WorkingAES192:
		return dukpt.AES192
	case hsm.WorkingAES256:
		return dukpt.AES256
	}
	return dukpt.AES128
}

// bdkType returns the key type of an AES BDK; the zero type for any other key.
func bdkType(h *hsm.Header) dukpt.KeyType {
	if h.Algorithm != "A" {
		return 0
	}
	t, err := dukpt.AESKeyType(int(h.Length))
	if err != nil {
		return 0
	}
	return t
}

// pkcs11Type returns the PKCS#11 key type and, for AES, the length in bytes that a
// derivation must ask for.
func pkcs11Type(t dukpt.KeyType) (keyType uint, length int) {
	switch t {
	case dukpt.TDES2Key:
		return pkcs11.CKK_DES2, 0
	case dukpt.TDES3Key:
		return pkcs11.CKK_DES3, 0
	}
	return pkcs11.CKK_AES, t.Size()
}
