// Package macops makes and verifies message authentication codes inside the boundary: ISO
// 9797-1 algorithms 1 and 3 (the latter is ANSI X9.19), CMAC (NIST SP 800-38B) and
// HMAC-SHA-256 (RFC 2104), with static keys and with DUKPT working keys.
//
// Rules, in the order in which they are checked: the sealed key is genuine and valid now;
// the key serial number fits the key; usage, mode of use, algorithm and direction fit what
// is asked; the MAC is no longer than one is. A wrong MAC is found in constant time, and is
// an answer. The token makes the MAC, but under TDES DUKPT: there the working key exists in
// the session's locked memory for the time of the operation, and is wiped.
//
// Units: sizes are bytes.
//
// Only hsm/module uses it.
package macops
