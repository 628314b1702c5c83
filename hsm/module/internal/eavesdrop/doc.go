// Package eavesdrop is who listens on the wire between keyd and its token, as to a network HSM: it has every
// buffer that crosses PKCS#11, and knows what follows from it by the calls' own public computation. Tests
// assert that no PIN and no key is among that. It is for tests only.
//
// [Record] puts a library in front of the token's that writes every call down; pkcs11-spy does not show what
// parameters of derivations point to, and is asked besides ([RecordWithSpy]). [Listen] reads the record from a
// mark on, keeps what is known of each object's bits, and goes through all calls in both directions
// until nothing is learned any more:
//
//   - a value that was imported, or read; a buffer that went in or came out
//   - unwrapping and wrapping in ECB mode, and AES with KWP, under a key that is known
//   - under any key, known or not: a block of which plain and enciphered text have been seen once
//   - XOR, concatenation and extraction, in both directions, bit by bit
//   - enciphered data as a key (CKM_AES_ECB_ENCRYPT_DATA), also where so few bits of the key are unknown that
//     all can be tried
//   - agreement on a curve, with a private key that is known
//
// Before that the test says what somebody knows beforehand of what is in a block ([Wire.Assume]): all but
// the PIN's digits.
package eavesdrop
