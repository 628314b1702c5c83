package abuse

import (
	"errors"

	"github.com/miekg/pkcs11"
)

var wrappingKeyOfKeyd = Chapter{"The wrapping key of keyd", []Attempt{
	{"kept with `CKA_ALLOWED_MECHANISMS`", keptLimited, kept, "C_CreateObject: CKR_GENERAL_ERROR", "this is no abuse: the other rows are of a key without it where it is refused"},
	{"the key itself read", func(h *Hostile) error { return ofMaster(h, func(k key) error { return readVictim(h, k) }) }, "C_GetAttributeValue: CKR_ATTRIBUTE_SENSITIVE", "C_GetAttributeValue: CKR_ATTRIBUTE_SENSITIVE", "`CKA_SENSITIVE` true"},
	{"the key itself wrapped under a key of one's own", func(h *Hostile) error {
		return ofMaster(h, func(k key) error { return wrapUnderOwn(h, aesKey(pkcs11.CKA_WRAP), k) })
	}, "C_WrapKey: CKR_KEY_UNEXTRACTABLE", Succeeds, "`CKA_EXTRACTABLE` false"},
	{"what it wraps deciphered with it", func(h *Hostile) error { return ofMaster(h, func(k key) error { return wrapThenDecipher(h, k) }) }, "C_DecryptInit: CKR_KEY_FUNCTION_NOT_PERMITTED", "C_DecryptInit: CKR_KEY_TYPE_INCONSISTENT", "`CKA_DECRYPT` false"},
	{"blocks enciphered with it, to be read", func(h *Hostile) error {
		return ofMaster(h, func(k key) error { return derivedRead(derivations[0], k)(h) })
	}, "C_DeriveKey: CKR_KEY_FUNCTION_NOT_PERMITTED", Succeeds, "`CKA_DERIVE` false"},
	{"the key itself found byte by byte", func(h *Hostile) error { return ofMaster(h, func(k key) error { return byteByByte(h, k) }) }, Missing, Succeeds, "`CKA_DERIVE` false, or no such mechanism"},
	{"the key itself hashed", func(h *Hostile) error { return ofMaster(h, func(k key) error { return keyDigested(h, k) }) }, Succeeds, Succeeds, "nothing; of 32 random bytes the hash tells nothing"},
	{"a right added to it", func(h *Hostile) error {
		return ofMaster(h, func(k key) error { return rightAdded(h, k) })
	}, "C_SetAttributeValue: CKR_ACTION_PROHIBITED", "C_SetAttributeValue: CKR_ATTRIBUTE_READ_ONLY", "`CKA_MODIFIABLE` false"},
	{"a right added in a copy of it", func(h *Hostile) error {
		return ofMaster(h, func(k key) error { return rightCopied(h, k) })
	}, "C_CopyObject: CKR_ATTRIBUTE_READ_ONLY", Succeeds, "`CKA_MODIFIABLE` false"},
	{"what it wraps unwrapped to be read", func(h *Hostile) error {
		return ofMaster(h, func(k key) error { return unwrapAgain(h, k, readable(), h.reads) })
	}, "C_UnwrapKey: CKR_TEMPLATE_INCONSISTENT", Succeeds, "`CKA_UNWRAP_TEMPLATE`"},
	{"what it wraps unwrapped with rights that the header does not give", func(h *Hostile) error {
		return ofMaster(h, func(k key) error {
			return unwrapAgain(h, k, aesKey(pkcs11.CKA_ENCRYPT, pkcs11.CKA_DECRYPT, pkcs11.CKA_DERIVE), h.enciphersLike)
		})
	}, Succeeds, Succeeds, "nothing: the module alone"},
}}

// ofMaster makes an attempt on a token key that has every attribute of keyd's wrapping key for
// keys with token custody, and whose value is known here, to compare with. Where the token
// keeps no key with CKA_ALLOWED_MECHANISMS it has none.
func ofMaster(h *Hostile, attempt func(key) error) error {
	template, free := tokenCustody()
	defer free()
	k := aesKey(pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP).with(keeps()...).with(no(pkcs11.CKA_MODIFIABLE), template)
	limited := k.with(only(pkcs11.CKM_AES_KEY_WRAP))
	if errors.Is(keptLimited(h), instead(kept)) {
		k = limited
	}
	return attempt(k)
}

const kept = "kept"

// keptLimited asks whether the token keeps a key that is limited to a mechanism.
func keptLimited(h *Hostile) error {
	if _, err := h.create(aesKey(pkcs11.CKA_WRAP).with(keeps()...).with(only(pkcs11.CKM_AES_KEY_WRAP)), random(32)); err != nil {
		return err
	}
	return instead(kept)
}

// tokenCustody is the unwrap template of that key.
func tokenCustody() (*pkcs11.Attribute, func()) {
	return list(pkcs11.CKA_UNWRAP_TEMPLATE, boolean(pkcs11.CKA_SENSITIVE, true), boolean(pkcs11.CKA_EXTRACTABLE, false))
}
