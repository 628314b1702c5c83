package abuse

import "github.com/miekg/pkcs11"

// wrapping: Clulow (2003).
var wrapping = Chapter{"Keys that wrap", []Attempt{
	{"a key that may wrap and decipher opens what it wraps", func(h *Hostile) error {
		return wrapThenDecipher(h, aesKey(pkcs11.CKA_WRAP, pkcs11.CKA_DECRYPT))
	}, "", "", "`CKA_DECRYPT` false"},
	{"the same with `CKA_DECRYPT` false", func(h *Hostile) error { return wrapThenDecipher(h, aesKey(pkcs11.CKA_WRAP)) }, "", "", "`CKA_DECRYPT` false"},
	{"a key that may encipher and unwrap takes in a known key", func(h *Hostile) error {
		return encipherThenUnwrap(h, aesKey(pkcs11.CKA_ENCRYPT, pkcs11.CKA_UNWRAP))
	}, "", "", "`CKA_ENCRYPT` false"},
	{"a key wrapped under a key of one's own", func(h *Hostile) error {
		return wrapUnderOwn(h, aesKey(pkcs11.CKA_WRAP), aesKey(pkcs11.CKA_EXTRACTABLE))
	}, "", "", "`CKA_EXTRACTABLE` false"},
	{"the same with `CKA_EXTRACTABLE` false", func(h *Hostile) error { return wrapUnderOwn(h, aesKey(pkcs11.CKA_WRAP), aesKey()) }, "", "", "`CKA_EXTRACTABLE` false"},
	{"a key wrapped under an RSA key of one's own", wrapUnderOwnRSA, "", "", "`CKA_EXTRACTABLE` false"},
	{"a key wrapped under a TDES key whose halves are equal", wrapUnderWeaker, "", "", "`CKA_EXTRACTABLE` false"},
	{"the halves of a wrapped TDES key made keys", halvesApart, "", "", "key wrap in place of ECB and CBC"},
	{"a wrapped key unwrapped again with another right", func(h *Hostile) error {
		return unwrapAgain(h, aesKey(pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP), aesKey(pkcs11.CKA_ENCRYPT), h.enciphersLike)
	}, "", "", "nothing: the module alone"},
	{"a wrapped key unwrapped again to be read", func(h *Hostile) error {
		return unwrapAgain(h, aesKey(pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP), readable(), h.reads)
	}, "", "", "`CKA_UNWRAP_TEMPLATE`"},
}}

var attributes = Chapter{"Attributes", []Attempt{
	{"`CKA_SENSITIVE`: a sensitive key read", func(h *Hostile) error { return readVictim(h, aesKey(pkcs11.CKA_EXTRACTABLE)) }, "", "", "it does"},
	{"`CKA_SENSITIVE` taken away", func(h *Hostile) error { return laidOpen(h, false) }, "", "", "it does"},
	{"`CKA_SENSITIVE` taken away in a copy", func(h *Hostile) error { return laidOpen(h, true) }, "", "", "it does"},
	{"`CKA_SENSITIVE` left out, and the key read", sensitiveUnnamed, "", "", "the template must name it"},
	{"`CKA_EXTRACTABLE` given to a key without it", func(h *Hostile) error { return madeExtractable(h, false) }, "", "", "it does"},
	{"`CKA_EXTRACTABLE` given in a copy", func(h *Hostile) error { return madeExtractable(h, true) }, "", "", ""},
	{"`CKA_MODIFIABLE` true: a right added", func(h *Hostile) error { return rightAdded(h, aesKey(pkcs11.CKA_WRAP)) }, "", "", "`CKA_MODIFIABLE` false"},
	{"`CKA_MODIFIABLE` false: a right added", func(h *Hostile) error {
		return rightAdded(h, aesKey(pkcs11.CKA_WRAP).with(no(pkcs11.CKA_MODIFIABLE)))
	}, "", "", "it does"},
	{"`CKA_MODIFIABLE` false: the label changed", notModifiable, "", "", "it does"},
	{"`CKA_MODIFIABLE` true: a right added in a copy", func(h *Hostile) error { return rightCopied(h, aesKey(pkcs11.CKA_WRAP)) }, "", "", "`CKA_MODIFIABLE` false"},
	{"`CKA_MODIFIABLE` false: a right added in a copy", func(h *Hostile) error {
		return rightCopied(h, aesKey(pkcs11.CKA_WRAP).with(no(pkcs11.CKA_MODIFIABLE)))
	}, "", "", ""},
	{"`CKA_COPYABLE` false: copied", notCopyable, "", "", ""},
	{"`CKA_COPYABLE` false: a right added in a copy", func(h *Hostile) error {
		return rightCopied(h, aesKey(pkcs11.CKA_WRAP).with(no(pkcs11.CKA_COPYABLE)))
	}, "", "", ""},
	{"`CKA_DESTROYABLE` false: destroyed", notDestroyable, "", "", ""},
	{"`CKA_ALLOWED_MECHANISMS` key wrap: deciphers what it wraps", func(h *Hostile) error {
		return wrapThenDecipher(h, aesKey(pkcs11.CKA_WRAP, pkcs11.CKA_DECRYPT).with(only(pkcs11.CKM_AES_KEY_WRAP)))
	}, "", "", ""},
	{"`CKA_ALLOWED_MECHANISMS` key wrap: enciphers", func(h *Hostile) error {
		return encipherThenUnwrap(h, aesKey(pkcs11.CKA_ENCRYPT, pkcs11.CKA_UNWRAP).with(only(pkcs11.CKM_AES_KEY_WRAP)))
	}, "", "", ""},
	{"`CKA_ALLOWED_MECHANISMS` `CKM_AES_CMAC`: derives what can be read", derivedRead(derivations[0],
		aesKey(pkcs11.CKA_DERIVE).with(only(pkcs11.CKM_AES_CMAC))), "", "", ""},
	{"`CKA_WRAP_WITH_TRUSTED`: wrapped under a key of one's own", func(h *Hostile) error {
		return wrapUnderOwn(h, aesKey(pkcs11.CKA_WRAP), aesKey(pkcs11.CKA_EXTRACTABLE).with(yes(pkcs11.CKA_WRAP_WITH_TRUSTED)))
	}, "", "", ""},
	{"`CKA_TRUSTED`: claimed by a user for that key", trustedClaimed, "", "", ""},
	{"`CKA_WRAP_TEMPLATE`: wraps what it excludes", wrapAgainstWrapTemplate, "", "", ""},
	{"`CKA_UNWRAP_TEMPLATE` sensitive: unwrapped to be read", readAgainstUnwrapTemplate, "", "", ""},
	{"`CKA_DERIVE_TEMPLATE` sensitive: derived to be read", readAgainstDeriveTemplate, "", "", ""},
	{"`CKA_ALWAYS_SENSITIVE` claimed for a known key", func(h *Hostile) error { return claimed(h, pkcs11.CKA_ALWAYS_SENSITIVE) }, "", "", ""},
	{"`CKA_ALWAYS_SENSITIVE` of an imported key", func(h *Hostile) error { return imported(h, pkcs11.CKA_ALWAYS_SENSITIVE) }, "", "", ""},
	{"`CKA_NEVER_EXTRACTABLE` claimed for a known key", func(h *Hostile) error { return claimed(h, pkcs11.CKA_NEVER_EXTRACTABLE) }, "", "", ""},
	{"`CKA_NEVER_EXTRACTABLE` of an imported key", func(h *Hostile) error { return imported(h, pkcs11.CKA_NEVER_EXTRACTABLE) }, "", "", ""},
	{"`CKA_LOCAL` claimed for a known key", func(h *Hostile) error { return claimed(h, pkcs11.CKA_LOCAL) }, "", "", ""},
	{"`CKA_LOCAL` of an imported key", func(h *Hostile) error { return imported(h, pkcs11.CKA_LOCAL) }, "", "", ""},
}}

var rightsOfKeys = Chapter{"Rights of keys", []Attempt{
	{"`CKA_ENCRYPT` false: enciphers", func(h *Hostile) error { return useWithout(h, pkcs11.CKA_ENCRYPT) }, "", "", ""},
	{"`CKA_DECRYPT` false: deciphers", func(h *Hostile) error { return useWithout(h, pkcs11.CKA_DECRYPT) }, "", "", ""},
	{"`CKA_SIGN` false: makes a MAC", func(h *Hostile) error { return useWithout(h, pkcs11.CKA_SIGN) }, "", "", ""},
	{"`CKA_VERIFY` false: verifies a MAC", func(h *Hostile) error { return useWithout(h, pkcs11.CKA_VERIFY) }, "", "", ""},
	{"`CKA_WRAP` false: wraps", func(h *Hostile) error { return useWithout(h, pkcs11.CKA_WRAP) }, "", "", ""},
	{"`CKA_UNWRAP` false: unwraps", func(h *Hostile) error { return useWithout(h, pkcs11.CKA_UNWRAP) }, "", "", ""},
	{"`CKA_DERIVE` false: derives", func(h *Hostile) error { return useWithout(h, pkcs11.CKA_DERIVE) }, "", "", ""},
	{"`CKA_EXTRACTABLE` left out: the key has it", func(h *Hostile) error { return rightUnnamed(h, pkcs11.CKA_EXTRACTABLE) }, "", "", ""},
	{"`CKA_ENCRYPT` left out: the key has it", func(h *Hostile) error { return rightUnnamed(h, pkcs11.CKA_ENCRYPT) }, "", "", ""},
	{"`CKA_DECRYPT` left out: the key has it", func(h *Hostile) error { return rightUnnamed(h, pkcs11.CKA_DECRYPT) }, "", "", ""},
	{"`CKA_SIGN` left out: the key has it", func(h *Hostile) error { return rightUnnamed(h, pkcs11.CKA_SIGN) }, "", "", ""},
	{"`CKA_VERIFY` left out: the key has it", func(h *Hostile) error { return rightUnnamed(h, pkcs11.CKA_VERIFY) }, "", "", ""},
	{"`CKA_WRAP` left out: the key has it", func(h *Hostile) error { return rightUnnamed(h, pkcs11.CKA_WRAP) }, "", "", ""},
	{"`CKA_UNWRAP` left out: the key has it", func(h *Hostile) error { return rightUnnamed(h, pkcs11.CKA_UNWRAP) }, "", "", ""},
	{"`CKA_DERIVE` left out: the key has it", func(h *Hostile) error { return rightUnnamed(h, pkcs11.CKA_DERIVE) }, "", "", ""},
}}

var derivationsAndSearch = Chapter{"Derivation and search", append([]Attempt{
	{"a key that differs by a chosen value", func(h *Hostile) error { return relatedKey(h, aesKey(pkcs11.CKA_DERIVE)) }, "", "", ""},
	{"the same with `CKA_DERIVE` false", func(h *Hostile) error { return relatedKey(h, aesKey()) }, "", "", ""},
	{"an AES-256 key found byte by byte", func(h *Hostile) error { return byteByByte(h, aesKey(pkcs11.CKA_DERIVE)) }, "", "", ""},
	{"an AES-256 key with `CKA_DERIVE` false found byte by byte", func(h *Hostile) error { return byteByByte(h, aesKey()) }, "", "", ""},
	{"a key hashed", func(h *Hostile) error { return keyDigested(h, aesKey()) }, "", "", ""},
}, derivedFrom()...)}

// derivedFrom are the attempts to make of a sensitive key what can be read, or of one that is
// not extractable what can be wrapped.
func derivedFrom() (all []Attempt) {
	for i, d := range derivations {
		base := secret
		if i == 0 {
			base = aesKey
		}
		o := derivedOutcomes[i]
		all = append(all,
			Attempt{"`CKM_" + d.name + "` of an extractable key, read", derivedRead(d, base(pkcs11.CKA_DERIVE, pkcs11.CKA_EXTRACTABLE)), o[0], o[1], o[6]},
			Attempt{"`CKM_" + d.name + "` of a key that is not, read", derivedRead(d, base(pkcs11.CKA_DERIVE)), o[2], o[3], o[6]},
			Attempt{"`CKM_" + d.name + "` of a key that is not, wrapped", derivedWrapped(d, base(pkcs11.CKA_DERIVE)), o[4], o[5], o[6]})
	}
	return all
}

var pinsAsObjects = Chapter{"PINs as objects", []Attempt{
	{"a PIN block deciphered under a key that may decipher", func(h *Hostile) error { return pinDeciphered(h, pkcs11.CKA_DECRYPT) }, "", "", ""},
	{"a PIN block deciphered under a key that may only unwrap", func(h *Hostile) error { return pinDeciphered(h, pkcs11.CKA_UNWRAP) }, "", "", ""},
	{"a PIN block unwrapped to be read", pinRead, "", "", ""},
	{"a PIN object wrapped under a key of one's own", func(h *Hostile) error { return pinUnderOwn(h, composed()) }, "", "", ""},
	{"the same with `CKA_EXTRACTABLE` false", func(h *Hostile) error { return pinUnderOwn(h, secret(pkcs11.CKA_DERIVE)) }, "", "", ""},
	{"a PIN object found byte by byte", func(h *Hostile) error { return pinByteByByte(h, composed()) }, "", "", ""},
	{"the same with `CKA_DERIVE` false", func(h *Hostile) error { return pinByteByByte(h, secret(pkcs11.CKA_EXTRACTABLE)) }, "", "", ""},
	{"a PIN object without any right hashed, and 10,000 PINs tried", func(h *Hostile) error { return pinDigested(h, secret()) }, "", "", ""},
	{"10,000 PINs wrapped under the key of the block", pinCodebook, "", "", ""},
	{"10,000 PINs enciphered under the key of the block", func(h *Hostile) error { return pinEnciphered(h, pkcs11.CKA_ENCRYPT) }, "", "", ""},
	{"the same under a key that may only wrap and unwrap", func(h *Hostile) error { return pinEnciphered(h, pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP) }, "", "", ""},
	{"two PIN objects compared", pinsCompared, "", "", ""},
}}

var sessions = Chapter{"Sessions and login", []Attempt{
	{"a session object used in another session", fromAnotherSession, "", "", ""},
	{"a session object used after its session", afterItsSession, "", "", ""},
	{"a private session object used after `C_Logout`", func(h *Hostile) error { return afterLogout(h, false) }, "", "", ""},
	{"a private token object used after `C_Logout`", func(h *Hostile) error { return afterLogout(h, true) }, "", "", ""},
	{"an operation begun before `C_Logout` ended", operationAfterLogout, "", "", ""},
	{"a private token object found after `C_Logout`", foundAfterLogout, "", "", ""},
}}

var derivedOutcomes = [6][7]string{}
