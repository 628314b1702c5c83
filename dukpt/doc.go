// Package dukpt says what to derive in the two DUKPT schemes, and never holds a key.
//
// ANSI X9.24-1:2009 Annex A (TDES) and ANSI X9.24-3:2017 (AES) both derive one set of working keys per
// transaction from a base derivation key (BDK), an initial key (IK) per device and a key serial number
// (KSN) that the device sends in the clear. Everything in this package follows from public data: KSNs and
// their rules, key types and usages, the TDES variant masks, and for AES the [Path] of derivation data
// from a BDK or an IK to a working key. Who holds the key decides how a path is walked: package
// dukpt/software does it in memory, a PKCS#11 token does it with CKM_AES_ECB_ENCRYPT_DATA.
//
// Rules. A counter is never 0 in a transaction and has at most 10 one-bits of 21 (TDES) or 16 of 32
// (AES). An AES working key is no stronger than the BDK. Requests and responses have keys of their own.
//
// Units. A KSN is 10 bytes (TDES) or 12 bytes (AES). An initial key ID is 8 bytes. Derivation data is one
// or two AES blocks, 16 or 32 bytes. Key lengths are in bytes, strengths in bits.
//
// Both sides, terminal and host, may call everything here. Nothing allocates except where a result is a
// string or a slice.
package dukpt
