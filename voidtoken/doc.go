// Package voidtoken is what a switch checks before it reverses a payment: the void token, by
// which keyd says that one void was authorised, by which methods and by whom. Nothing is asked
// of keyd for that: the switch has the public keys of the signers, and what it expects.
//
// It is pure: no file, no network, no clock, and nothing but Go's standard library. The module
// signs tokens with it, switches verify them, terminals make the digest of a void request.
//
// # A token is good once
//
// A token is bound to one void by its identifier, [Fields.Void]. It can be shown again until it
// expires, and its signature can be written in a second way, so whoever reverses a payment
// keeps the identifier, in the transaction that reverses, and takes a second token with it for
// a retry. The identifier counts for that, not the text of the token.
//
// # The token
//
// The text is BASE64URL(JSON) "." BASE64URL(signature), without padding (RFC 4648 §5), at most
// [MaxToken] bytes. The JSON has one encoding: the members in this order, no spaces.
//
//	{"void":"00112233445566778899aabbccddeeff","merchant":"merchant-8","terminal":"t-1",
//	"reference":"112700123456","amount":12345,"currency":156,
//	"authorizations":[{"method":"SUPERVISOR_PIN","subject":"merchant-8.supervisor-2"}],
//	"authorized_at":1795791600,"expires_at":1795791900,"key":"(SHA-256, 64 hex digits)"}
//
// (lines broken here). The signature is ECDSA (FIPS 186-5) in ASN.1 DER, over
//
//	"keyd void token 1" 00 || JSON
//
// with SHA-256 for a key on P-256 and SHA-384 on P-384; other keys are refused. The text before
// the zero byte is for nothing else, so that nothing else that the key signs is a token. The
// key's identifier is the SHA-256 of its SubjectPublicKeyInfo (RFC 5280), in lower-case hex.
//
// # The digest
//
// A terminal makes a MAC over the digest of the void request: [Fields.Digest], the SHA-256 of
//
//	"keyd void 1" 00   12 bytes
//	void               16 bytes, of which the text is 32 hex digits
//	merchant           its length in 1 byte, then its ASCII characters
//	terminal           likewise
//	reference          likewise
//	amount             8 bytes, minor units, big-endian
//	currency           2 bytes, ISO 4217 numeric as a number, big-endian
//
// For the void above these bytes and their digest are
//
//	bytes  6b65796420766f6964203100 00112233445566778899aabbccddeeff
//	bytes  0a6d65726368616e742d38 03742d31 0c313132373030313233343536
//	bytes  0000000000003039 009c
//	digest 175a2e7924c60c4a12e8905d37e5a261de57be4d3fc7c979c1c04834613e35ce
package voidtoken
