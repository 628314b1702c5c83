// Package pinblock encodes and decodes the clear PIN blocks of ISO 9564-1:2017,
// formats 0, 1, 3 and 4. Format 2 and formats outside ISO 9564 are refused.
//
// # Who may call it
//
// A clear PIN block exists in two places only: in the secure part of a terminal and
// inside the hardware boundary. Programs of the terminal side and the module process
// call this package; the front never does. [PAN], [Format] and their methods hold no
// secret and may be used on both sides; [PIN.SetDigits] is for the terminal side.
//
// # Rules
//
//   - Control digit, PIN length (4 to 12), fill digits and, through them, the PAN
//     field are checked when a block is decoded. PIN digits are not: a digit from A to
//     F decodes, is carried through a translation, and makes [PIN.Decimal] false. To
//     refuse it here would tell digits apart from the outside.
//   - A malformed block gives [ErrBlock], whatever is wrong with it, after the same
//     work, and leaves the PIN empty. Errors carry no part of a block.
//   - The work done on a block does not depend on PIN, PIN length or fill: no branch
//     and no table index does.
//   - Secrets are read from and written to memory that the caller owns, which may lie
//     outside the Go heap. No function of this package that handles a PIN allocates.
//
// # Units
//
// A clear block is binary: 8 bytes in formats 0, 1 and 3, and in format 4 the 16-byte
// PIN field that goes into the first of its two AES layers, both of which are the
// caller's (they may run in a token):
//
//	encipher: E(K, E(K, PIN field) XOR PAN field)     decipher: D(K, D(K, block) XOR PAN field)
//
// A digit or nibble is a byte from 0 to 15; in the layouts below C is the control
// digit, L the PIN length, P a PIN digit, F or A that fill digit, R a random digit,
// and / a PIN digit or fill, as L says.
//
//	format 0   0 L P P P P /×8 F F              XOR account field
//	format 1   1 L P P P P /×8 R R              no PAN
//	format 3   3 L P P P P /×8 R R, R = A to F  XOR account field
//	format 4   4 L P P P P /×8 A A  R×16        PAN field between two encipherments
package pinblock
