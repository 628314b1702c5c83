// Package checkpoint is what the audit log's tree looks like at one moment, in a form that
// can be signed, copied and compared: a checkpoint of C2SP (c2sp.org/tlog-checkpoint) in a
// signed note (c2sp.org/signed-note).
//
//	keyd/0123456789abcdef0123456789abcdef
//	20852163
//	CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//
//	— keyd/0123456789abcdef0123456789abcdef 2Wbtx…
//
// The lines are the origin, which names the log; how many entries it has; the root of the
// Merkle tree over them (RFC 6962, SHA-256); an empty line; and the signature of the module:
// type 0x02 of the specification, ECDSA over the SHA-256 of the first three lines, in ASN.1
// DER, behind the first four bytes of the SHA-256 of the key's SubjectPublicKeyInfo. The key
// is the token's identity (P-384), the same whose fingerprint officers have confirmed.
//
// # Nothing else that the identity signs is a checkpoint
//
// Everything else is signed by [keyd/ceremony.Sign]: a purpose, a zero byte and a document.
// Each purpose begins with "keyd " and a checkpoint with "keyd/": the fifth byte differs, so
// no message is both. A checkpoint has no zero byte either, and the hash functions differ.
// That holds whatever a front asks for, because a module writes the lines itself, from an
// origin in the one form that [ValidOrigin] allows, a number and 32 bytes.
//
// Front, module and command line use it, and everybody who has a checkpoint.
package checkpoint
