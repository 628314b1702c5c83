package keyblock

import "errors"

// Errors of [ParseHeader] and [Parse], in the order in which they are looked for. Each is
// returned as it is.
var (
	ErrShort           = errors.New("keyblock: shorter than the 16 characters of a header")
	ErrCharacter       = errors.New("keyblock: header has a character that is neither letter nor digit")
	ErrVersion         = errors.New("keyblock: version is not A, B, C or D")
	ErrLengthField     = errors.New("keyblock: length is not decimal")
	ErrCountField      = errors.New("keyblock: number of optional blocks is not decimal")
	ErrTotalLength     = errors.New("keyblock: length is not that of the block")
	ErrTotalAlignment  = errors.New("keyblock: length is no multiple of the cipher block")
	ErrOptionalID      = errors.New("keyblock: ID of an optional block is truncated or not alphanumeric")
	ErrOptionalLength  = errors.New("keyblock: length of an optional block is truncated or not hexadecimal")
	ErrLengthOfLength  = errors.New("keyblock: extended length of an optional block has no digits, or more than eight")
	ErrOptionalShort   = errors.New("keyblock: length of an optional block does not cover its own ID and length")
	ErrOptionalData    = errors.New("keyblock: data of an optional block are truncated")
	ErrOptionalText    = errors.New("keyblock: data of an optional block are not printable ASCII")
	ErrDuplicate       = errors.New("keyblock: two optional blocks have the same ID")
	ErrPaddingPosition = errors.New("keyblock: the padding block is not the last optional block")
	ErrMACTruncated    = errors.New("keyblock: MAC is truncated")
	ErrNoKey           = errors.New("keyblock: there is no encrypted key")
	ErrHeaderAlignment = errors.New("keyblock: header is no multiple of the cipher block")
	ErrKeyHex          = errors.New("keyblock: encrypted key is not hexadecimal")
	ErrMACHex          = errors.New("keyblock: MAC is not hexadecimal")
	ErrKeyAlignment    = errors.New("keyblock: encrypted key is no multiple of the cipher block")
)

// Errors of [Header.Encode], besides those above that tell the same.
var (
	ErrFieldSize = errors.New("keyblock: a field of the header does not have the size of its place")
	ErrTooMany   = errors.New("keyblock: more than 99 optional blocks")
	ErrTooLong   = errors.New("keyblock: longer than 9,999 characters")
	ErrPadding   = errors.New("keyblock: the padding block does not make the header a multiple of the cipher block")
)

// Errors of [Header.Validate].
var (
	ErrUsage          = errors.New("keyblock: unknown key usage")
	ErrAlgorithm      = errors.New("keyblock: unknown algorithm")
	ErrMode           = errors.New("keyblock: unknown mode of use")
	ErrExportability  = errors.New("keyblock: exportability is not E, N or S")
	ErrContext        = errors.New("keyblock: key context is not 0, 1 or 2, or the reserved character after it not 0")
	ErrUsageAlgorithm = errors.New("keyblock: the usage has no key of this algorithm")
	ErrUsageMode      = errors.New("keyblock: the usage has no such mode of use")
)

// Errors of optional blocks of a known kind. ErrContent is wrapped with the block's ID.
var (
	ErrAbsent  = errors.New("keyblock: there is no such optional block")
	ErrContent = errors.New("keyblock: content of an optional block is not what the standard says")
)
