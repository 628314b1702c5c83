// Package working brings keys into use for an operation inside the boundary: it unseals
// those that are named, and derives the working keys that a key serial number asks for.
//
// Rules. A key is used only if its seal is genuine and it is valid now. A working key of
// AES DUKPT (ANSI X9.24-3) is derived inside the token and stays there; the derivation keys
// on the way are kept there, up to a bound. For TDES DUKPT (X9.24-1) no PKCS#11 mechanism
// exists: the token makes the initial key, and the rest happens in the session's locked
// memory. What was lost with a session of the token is made anew once.
//
// Units: sizes are bytes.
//
// Only hsm/module and its operations use it.
package working
