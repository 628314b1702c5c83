package abuse

import "github.com/miekg/pkcs11"

// wrapping: Clulow (2003).
var wrapping = Chapter{"Keys that wrap", []Attempt{
	{"a key that may wrap and decipher opens what it wraps", func(h *Hostile) error {
		return wrapThenDecipher(h, aesKey(pkcs11.CKA_WRAP, pkcs11.CKA_DECRYPT))
	}, Succeeds, Succeeds, "`CKA_DECRYPT` false"},
	{"a key with `CKA_DECRYPT` false deciphers what it wraps", func(h *Hostile) error { return wrapThenDecipher(h, aesKey(pkcs11.CKA_WRAP)) }, "C_DecryptInit: CKR_KEY_FUNCTION_NOT_PERMITTED", "C_DecryptInit: CKR_KEY_TYPE_INCONSISTENT", "`CKA_DECRYPT` false"},
	{"a key that may encipher and unwrap takes in a known key", func(h *Hostile) error {
		return encipherThenUnwrap(h, aesKey(pkcs11.CKA_ENCRYPT, pkcs11.CKA_UNWRAP))
	}, Succeeds, Succeeds, "`CKA_ENCRYPT` false"},
	{"a key wrapped under a key of one's own", func(h *Hostile) error {
		return wrapUnderOwn(h, aesKey(pkcs11.CKA_WRAP), aesKey(pkcs11.CKA_EXTRACTABLE))
	}, Succeeds, Succeeds, "`CKA_EXTRACTABLE` false"},
	{"a key with `CKA_EXTRACTABLE` false wrapped under a key of one's own", func(h *Hostile) error { return wrapUnderOwn(h, aesKey(pkcs11.CKA_WRAP), aesKey()) }, "C_WrapKey: CKR_KEY_UNEXTRACTABLE", Succeeds, "`CKA_EXTRACTABLE` false"},
	{"a private key with `CKA_EXTRACTABLE` false wrapped under a key of one's own", wrapPrivate, "C_WrapKey: CKR_KEY_UNEXTRACTABLE", Succeeds, "`CKA_EXTRACTABLE` false"},
	{"a key wrapped under an RSA key of one's own", wrapUnderOwnRSA, Succeeds, Succeeds, "`CKA_EXTRACTABLE` false"},
	{"a key wrapped under a TDES key whose halves are equal", wrapUnderWeaker, "C_WrapKey: CKR_MECHANISM_INVALID", Succeeds, "`CKA_EXTRACTABLE` false"},
	{"the halves of a wrapped TDES key made keys", halvesApart, "C_WrapKey: CKR_MECHANISM_INVALID", Succeeds, "key wrap in place of ECB and CBC"},
	{"random bytes unwrapped as a key, in ECB", conjured(pkcs11.CKM_AES_ECB, 16), Missing, Succeeds, "key wrap in place of ECB and CBC"},
	{"random bytes unwrapped as a key, with key wrap", conjured(pkcs11.CKM_AES_KEY_WRAP, 24), "C_UnwrapKey: CKR_GENERAL_ERROR", "C_UnwrapKey: CKR_WRAPPED_KEY_INVALID", "its integrity check"},
	{"a wrapped key unwrapped again with another right", func(h *Hostile) error {
		return unwrapAgain(h, aesKey(pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP), aesKey(pkcs11.CKA_ENCRYPT), h.enciphersLike)
	}, Succeeds, Succeeds, "nothing: the module alone"},
	{"a wrapped key unwrapped again to be read", func(h *Hostile) error {
		return unwrapAgain(h, aesKey(pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP), readable(), h.reads)
	}, Succeeds, Succeeds, "`CKA_UNWRAP_TEMPLATE`"},
}}

var attributes = Chapter{"Attributes", []Attempt{
	{"`CKA_SENSITIVE`: a sensitive key read", func(h *Hostile) error { return readVictim(h, aesKey(pkcs11.CKA_EXTRACTABLE)) }, "C_GetAttributeValue: CKR_ATTRIBUTE_SENSITIVE", "C_GetAttributeValue: CKR_ATTRIBUTE_SENSITIVE", "it does"},
	{"`CKA_SENSITIVE` taken away", func(h *Hostile) error { return laidOpen(h, false) }, "C_SetAttributeValue: CKR_ATTRIBUTE_READ_ONLY", "C_SetAttributeValue: CKR_ATTRIBUTE_READ_ONLY", "it does"},
	{"`CKA_SENSITIVE` taken away in a copy", func(h *Hostile) error { return laidOpen(h, true) }, "C_CopyObject: CKR_ATTRIBUTE_READ_ONLY", "C_CopyObject: CKR_ATTRIBUTE_READ_ONLY", "it does"},
	{"`CKA_SENSITIVE` left out, and the key read", sensitiveUnnamed, "C_GetAttributeValue: CKR_ATTRIBUTE_SENSITIVE", Succeeds, "the template must name it"},
	{"`CKA_EXTRACTABLE` given to a key without it", func(h *Hostile) error { return madeExtractable(h, false) }, "C_SetAttributeValue: CKR_ATTRIBUTE_READ_ONLY", "C_SetAttributeValue: CKR_ATTRIBUTE_READ_ONLY", "it does"},
	{"`CKA_EXTRACTABLE` given in a copy", func(h *Hostile) error { return madeExtractable(h, true) }, "C_CopyObject: CKR_ATTRIBUTE_READ_ONLY", Succeeds, "it does, on SoftHSM"},
	{"`CKA_MODIFIABLE` true: a right added", func(h *Hostile) error { return rightAdded(h, aesKey(pkcs11.CKA_WRAP)) }, Succeeds, Succeeds, "`CKA_MODIFIABLE` false"},
	{"`CKA_MODIFIABLE` false: a right added", func(h *Hostile) error {
		return rightAdded(h, aesKey(pkcs11.CKA_WRAP).with(no(pkcs11.CKA_MODIFIABLE)))
	}, "C_SetAttributeValue: CKR_ACTION_PROHIBITED", "C_SetAttributeValue: CKR_ATTRIBUTE_READ_ONLY", "it does"},
	{"`CKA_MODIFIABLE` false: the label changed", notModifiable, "C_SetAttributeValue: CKR_ACTION_PROHIBITED", "C_SetAttributeValue: CKR_ATTRIBUTE_READ_ONLY", "it does"},
	{"`CKA_MODIFIABLE` true: a right added in a copy", func(h *Hostile) error { return rightCopied(h, aesKey(pkcs11.CKA_WRAP)) }, Succeeds, Succeeds, "`CKA_MODIFIABLE` false"},
	{"`CKA_MODIFIABLE` false: a right added in a copy", func(h *Hostile) error {
		return rightCopied(h, aesKey(pkcs11.CKA_WRAP).with(no(pkcs11.CKA_MODIFIABLE)))
	}, "C_CopyObject: CKR_ATTRIBUTE_READ_ONLY", Succeeds, "it does, on SoftHSM"},
	{"`CKA_COPYABLE` false: copied", notCopyable, "C_CopyObject: CKR_ACTION_PROHIBITED", Succeeds, "it does, on SoftHSM"},
	{"`CKA_COPYABLE` false: a right added in a copy", func(h *Hostile) error {
		return rightCopied(h, aesKey(pkcs11.CKA_WRAP).with(no(pkcs11.CKA_COPYABLE)))
	}, "C_CopyObject: CKR_ACTION_PROHIBITED", Succeeds, "it does, on SoftHSM"},
	{"`CKA_DESTROYABLE` false: destroyed", notDestroyable, "C_DestroyObject: CKR_ACTION_PROHIBITED", Succeeds, "it does, on SoftHSM"},
	{"`CKA_ALLOWED_MECHANISMS` key wrap: deciphers what it wraps", func(h *Hostile) error {
		return wrapThenDecipher(h, aesKey(pkcs11.CKA_WRAP, pkcs11.CKA_DECRYPT).with(only(pkcs11.CKM_AES_KEY_WRAP)))
	}, "C_DecryptInit: CKR_MECHANISM_INVALID", Succeeds, "it does, on SoftHSM"},
	{"`CKA_ALLOWED_MECHANISMS` key wrap: enciphers", func(h *Hostile) error {
		return encipherThenUnwrap(h, aesKey(pkcs11.CKA_ENCRYPT, pkcs11.CKA_UNWRAP).with(only(pkcs11.CKM_AES_KEY_WRAP)))
	}, "C_EncryptInit: CKR_MECHANISM_INVALID", Succeeds, "it does, on SoftHSM"},
	{"`CKA_ALLOWED_MECHANISMS` `CKM_AES_CMAC`: derives what can be read", derivedRead(derivations[0],
		aesKey(pkcs11.CKA_DERIVE).with(only(pkcs11.CKM_AES_CMAC))), "C_DeriveKey: CKR_MECHANISM_INVALID", Succeeds, "it does, on SoftHSM"},
	{"`CKA_WRAP_WITH_TRUSTED`: wrapped under a key of one's own", func(h *Hostile) error {
		return wrapUnderOwn(h, aesKey(pkcs11.CKA_WRAP), aesKey(pkcs11.CKA_EXTRACTABLE).with(yes(pkcs11.CKA_WRAP_WITH_TRUSTED)))
	}, "C_WrapKey: CKR_KEY_NOT_WRAPPABLE", Succeeds, "it does, on SoftHSM"},
	{"`CKA_TRUSTED`: claimed by a user for that key", trustedClaimed, "C_CreateObject: CKR_ATTRIBUTE_READ_ONLY", Succeeds, "only the security officer may set it, on SoftHSM"},
	{"`CKA_WRAP_TEMPLATE`: wraps what it excludes", wrapAgainstWrapTemplate, "C_WrapKey: CKR_KEY_NOT_WRAPPABLE", Succeeds, "it does, on SoftHSM"},
	{"`CKA_UNWRAP_TEMPLATE` sensitive: unwrapped to be read", readAgainstUnwrapTemplate, "C_UnwrapKey: CKR_TEMPLATE_INCONSISTENT", Succeeds, "it does, on SoftHSM"},
	{"`CKA_UNWRAP_TEMPLATE` without a right: unwrapped with it", rightAgainstUnwrapTemplate, "C_UnwrapKey: CKR_TEMPLATE_INCONSISTENT", Succeeds, "it does, on SoftHSM"},
	{"`CKA_UNWRAP_TEMPLATE` silent about a right: unwrapped with it", rightBesideUnwrapTemplate, Succeeds, Succeeds, "the template must name it"},
	{"`CKA_DERIVE_TEMPLATE` sensitive: derived to be read", readAgainstDeriveTemplate, "C_CreateObject: CKR_ATTRIBUTE_TYPE_INVALID", Succeeds, "nothing: SoftHSM does not know it, NSS ignores it"},
	{"`CKA_ALWAYS_SENSITIVE` claimed for a known key", func(h *Hostile) error { return claimed(h, pkcs11.CKA_ALWAYS_SENSITIVE) }, "C_CreateObject: CKR_ATTRIBUTE_READ_ONLY", "the token says no", "the token sets it itself"},
	{"`CKA_ALWAYS_SENSITIVE` of an imported key", func(h *Hostile) error { return imported(h, pkcs11.CKA_ALWAYS_SENSITIVE) }, "the token says no", "the token says no", "the token sets it itself"},
	{"`CKA_NEVER_EXTRACTABLE` claimed for a known key", func(h *Hostile) error { return claimed(h, pkcs11.CKA_NEVER_EXTRACTABLE) }, "C_CreateObject: CKR_ATTRIBUTE_READ_ONLY", "the token says no", "the token sets it itself"},
	{"`CKA_NEVER_EXTRACTABLE` of an imported key", func(h *Hostile) error { return imported(h, pkcs11.CKA_NEVER_EXTRACTABLE) }, "the token says no", "the token says no", "the token sets it itself"},
	{"`CKA_LOCAL` claimed for a known key", func(h *Hostile) error { return claimed(h, pkcs11.CKA_LOCAL) }, "C_CreateObject: CKR_ATTRIBUTE_READ_ONLY", Succeeds, "the token sets it itself, SoftHSM always"},
	{"`CKA_LOCAL` of an imported key", func(h *Hostile) error { return imported(h, pkcs11.CKA_LOCAL) }, "the token says no", "the token says no", "the token sets it itself"},
}}

var rightsOfKeys = Chapter{"Rights of keys", []Attempt{
	{"`CKA_ENCRYPT` false: enciphers", func(h *Hostile) error { return useWithout(h, pkcs11.CKA_ENCRYPT) }, "C_EncryptInit: CKR_KEY_FUNCTION_NOT_PERMITTED", "C_EncryptInit: CKR_KEY_TYPE_INCONSISTENT", "it does"},
	{"`CKA_DECRYPT` false: deciphers", func(h *Hostile) error { return useWithout(h, pkcs11.CKA_DECRYPT) }, "C_DecryptInit: CKR_KEY_FUNCTION_NOT_PERMITTED", "C_DecryptInit: CKR_KEY_TYPE_INCONSISTENT", "it does"},
	{"`CKA_SIGN` false: makes a MAC", func(h *Hostile) error { return useWithout(h, pkcs11.CKA_SIGN) }, "C_SignInit: CKR_KEY_FUNCTION_NOT_PERMITTED", "C_SignInit: CKR_KEY_TYPE_INCONSISTENT", "it does"},
	{"`CKA_VERIFY` false: verifies a MAC", func(h *Hostile) error { return useWithout(h, pkcs11.CKA_VERIFY) }, "C_VerifyInit: CKR_KEY_FUNCTION_NOT_PERMITTED", "C_VerifyInit: CKR_KEY_TYPE_INCONSISTENT", "it does"},
	{"`CKA_WRAP` false: wraps", func(h *Hostile) error { return useWithout(h, pkcs11.CKA_WRAP) }, "C_WrapKey: CKR_KEY_FUNCTION_NOT_PERMITTED", "C_WrapKey: CKR_KEY_TYPE_INCONSISTENT", "it does"},
	{"`CKA_UNWRAP` false: unwraps", func(h *Hostile) error { return useWithout(h, pkcs11.CKA_UNWRAP) }, "C_UnwrapKey: CKR_KEY_FUNCTION_NOT_PERMITTED", "C_UnwrapKey: CKR_KEY_TYPE_INCONSISTENT", "it does"},
	{"`CKA_DERIVE` false: derives", func(h *Hostile) error { return useWithout(h, pkcs11.CKA_DERIVE) }, "C_DeriveKey: CKR_KEY_FUNCTION_NOT_PERMITTED", Succeeds, "it does, on SoftHSM"},
	{"`CKA_EXTRACTABLE` left out: the key has it", func(h *Hostile) error { return rightUnnamed(h, pkcs11.CKA_EXTRACTABLE) }, "the token says no", Succeeds, "the template must name it"},
	{"`CKA_ENCRYPT` left out: the key has it", func(h *Hostile) error { return rightUnnamed(h, pkcs11.CKA_ENCRYPT) }, Succeeds, Succeeds, "the template must name it"},
	{"`CKA_DECRYPT` left out: the key has it", func(h *Hostile) error { return rightUnnamed(h, pkcs11.CKA_DECRYPT) }, Succeeds, Succeeds, "the template must name it"},
	{"`CKA_SIGN` left out: the key has it", func(h *Hostile) error { return rightUnnamed(h, pkcs11.CKA_SIGN) }, Succeeds, "the token says no", "the template must name it"},
	{"`CKA_VERIFY` left out: the key has it", func(h *Hostile) error { return rightUnnamed(h, pkcs11.CKA_VERIFY) }, Succeeds, "the token says no", "the template must name it"},
	{"`CKA_WRAP` left out: the key has it", func(h *Hostile) error { return rightUnnamed(h, pkcs11.CKA_WRAP) }, Succeeds, Succeeds, "the template must name it"},
	{"`CKA_UNWRAP` left out: the key has it", func(h *Hostile) error { return rightUnnamed(h, pkcs11.CKA_UNWRAP) }, Succeeds, Succeeds, "the template must name it"},
	{"`CKA_DERIVE` left out: the key has it", func(h *Hostile) error { return rightUnnamed(h, pkcs11.CKA_DERIVE) }, "the token says no", "C_GetAttributeValue: CKR_ATTRIBUTE_TYPE_INVALID", "the template must name it"},
}}

var derivationsAndSearch = Chapter{"Derivation and search", append([]Attempt{
	{"a key that differs by a chosen value", func(h *Hostile) error { return relatedKey(h, aesKey(pkcs11.CKA_DERIVE)) }, Missing, Succeeds, "`CKA_DERIVE` false, on a token that heeds it"},
	{"a key with `CKA_DERIVE` false that differs by a chosen value", func(h *Hostile) error { return relatedKey(h, aesKey()) }, Missing, Succeeds, "`CKA_DERIVE` false, on a token that heeds it"},
	{"an AES-256 key found byte by byte", func(h *Hostile) error { return byteByByte(h, aesKey(pkcs11.CKA_DERIVE)) }, Missing, Succeeds, "`CKA_DERIVE` false, on a token that heeds it"},
	{"an AES-256 key with `CKA_DERIVE` false found byte by byte", func(h *Hostile) error { return byteByByte(h, aesKey()) }, Missing, Succeeds, "`CKA_DERIVE` false, on a token that heeds it"},
	{"a key hashed", func(h *Hostile) error { return keyDigested(h, aesKey()) }, Succeeds, Succeeds, "nothing; of a random key the hash tells nothing"},
}, derivedFrom()...)}

// derivedFrom are the attempts to make of a sensitive key what can be read, or of one that is
// not extractable what can be wrapped.
func derivedFrom() (all []Attempt) {
	for i, d := range derivations {
		base, softHSM, nss := secret, Missing, "C_DeriveKey: CKR_KEY_FUNCTION_NOT_PERMITTED"
		closes := "NSS gives no result less protection than its base has"
		if i == 0 { // the value is another than the base's, and tokens let it have other attributes
			base, softHSM, nss = aesKey, Succeeds, Succeeds
			closes = "`CKA_DERIVE` false, on a token that heeds it"
		}
		all = append(all,
			Attempt{"`CKM_" + d.name + "` of an extractable key, read", derivedRead(d, base(pkcs11.CKA_DERIVE, pkcs11.CKA_EXTRACTABLE)), softHSM, nss, closes},
			Attempt{"`CKM_" + d.name + "` of a key that is not, read", derivedRead(d, base(pkcs11.CKA_DERIVE)), softHSM, nss, closes},
			Attempt{"`CKM_" + d.name + "` of a key that is not, wrapped", derivedWrapped(d, base(pkcs11.CKA_DERIVE)), softHSM, nss, closes})
	}
	return all
}

var pinsAsObjects = Chapter{"PINs as objects", []Attempt{
	{"a PIN block deciphered under a key that may decipher", func(h *Hostile) error { return pinDeciphered(h, pkcs11.CKA_DECRYPT) }, Succeeds, Succeeds, "`CKA_DECRYPT` false"},
	{"a PIN block deciphered under a key that may only unwrap", func(h *Hostile) error { return pinDeciphered(h, pkcs11.CKA_UNWRAP) }, "C_DecryptInit: CKR_KEY_FUNCTION_NOT_PERMITTED", "C_DecryptInit: CKR_KEY_TYPE_INCONSISTENT", "`CKA_DECRYPT` false"},
	{"a PIN block unwrapped to be read", pinRead, Missing, Succeeds, "nothing: the module also unwraps the key, and leaves out its `CKA_UNWRAP_TEMPLATE`"},
	{"a PIN object wrapped under a key of one's own", func(h *Hostile) error { return pinUnderOwn(h, composed()) }, Missing, Succeeds, "nothing: it must be extractable to be enciphered again"},
	{"a PIN object with `CKA_EXTRACTABLE` false wrapped under a key of one's own", func(h *Hostile) error { return pinUnderOwn(h, secret(pkcs11.CKA_DERIVE)) }, Missing, Succeeds, "`CKA_EXTRACTABLE` false, on a token that heeds it"},
	{"a PIN object wrapped under a zone key that may wrap and decipher, and deciphered", func(h *Hostile) error {
		return pinWrapThenDecipher(h, pkcs11.CKA_WRAP, pkcs11.CKA_DECRYPT)
	}, Missing, Succeeds, "`CKA_DECRYPT` false"},
	{"a PIN object wrapped under a zone key that may only wrap, and deciphered", func(h *Hostile) error {
		return pinWrapThenDecipher(h, pkcs11.CKA_WRAP)
	}, Missing, "C_DecryptInit: CKR_KEY_TYPE_INCONSISTENT", "`CKA_DECRYPT` false"},
	{"a PIN object found byte by byte", func(h *Hostile) error { return pinByteByByte(h, composed()) }, Missing, Succeeds, "nothing on NSS; `CKA_DERIVE` must be true for keyd's own steps"},
	{"a PIN object with `CKA_DERIVE` false found byte by byte", func(h *Hostile) error { return pinByteByByte(h, secret(pkcs11.CKA_EXTRACTABLE)) }, Missing, Succeeds, "`CKA_DERIVE` false, on a token that heeds it"},
	{"a PIN object without any right hashed, and 10,000 PINs tried", func(h *Hostile) error { return pinDigested(h, secret()) }, Missing, Succeeds, "nothing"},
	{"10,000 PINs wrapped under the key of the block", pinCodebook, Missing, Succeeds, "nothing: it is what the key is for"},
	{"10,000 PINs enciphered under the key of the block", func(h *Hostile) error { return pinEnciphered(h, pkcs11.CKA_ENCRYPT) }, Succeeds, Succeeds, "`CKA_ENCRYPT` false"},
	{"10,000 PINs enciphered under a key that may only wrap and unwrap", func(h *Hostile) error { return pinEnciphered(h, pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP) }, "C_EncryptInit: CKR_KEY_FUNCTION_NOT_PERMITTED", "C_EncryptInit: CKR_KEY_TYPE_INCONSISTENT", "`CKA_ENCRYPT` false"},
	{"two PIN objects compared", pinsCompared, Missing, Succeeds, "nothing"},
}}

var sessions = Chapter{"Sessions and login", []Attempt{
	{"a session object used in another session", fromAnotherSession, Succeeds, Succeeds, "nothing: objects are the process's"},
	{"a session object used after its session", afterItsSession, "C_EncryptInit: CKR_OBJECT_HANDLE_INVALID", "C_EncryptInit: CKR_KEY_HANDLE_INVALID", "closing the session"},
	{"a private session object used after `C_Logout`", func(h *Hostile) error { return afterLogout(h, false) }, "C_EncryptInit: CKR_OBJECT_HANDLE_INVALID", Succeeds, "logging out, on SoftHSM; ending the process"},
	{"a private token object used after `C_Logout`", func(h *Hostile) error { return afterLogout(h, true) }, "C_EncryptInit: CKR_OBJECT_HANDLE_INVALID", "C_EncryptInit: CKR_KEY_HANDLE_INVALID", "logging out"},
	{"an operation begun before `C_Logout` ended", operationAfterLogout, Succeeds, Succeeds, "ending the process"},
	{"a private token object found after `C_Logout`", foundAfterLogout, "not found", "not found", "logging out"},
}}
