// Package pinrecord is what front, module and approvers must agree on about PIN records: whose
// PIN it is, who approves what happens to it, and what a record says that anybody may read.
//
// It is pure: no file, no network, no clock, and no PIN. Comparing is the module's, which checks
// everything here once more, whatever the front has checked.
//
// # Subjects and numbers
//
// A subject is a supervisor of a merchant, or of one terminal of it, or a cardholder. Its digest is
// the SHA-256 of
//
//	"keyd pin subject 1" 00   19 bytes
//	kind                      1 byte: 1 SUPERVISOR, 2 CARDHOLDER
//	merchant                  its length in 1 byte, then its ASCII characters
//	terminal                  likewise; length 0: of the whole merchant
//	name                      likewise
//
// Its number stands where other PIN blocks have a PAN: 16 digits, "0", then the digest as a
// big-endian number modulo 10^14, then the check digit of Luhn (ISO/IEC 7812-1 annex B). No issuer's
// number begins with 0.
//
// # Approvals
//
// An approval is JSON in one encoding ([ceremony.Encode]), signed for the purpose "keyd pin approval
// 1". Two approvers sign the same bytes, each on a machine of their own. An approver's certificate
// has exactly one URI SAN, a SPIFFE ID whose path is
//
//	/merchants/MERCHANT/NAME   who approves for that merchant
//	/approvers/NAME            who approves for any
//
// and ends at an authority that officers believe for approvers.
//
// # Records
//
// A record and a pending one are JSON in one encoding, with the modules' MAC of 16 bytes behind it.
// A datum is CMAC (NIST SP 800-38B) under the datum key, whole, over
//
//	"keyd pin 1" 00   11 bytes
//	subject           its digest, 32 bytes
//	version           4 bytes, big-endian
//	length            1 byte
//	PIN               12 bytes, one decimal digit each, zeros behind them
//
// so that nobody without that key can look for the PIN, however short it is.
package pinrecord
