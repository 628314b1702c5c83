package hsm

import (
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
)

// A sealed key is, in this order and with big-endian lengths:
//
//	4 bytes   "kSK1"
//	2 + n     header, see Header.Marshal
//	1         number of wrapped parts: 1 to 3, or 0 of a key that lies in the token itself
//	2 + n     each part: AES key wrap with padding (RFC 5649) of a key value under
//	          the wrapping key that the header's custody and generation name
//	16        AES-CMAC (NIST SP 800-38B) over all that precedes, under the
//	          generation's MAC key
//
// A key has more than one part where a standard takes it apart and no token can: a TDES
// BDK is sealed with the key XORed with the initial-key mask of ANSI X9.24-1, so that the
// token can derive initial keys without any process knowing the BDK; see
// hsm/module/internal/sealing.

// MaxSealedSize bounds a sealed key, in bytes.
const MaxSealedSize = 20 << 10

// MACSize is the size of the authentication code at the end of a sealed key, in bytes.
const MACSize = 16

const sealedMagic = "kSK1"

// maxWrapped is the largest wrapped part: RFC 5649 adds 8 bytes and pads to 8.
const maxWrapped = 128 + 16

// ErrSealed is the only thing that is said of bytes that are no sealed key.
var ErrSealed = errors.New("malformed sealed key")

// Sealed is a parsed sealed key. Nothing in it is trusted before a module has
// checked the MAC.
type Sealed struct {
	Header  *Header
	Wrapped [][]byte
	Body    []byte // what the MAC covers
	MAC     []byte // MACSize bytes
}

// ParseSealed parses a sealed key. The result refers to b. The error is [ErrSealed].
func ParseSealed(b []byte) (*Sealed, error) {
	if len(b) > MaxSealedSize || len(b) < MACSize {
		return nil, ErrSealed
	}
	s := &Sealed{Body: b[:len(b)-MACSize], MAC: b[len(b)-MACSize:]}
	var magic, header, part cryptobyte.String
	var parts uint8
	in := cryptobyte.String(s.Body)
	if !in.ReadBytes((*[]byte)(&magic), len(sealedMagic)) || string(magic) != sealedMagic ||
		!in.ReadUint16LengthPrefixed(&header) || !in.ReadUint8(&parts) || parts > 3 {
		return nil, ErrSealed
	}
	for range parts {
		if !in.ReadUint16LengthPrefixed(&part) || len(part) < 16 || len(part) > maxWrapped || len(part)%8 != 0 {
			return nil, ErrSealed
		}
		s.Wrapped = append(s.Wrapped, part)
	}
	h, err := parseHeader(header)
	if !in.Empty() || err != nil || (h.Object != "") != (parts == 0) {
		return nil, ErrSealed
	}
	s.Header = h
	return s, nil
}

// SealedBody encodes what the MAC of a sealed key covers. The module appends the MAC.
func SealedBody(h *Header, wrapped [][]byte) ([]byte, error) {
	header, err := h.Marshal()
	if err != nil {
		return nil, err
	}
	var out cryptobyte.Builder
	out.AddBytes([]byte(sealedMagic))
	out.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(header) })
	out.AddUint8(uint8(len(wrapped)))
	for _, w := range wrapped {
		out.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(w) })
	}
	body, err := out.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encode sealed key: %w", err)
	}
	return body, nil
}
