package keyblock

// Header is the header of a key block with its optional blocks.
type Header struct {
	Version       byte   // A, B, C or D
	Usage         string // 2 characters (X9.143-2021 6.3.1)
	Algorithm     byte   // 6.3.2
	Mode          byte   // of use (6.3.3)
	KeyVersion    string // 2 characters; 00 where there is none (6.3.4)
	Exportability byte   // E, N or S (6.3.5)
	Reserved      string // 2 characters: key context, and one reserved (6.2)
	Blocks        []Optional
}

// Optional is an optional block (6.3.6): an ID of 2 characters and data of any length,
// printable ASCII.
type Optional struct{ ID, Data string }

// Places in a header.
const (
	fixedSize     = 16   // without optional blocks
	maxLength     = 9999 // what four decimal digits hold
	maxBlocks     = 99
	paddingID     = "PB"
	shortestBlock = 4 // ID and length
)

// ParseHeader reads a header alone and returns it with its length in characters. What
// follows it in text is not looked at, so the length field must be decimal but may say
// anything. The errors are those down to [ErrPaddingPosition], without [ErrTotalLength] and
// [ErrTotalAlignment].
func ParseHeader(text []byte) (Header, int, error) {
	h, _, count, err := parseFixed(text)
	if err != nil {
		return Header{}, 0, err
	}
	size := fixedSize
	if h.Blocks, size, err = parseOptional(text, size, count); err != nil {
		return Header{}, 0, err
	}
	return h, size, nil
}

// parseFixed reads the first 16 characters.
func parseFixed(text []byte) (h Header, total, count int, err error) {
	if len(text) < fixedSize {
		return Header{}, 0, 0, ErrShort
	}
	text = text[:fixedSize]
	if !alphanumeric(text) {
		return Header{}, 0, 0, ErrCharacter
	}
	h = Header{
		Version: text[0], Usage: string(text[5:7]), Algorithm: text[7], Mode: text[8],
		KeyVersion: string(text[9:11]), Exportability: text[11], Reserved: string(text[14:16]),
	}
	if CipherBlock(h.Version) == 0 {
		return Header{}, 0, 0, ErrVersion
	}
	total, ok := number(text[1:5], 10)
	if !ok {
		return Header{}, 0, 0, ErrLengthField
	}
	if count, ok = number(text[12:14], 10); !ok {
		return Header{}, 0, 0, ErrCountField
	}
	return h, total, count, nil
}

// IsComponent reports whether the key version says that the block holds a component of a
// key and no whole one (X9.143-2021 6.3.4).
func (h *Header) IsComponent() bool { return len(h.KeyVersion) == 2 && h.KeyVersion[0] == 'c' }

// CipherBlock returns the size in bytes of the cipher block of a version, of which all parts
// of a block are multiples: 8 for A, B and C, 16 for D. It is 0 for what is no version.
func CipherBlock(version byte) int {
	switch version {
	case 'A', 'B', 'C':
		return 8
	case 'D':
		return 16
	}
	return 0
}

// MACSize returns the size in bytes of the MAC of a version: 4 for A and C, 8 for B, 16 for
// D. It is 0 for what is no version.
func MACSize(version byte) int {
	switch version {
	case 'A', 'C':
		return 4
	case 'B':
		return 8
	case 'D':
		return 16
	}
	return 0
}
