// Package keyblocks unwraps and wraps keys in the key blocks of ANSI X9.143-2021 (TR-31:2018)
// inside the boundary. Package keyblock takes the text apart and puts it together; here is the
// cryptography, which the token carries out on session objects.
//
//	A, C  variant binding: TDES-CBC under KBPK XOR 45.., initial vector the first 8 characters of
//	      the header; the MAC is a CBC-MAC under KBPK XOR 4D.. over header and ciphertext, 4 bytes
//	B     derivation binding: TDES-CMAC over header and clear payload, 8 bytes; TDES-CBC with the
//	      MAC as initial vector; both keys derived from the KBPK by TDES-CMAC
//	D     the same with AES, 16 bytes
//
// The payload is the key's length in bits (2 bytes), the key and random padding.
//
// # Rules
//
//   - The key block protection key (KBPK) fits the version: AES for D, TDES of 16 or 24 bytes for
//     the others. Single DES is refused.
//   - The MAC is verified in constant time before a byte of the payload is looked at, and in A and
//     C before anything is deciphered. Then the length: whole bytes, not 0, within the payload.
//   - Blocks of version A are read and never written.
//   - A refusal is one of the errors of errors.go, which say nothing of values. The key value is
//     then not written.
//   - A payload, a derived key and the MAC that a block should have are in the session's locked
//     memory only, in its last [WorkSize] bytes, which are wiped before return. Derived keys are
//     session objects of one right, and destroyed. What the caller passes must not lie in those
//     bytes.
//   - Whether the key's length fits its algorithm, whether the KBPK is as strong as the key, and
//     who may import or export is for the caller to judge. [Wrap] does refuse a header whose fields
//     do not fit each other.
//
// Units: sizes are bytes.
//
// Only hsm/module uses it.
package keyblocks
