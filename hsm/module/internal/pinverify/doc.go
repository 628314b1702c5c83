// Package pinverify is the digit work of PIN verification: Visa PIN verification value
// and IBM 3624 with offset. It makes no cipher call; the PIN verification key (PVK)
// stays in the token, which enciphers the 8 bytes prepared here.
//
// Only the module process calls it. A verification is three steps:
//
//	Visa       PutTSP → token: TDES under the PVK → PutPVV → VerifyPVV
//	IBM 3624   IBM3624.PutValidationData → token: TDES under the PVK
//	           → IBM3624.NaturalPIN → Natural.Verify
//
// # Rules
//
//   - The transformed security parameter (TSP) holds PIN digits, and a natural PIN is
//     a PIN: both are written only to memory that the caller owns, which may be locked
//     and outside the Go heap, and which the caller wipes. Nothing here allocates.
//   - What is done does not depend on PIN, PIN length, natural PIN or PVV: no branch
//     and no table index does; decimalisation scans its table. A PAN, a rule and a
//     reference value are not secret.
//   - A wrong PIN is an answer, false, not an error, and so is a PIN that is too short
//     or has a digit above 9. Such a PIN goes through the same steps.
//   - Errors are for malformed reference values and rules; none holds a digit of one.
//
// # Units
//
// Data for the token is binary, two digits to a byte. PVVs, offsets and decimalisation
// tables are ASCII digits. Positions count from 0 at the left.
package pinverify
