package abuse

import "github.com/miekg/pkcs11"

var wrappingKeyOfKeyd = Chapter{"The wrapping key of keyd", []Attempt{
	{"the key itself read", func(h *Hostile) error { return ofMaster(h, func(k key) error { return readVictim(h, k) }) }, "", "", "`CKA_SENSITIVE` true"},
	{"the key itself wrapped under a key of one's own", func(h *Hostile) error {
		return ofMaster(h, func(k key) error { return wrapUnderOwn(h, aesKey(pkcs11.CKA_WRAP), k) })
	}, "", "", "`CKA_EXTRACTABLE` false"},
	{"what it wraps deciphered with it", func(h *Hostile) error { return ofMaster(h, func(k key) error { return wrapThenDecipher(h, k) }) }, "", "", "`CKA_DECRYPT` false"},
	{"blocks enciphered with it, to be read", func(h *Hostile) error {
		return ofMaster(h, func(k key) error { return derivedRead(derivations[0], k)(h) })
	}, "", "", "`CKA_DERIVE` false"},
	{"the key itself found byte by byte", func(h *Hostile) error { return ofMaster(h, func(k key) error { return byteByByte(h, k) }) }, "", "", "`CKA_DERIVE` false, or no such mechanism"},
	{"the key itself hashed", func(h *Hostile) error { return ofMaster(h, func(k key) error { return keyDigested(h, k) }) }, "", "", "nothing; of 32 random bytes the hash tells nothing"},
	{"a right added to it", func(h *Hostile) error {
		return ofMaster(h, func(k key) error { return rightAdded(h, k) })
	}, "", "", "`CKA_MODIFIABLE` false"},
	{"a right added in a copy of it", func(h *Hostile) error {
		return ofMaster(h, func(k key) error { return rightCopied(h, k) })
	}, "", "", "`CKA_MODIFIABLE` false"},
	{"what it wraps unwrapped to be read", func(h *Hostile) error {
		return ofMaster(h, func(k key) error { return unwrapAgain(h, k, readable(), h.reads) })
	}, "", "", "`CKA_UNWRAP_TEMPLATE`"},
	{"what it wraps unwrapped with rights that the header does not give", func(h *Hostile) error {
		return ofMaster(h, func(k key) error {
			return unwrapAgain(h, k, aesKey(pkcs11.CKA_ENCRYPT, pkcs11.CKA_DECRYPT, pkcs11.CKA_DERIVE), h.enciphersLike)
		})
	}, "", "", "nothing: the module alone"},
}}

// ofMaster makes an attempt on a key that has every attribute of keyd's wrapping key for keys
// with token custody, and whose value is known here, to compare with.
func ofMaster(h *Hostile, attempt func(key) error) error {
	template, free := tokenCustody()
	defer free()
	return attempt(aesKey(pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP).with(yes(pkcs11.CKA_TOKEN), no(pkcs11.CKA_MODIFIABLE), only(pkcs11.CKM_AES_KEY_WRAP), template))
}

// tokenCustody is the unwrap template of that key.
func tokenCustody() (*pkcs11.Attribute, func()) {
	return list(pkcs11.CKA_UNWRAP_TEMPLATE, boolean(pkcs11.CKA_SENSITIVE, true), boolean(pkcs11.CKA_EXTRACTABLE, false))
}
