package keyblock

import "fmt"

// Encode prints the header of a block whose encrypted key and MAC take body characters
// together, two for each byte, and fills in the length. A padding block of zeros is added
// where the header would be no multiple of the cipher block; one that h already has stays as
// it is and must fit ([ErrPadding]).
//
// What is no header at all gives the error of [Parse] that tells the same, or [ErrFieldSize],
// [ErrTooMany], [ErrTooLong], and [ErrTotalAlignment] where body is negative or makes the
// block no multiple. Whether the fields make sense is a question for [Header.Validate].
func (h *Header) Encode(body int) ([]byte, error) {
	cipherBlock := CipherBlock(h.Version)
	if cipherBlock == 0 {
		return nil, ErrVersion
	}
	if len(h.Usage) != 2 || len(h.KeyVersion) != 2 || len(h.Reserved) != 2 {
		return nil, ErrFieldSize
	}
	if err := h.checkOrder(); err != nil {
		return nil, err
	}

	text := make([]byte, 0, 64)
	text = append(text, h.Version)
	text = append(text, "0000"...) // the length comes last
	text = append(text, h.Usage...)
	text = append(text, h.Algorithm, h.Mode)
	text = append(text, h.KeyVersion...)
	text = append(text, h.Exportability)
	text = append(text, "00"...) // so does the number
	text = append(text, h.Reserved...)
	if !alphanumeric(text) {
		return nil, ErrCharacter
	}
	var err error
	for _, block := range h.Blocks {
		if text, err = appendBlock(text, block); err != nil {
			return nil, err
		}
	}
	count := len(h.Blocks)
	if _, padded := h.Find(paddingID); !padded {
		before := len(text)
		if text = appendPadding(text, cipherBlock); len(text) > before {
			count++
		}
	}
	switch total := len(text) + body; {
	case len(text)%cipherBlock != 0:
		return nil, ErrPadding
	case body < 0 || total%cipherBlock != 0:
		return nil, ErrTotalAlignment
	case body > maxLength || total > maxLength:
		return nil, ErrTooLong
	case count > maxBlocks:
		return nil, ErrTooMany
	default:
		copy(text[1:], fmt.Sprintf("%04d", total))
		copy(text[12:], fmt.Sprintf("%02d", count))
	}
	return text, nil
}

// checkOrder refuses IDs that come twice and a padding block that is not the last.
func (h *Header) checkOrder() error {
	seen := make(map[string]bool, len(h.Blocks))
	for i, block := range h.Blocks {
		if seen[block.ID] {
			return ErrDuplicate
		}
		if block.ID == paddingID && i != len(h.Blocks)-1 {
			return ErrPaddingPosition
		}
		seen[block.ID] = true
	}
	return nil
}
