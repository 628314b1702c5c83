// Package keyagreement is how a host and a terminal agree on a key block protection key over a
// network, without anything that was injected before: ephemeral elliptic-curve Diffie-Hellman,
// scheme C(2e, 0s) of NIST SP 800-56A revision 3 (6.1.2.2), in which each side signs what it
// sends with the key of its certificate. Keys then go to the terminal in key blocks of version D
// (X9.143) under the key that both have derived.
//
// It is pure: no file, no network, no clock, no PKCS#11. Signatures are calls to functions that
// the caller gives, so that the host's key can be in a token. The terminal's side is for the
// simulated terminal and for tests, the host's for the module process.
//
// # Messages
//
// Both are DER:
//
//	Message ::= SEQUENCE { body (Request or Answer), signature OCTET STRING }
//
//	Request ::= SEQUENCE {
//	  version      INTEGER (1),
//	  curve        OBJECT IDENTIFIER,  -- prime256v1, secp384r1 or secp521r1
//	  ephemeral    OCTET STRING,       -- the terminal's point, uncompressed (SEC 1, 2.3.3)
//	  random       OCTET STRING,       -- 32 bytes of the terminal's
//	  certificates SEQUENCE OF Certificate }  -- 1 to 5, the terminal's first
//
//	Answer ::= SEQUENCE {
//	  version      INTEGER (1),
//	  request      OCTET STRING,       -- SHA-256 of the whole request, 32 bytes
//	  ephemeral    OCTET STRING,       -- the host's point
//	  random       OCTET STRING,       -- 32 bytes of the host's
//	  blocks       SEQUENCE OF IA5String,  -- 1 to 16 key blocks
//	  certificates SEQUENCE OF Certificate }  -- 1 to 5, the host's first
//
// A signature is over the text "keyd key agreement request 1" or "keyd key agreement answer 1",
// a zero byte, and the body: ECDSA in ASN.1 with SHA-256, SHA-384 or SHA-512 after the curve of
// the signing key, or RSASSA-PKCS1-v1_5 with SHA-256.
//
// # Derivation
//
// The key block protection key is AES: of 128 bits for P-256, 192 for P-384, 256 for P-521. It is
// the begin of one round of the one-step key derivation of SP 800-56C revision 2 (4.1, option 1)
// with SHA-256, SHA-384 or SHA-512:
//
//	H(00000001 || Z || FixedInfo)
//
// Z is the x-coordinate of the shared point. FixedInfo is the concatenation format of
// SP 800-56A (5.8.2.1.1), each field behind its length in four bytes, big-endian: AlgorithmID
// (the ASCII text "A128KBPK", "A192KBPK" or "A256KBPK"), PartyUInfo (SHA-256 of the terminal's
// certificate), PartyVInfo (SHA-256 of the host's certificate), SuppPubInfo (SHA-256 of the request
// followed by the host's point and random). So it is another key for each run, each pair of
// certificates and each curve.
//
// # Rules
//
// Each side checks the other's signature before it computes anything with the other's point. A
// signing key is at least as strong as the curve: P-256 goes with RSA from 3,072 bits, P-384 with
// RSA from 7,680. Which certificates are believed is for the caller to say
// before it goes on.
//
// A terminal takes one answer to a request, and forgets its ephemeral key.
package keyagreement
