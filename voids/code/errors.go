package code

import "errors"

// Errors of reading a text or a URL.
var (
	ErrLength        = errors.New("void code: has the length of no code: scan it again")
	ErrAlphabet      = errors.New("void code: has characters other than A to Z and 2 to 7")
	ErrUnusedBits    = errors.New("void code: unused bits at the end are not zero")
	ErrVersion       = errors.New("void code: is of a version that is not known: update this reader")
	ErrKind          = errors.New("void code: is of a kind that is not known: update this reader")
	ErrSignatureForm = errors.New("void code: signature is out of range or not in its one form (low S)")
	ErrIdentifier    = errors.New("void code: identifier is all zeros")
	ErrScheme        = errors.New("void code: URL does not begin with HTTPS://")
	ErrHost          = errors.New("void code: host is malformed: it has labels of A to Z, 0 to 9 and -, at most 128 characters, and perhaps a port other than 443")
	ErrPath          = errors.New("void code: path of the URL is not /V/ and a code")
	ErrForeignHost   = errors.New("void code: URL is of another host")
)

// Errors of [Payload.Verify] and [Payload.Reference].
var (
	ErrNoAuthority    = errors.New("void code: is a slip's: it names a void and authorises nothing")
	ErrNoReference    = errors.New("void code: is a live one: verify its signature")
	ErrUnknownKey     = errors.New("void code: is signed with a key that is not known here")
	ErrSignature      = errors.New("void code: signature does not fit: the code was altered or forged")
	ErrForeignCode    = errors.New("void code: is another merchant's")
	ErrExpired        = errors.New("void code: has expired: have a new one shown")
	ErrEndsTooLate    = errors.New("void code: ends later than a code of its kind can: set this machine's clock right")
	ErrSkewOutOfRange = errors.New("void code: clocks may differ by zero to two minutes, no more")
)

// Errors of making a code.
var (
	ErrKey         = errors.New("void code: codes are signed with an ECDSA key of P-256")
	ErrSigner      = errors.New("void code: signer returned what is no signature of this key")
	ErrExpiryRange = errors.New("void code: expiry is not between 1970 and 2106")
	ErrMerchant    = errors.New("void code: merchant's identifier has 1 to 64 characters, letters, digits and ._-, the first a letter or a digit")
)

// Errors of drawing.
var (
	ErrCharacters = errors.New("void code: text has characters that are not in the alphanumeric mode of QR codes")
	ErrTooBig     = errors.New("void code: text does not fit in a QR code of version 10: take a shorter host")
	ErrScale      = errors.New("void code: scale is 1 to 64 pixels per module")
	ErrColours    = errors.New("void code: unknown colours of a terminal")
)

// ErrRefused is all that a stranger learns.
var ErrRefused = errors.New("this code cannot be used: ask for a new one where it was shown")

// General returns the one answer that a stranger gets to any error: [ErrRefused], which tells
// nothing of the reason and wraps nothing. It returns nil for nil.
func General(err error) error {
	if err == nil {
		return nil
	}
	return ErrRefused
}
