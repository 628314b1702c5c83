// Package code makes, reads, checks and draws the codes that are scanned to void a payment.
// docs/void-code.md has the format byte by byte, for makers of terminals.
//
// It is pure: no file, no network, no clock and no key of its own. A signature is a call to a
// function that the caller gives; the time is an argument.
//
// # Kinds
//
//	LIVE  shown on a screen for seconds to minutes; signed     [Sign] [Payload.Verify]
//	SLIP  printed on a slip, good for hours; a reference only  [NewSlip] [Payload.Reference]
//
// A SLIP is not signed: it names a void and gives nobody the right to it. No function takes
// one for the other.
//
// # Rules
//
//   - A code has no account data, no amount and no merchant's name: a random identifier, an end,
//     and for whom it is, as a hash.
//   - Each code has one text and, for a host, one URL. Another spelling is refused, but for the
//     case of a URL's scheme and host, which phones change. A signature has one form, too (low S).
//   - What a code says comes out of Verify or Reference only, never of parsing alone.
//   - Each fault has an error of its own (errors.go), for the merchant. A stranger gets
//     [General]. Nothing is returned with an error, and no error holds a code.
//   - That a code is used once is not decided here: whoever knows the void burns the identifier.
//
// # Drawing
//
// A [Symbol] is a QR code (ISO/IEC 18004) of at most version 10, with a quiet zone of four
// modules: as PNG, as SVG and as text for a terminal.
package code
