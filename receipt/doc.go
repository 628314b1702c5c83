// Package receipt is the proof that a terminal was given keys: the record of what was given,
// which a module writes; the terminal's receipt, with a MAC under a key that it was given; and
// the module's signed statement over both, which anybody can verify who has pinned the module's
// identity.
//
// It is pure: no file, no network, no clock. The terminal's side needs [Text] alone.
//
// # Formats
//
// Record, receipt and statement are JSON in one encoding ([ceremony.Encode]). Check values are
// six upper-case hex digits (X9.24-1:2017 A.2: three bytes; AES by CMAC).
//
// What the terminal's MAC is over is binary, for firmware:
//
//	"keyd receipt 1" 00 || injection (16 bytes) || number of keys (1 byte) || check values (3 bytes each)
//
// The MAC is CMAC (NIST SP 800-38B) with the receipt key, whole: 16 bytes with AES, 8 with TDES.
package receipt
