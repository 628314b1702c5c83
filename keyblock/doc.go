// Package keyblock reads, prints and validates the headers of key blocks as ANSI
// X9.143-2021 and its predecessor TR-31:2018 define them, versions A, B, C and D.
//
// It holds no secret and does no cryptography: whether a block is genuine, and what key is
// in it, only hsm/module finds out (its package keyblocks). Nothing that this package
// returns can be trusted before the MAC was verified there.
//
// # Rules
//
//   - Reading is lenient in three places, where blocks of the field need it: hex digits of
//     the encrypted key and of the MAC may be lower case; one letter S or R may stand
//     before the version, as some makers' HSMs put it; and the encrypted key may be longer
//     than the key needs, which hides its length. Everything else is strict.
//   - Each fault has an error of its own (errors.go). Nothing is returned with one.
//   - Printing is strict, and what was printed reads back as it was. What was read prints
//     back to the same text if the lengths of its optional blocks were in the shortest form.
//   - A well-formed block may still make no sense. [Header.Validate] tells whether usage,
//     algorithm and mode of use fit each other, and [Header.CheckBlocks] whether optional
//     blocks of a known kind hold what the standard says.
//   - An optional block of an unknown kind is kept untouched if it is well formed.
//
// # Layout
//
// All text is printable ASCII.
//
//	0   1  version             A B C D
//	1   4  length              of the whole block in characters, decimal
//	5   2  key usage           such as P0
//	7   1  algorithm           such as T
//	8   1  mode of use         such as E
//	9   2  key version         00: none; c before a component's number
//	11  1  exportability       E N S
//	12  2  optional blocks     how many, decimal
//	14  2  key context 0 1 2, and a 0
//	16     optional blocks, then the encrypted key and the MAC, both in hex
//
// An optional block is an ID of two characters, its length and its data. The length is two
// hex digits and counts ID, length and data. For more than 255 characters it is 00, then two
// hex digits that say how many hex digits follow, then those: 0004 and four digits.
//
// # Units
//
// Lengths are characters of text, sizes of decoded values bytes.
//
// Both sides of the hardware boundary may call everything here.
package keyblock
