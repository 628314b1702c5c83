package pinblock

import (
	"errors"
	"strconv"
)

// Format is a PIN-block format. Its value is its number in ISO 9564-1:2017. Terminal
// and host.
type Format uint8

// The formats that are implemented (ISO 9564-1:2017 §9.3.2, §9.3.3, §9.3.5, §9.4.2).
const (
	ISO0 Format = 0 // PIN field XOR account field, fill F; TDES
	ISO1 Format = 1 // PIN field with random fill, no PAN; TDES
	ISO3 Format = 3 // like format 0 with random fill from A to F; TDES
	ISO4 Format = 4 // PIN field and PAN field, two encipherments; AES
)

// Sizes of clear and enciphered blocks in bytes.
const (
	BlockSize  = 8  // formats 0, 1 and 3
	Block4Size = 16 // format 4: PIN field, PAN field and enciphered block
)

// ErrFormat reports a format that is not one of [ISO0], [ISO1], [ISO3] and [ISO4].
var ErrFormat = errors.New("PIN-block format is not supported")

// Valid reports whether the format is implemented.
func (f Format) Valid() bool {
	return f == ISO0 || f == ISO1 || f == ISO3 || f == ISO4
}

// Size returns the size of a block in bytes, 8 or 16, and 0 for a format that is not
// implemented.
func (f Format) Size() int {
	switch f {
	case ISO0, ISO1, ISO3:
		return BlockSize
	case ISO4:
		return Block4Size
	default:
		return 0
	}
}

// String returns "ISO-" and the number.
func (f Format) String() string { return "ISO-" + strconv.Itoa(int(f)) }
