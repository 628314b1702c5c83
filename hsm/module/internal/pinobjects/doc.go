// Package pinobjects keeps PINs in the token: a PIN block is unwrapped to an object of the token,
// becomes a block of another format or the input of a comparison there, and leaves it only
// enciphered. What crosses the PKCS#11 interface is ciphertext and public data.
//
// Of a PIN the module learns the control field and the length, whether the fill is one, and
// whether all digits are decimal. It learns them by comparing ciphertext: the token wraps
// what is to be looked at under a key that it has agreed on with the module (the transit
// key), and the module compares with what it expects, enciphered likewise. What does not match is not
// deciphered. Only the outer layer of format 4 is, a ciphertext. docs/custody.md has the argument.
//
// All malformed blocks of a format take the same token calls. For good ones their number depends on the PIN's
// length, which so shows in the time that an answer takes. The objects
// are of the session that is passed, which forgets them when the operation ends
// (token.Session.Forget); nothing here destroys them one by one.
//
// Units: sizes are bytes, places in a block are digits (nibbles), from 0 for the control field.
//
// Only package pinops uses it.
package pinobjects
