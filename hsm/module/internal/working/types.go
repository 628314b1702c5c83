package working

import (
	"github.com/miekg/pkcs11"

	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
)

// Type returns the key type of an AES DUKPT working key; AES-128 when the request leaves
// it open.
func Type(t hsm.WorkingType) dukpt.KeyType {
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

// Algorithm returns the algorithm of the working key ("T" or "A") that a BDK is asked for.
// A working key is no stronger than its BDK (X9.24-3 §6.2): else
// [fault.KeyUsageMismatch].
func Algorithm(h *hsm.Header, t hsm.WorkingType) (string, error) {
	if h.Algorithm == "T" {
		if t != hsm.WorkingDefault && t != hsm.WorkingTDES2 {
			return "", fault.New(fault.KeyUsageMismatch, "a TDES BDK has two-key TDES working keys only")
		}
		return "T", nil
	}
	if !Type(t).NoStrongerThan(bdkType(h)) {
		return "", fault.New(fault.KeyUsageMismatch, "the working key would be stronger than the BDK")
	}
	if Type(t).IsTDES() {
		return "T", nil
	}
	return "A", nil
}

// CheckKSN refuses a key serial number of the other scheme ([fault.KSNInvalid]).
func CheckKSN(h *hsm.Header, ksn dukpt.KSN) error {
	if h.Usage != "B0" || ksn == (dukpt.KSN{}) {
		return nil
	}
	if (ksn.Scheme() == dukpt.TDES) != (h.Algorithm == "T") {
		return fault.New(fault.KSNInvalid, "a TDES BDK takes 10 bytes, an AES BDK 12")
	}
	return nil
}

// CheckBDK decides whether a key is a BDK exactly when a request says so, and may derive
// ([fault.KeyUsageMismatch]). It reports whether it is one.
func CheckBDK(h *hsm.Header, ksn dukpt.KSN) (bool, error) {
	switch {
	case h.Usage == "B0" && ksn == (dukpt.KSN{}):
		return true, fault.New(fault.KeyUsageMismatch, "the key is a BDK: set dukpt")
	case h.Usage == "B0" && h.Mode != "X" && h.Mode != "N":
		return true, fault.New(fault.KeyUsageMismatch, "the BDK may not derive keys: mode of use "+h.Mode)
	case h.Usage != "B0" && ksn != (dukpt.KSN{}):
		return false, fault.New(fault.KeyUsageMismatch, "dukpt is set, but the key is no BDK")
	}
	return h.Usage == "B0", nil
}

// pkcs11Type returns the PKCS#11 key type and, for AES and HMAC, the length in bytes that
// a derivation must ask for.
func pkcs11Type(t dukpt.KeyType) (keyType uint, length int) {
	switch t {
	case dukpt.TDES2Key:
		return pkcs11.CKK_DES2, 0
	case dukpt.TDES3Key:
		return pkcs11.CKK_DES3, 0
	case dukpt.HMAC128, dukpt.HMAC192, dukpt.HMAC256:
		return pkcs11.CKK_GENERIC_SECRET, t.Size()
	}
	return pkcs11.CKK_AES, t.Size()
}
