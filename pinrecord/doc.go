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
//	kind                      1 byte: 1 SUPERVISOR, 2 CARDHOLDER, 3 PASSKEY
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
//
// # Phones
//
// A supervisor's PIN, or the code for one, that is typed on a phone comes as ISO 9564-1 format 4 under
// an AES key of 128 bits for this entry alone. The phone makes a key pair on P-256 and agrees with a key
// pair of the modules' (usage K3), scheme C(1e, 1s, ECC CDH) of NIST SP 800-56A revision 3 (6.2.2.2).
// The key is the begin of one round of the one-step derivation of SP 800-56C revision 2 (4.1, option
// 1) with SHA-256:
//
//	SHA-256(00000001 || Z || FixedInfo)
//
// Z is the x-coordinate of the shared point, 32 bytes. FixedInfo is
//
//	"keyd phone pin 1" 00   17 bytes
//	the modules' point      65 bytes, uncompressed (SEC 1, 2.3.3)
//	the phone's point       likewise
//	context                 32 bytes: SHA-256 of what the entry is for, see [OfVoid], [OfCode], [OfNewPIN], [OfPasskey]
//
// so that a block that was made for one void, subject or use is none for another: it does not open. A
// code and the PIN that it sets come with one point of the phone's, so that nobody else's PIN is set by
// a code that somebody has typed.
//
// A passkey's challenge is a SHA-256 as well, see [VoidChallenge] and [PasskeyChallenge].
package pinrecord
