// Package tr34 writes and reads the tokens of ASC X9 TR 34-2019, by which a key distribution
// host (KDH) sends a terminal, the key receiving device (KRD), its first symmetric key under
// the terminal's RSA key. The tokens are CMS (RFC 5652) in DER.
//
// It is pure: no file, no network, no clock and no token of its own. The host's signature and
// the device's RSA decryption are calls to functions that the caller gives. The terminal side
// ([Device]) is for the simulated terminal and for tests; the host side ([Host]) for the module
// process.
//
// # Tokens
//
//	CT_KRD, CT_KDH  credential: certificate, and the CRL of the hosts' CA. CT_KDH binds a
//	                device to a host                       [CredentialToken] [Trust.OpenCredential]
//	RT_KRD          random number of the device            [RandomToken] [ReadRandomToken]
//	KT_KDH          a key: two-pass with the random number,
//	                one-pass with a time and the CRL       [Host.KeyToken] [Device.OpenKeyToken]
//	UBT_KDH         the device forgets the host            [Host.UnbindToken] [Device.OpenUnbindToken]
//	RBT_KDH         the device gets another host           [Host.RebindToken] [Device.OpenRebindToken]
//
// The tokens by which a CA unbinds and rebinds (UBT_CA, RBT_CA) are not here: public
// implementations disagree on what their signature covers. RT_KRD is not signed in TR-34: it
// is a bare attribute, and the host learns by it which random number to repeat, no more.
//
// # Rules
//
//   - What is written is DER, in the shape that the [Profile] says.
//   - What is read must be DER too: a token with indefinite lengths (BER, which openssl cms
//     writes with -stream) is refused with [ErrIndefinite] and never converted.
//   - Reading is lenient in these places only, in which hosts in use differ: signed attributes
//     in any order, with a signature over them as they are or sorted; a content without the
//     SEQUENCE around it; the encrypted content inside the algorithm; OAEP parameters without
//     their tags; key block version 0 or 1; the inner header as an attribute or bare; SignedData
//     version 1 or 3; rsaEncryption or sha256WithRSAEncryption; NULL or no parameters of
//     SHA-256 and of RSA; attributes of an unknown kind, which the signature covers all the same.
//   - Hashes are never the token's choice: SHA-256 for signatures, and for OAEP what the Profile
//     says.
//   - A key never goes under a weaker one, see [Strength].
//   - Which certificates are good is for a [Verifier] to say: a [Trust] has the three levels of
//     TR-34, and a host's caller may have rules of its own.
//   - Each fault has an error of its own (errors.go). Nothing is returned with one.
//
// # Secrets
//
// Clear keys are in buffers that the caller gives: the key itself, and scratch, which is
// cleared before the call returns. What stays elsewhere in the heap until the collector reuses
// it: the key schedule of the content cipher (crypto/aes, crypto/des), and from crypto/rsa the
// padded content key while it is encrypted; on a device's side, what its Decrypt leaves. None
// of it can be reached from here. The content key protects one token, but who has both has the
// key. So a process with keys of others runs [Host.PrepareKeyToken] inside runtime/secret.Do,
// which erases all that, and [PreparedToken.Finish] outside, where its signature may be a call
// to C.
//
// Errors hold no key, no plaintext and no random number.
package tr34
