// Package pinsvc carries out PIN operations for callers of the front: translation of
// an enciphered PIN block to another key, verification of the PIN in one, generation of a
// PIN, and its change. It also resets the tries that modules count.
//
// Rules. The first check that fails decides the refusal, in this order: the shape of
// the request ([fault.RequestInvalid], then [fault.KSNInvalid]); whether the caller may
// do this with these keys ([fault.PolicyDenied]); whether the keys exist, may be used
// now and are what their name says; and then whatever the module refuses: usage, mode,
// direction, algorithm against format, the translation matrix, the block. The module's
// rules are not repeated here. They hold whoever asks, and a copy could only disagree.
//
// Where the header of a BDK asks for it, the key serial number is recorded (package ksn)
// after the module has carried the request out and before the answer leaves. A number
// that was used ([fault.KSNReplayed]) wins over what comes after it in the order, the
// block for one; an identical retry gets the stored answer.
//
// What a refusal says names the field that is wrong and what is right, and never
// a digit of what was sent. Nothing in this package is clear: blocks come and go
// enciphered, keys are sealed.
//
// Units. A PAN has 1 to 19 decimal digits with its check digit. A PIN block has 8 bytes,
// 16 in ISO format 4. A KSN has 10 bytes (TDES) or 12 (AES).
//
// Only the front uses this package.
package pinsvc
