package keyblock

import (
	"bytes"
	"fmt"
)

// parseOptional reads count optional blocks from text, which begin at an offset, and returns
// them with the offset after the last.
func parseOptional(text []byte, at, count int) ([]Optional, int, error) {
	var blocks []Optional
	for i := range count {
		block, size, err := parseBlock(text[at:])
		if err != nil {
			return nil, 0, err
		}
		for _, before := range blocks {
			if before.ID == block.ID {
				return nil, 0, ErrDuplicate
			}
		}
		if block.ID == paddingID && i != count-1 {
			return nil, 0, ErrPaddingPosition
		}
		blocks = append(blocks, block)
		at += size
	}
	return blocks, at, nil
}

// parseBlock reads the optional block with which text begins and returns its length.
func parseBlock(text []byte) (Optional, int, error) {
	if len(text) < 2 || !alphanumeric(text[:2]) {
		return Optional{}, 0, ErrOptionalID
	}
	start, size, err := parseLength(text[2:])
	if err != nil {
		return Optional{}, 0, err
	}
	start += 2
	if size < start {
		return Optional{}, 0, ErrOptionalShort
	}
	if size > len(text) {
		return Optional{}, 0, ErrOptionalData
	}
	if !printable(text[start:size]) {
		return Optional{}, 0, ErrOptionalText
	}
	return Optional{ID: string(text[:2]), Data: string(text[start:size])}, size, nil
}

// parseLength reads a length and returns how many characters it took. The extended form
// counts the digits of the length in characters, as the examples of X9.143-2021 do (CT0004
// and four digits); there are implementations that count them in bytes of two digits.
func parseLength(text []byte) (taken, size int, err error) {
	digits := func(n int) (int, bool) {
		if len(text) < taken+n {
			return 0, false
		}
		value, ok := number(text[taken:taken+n], 16)
		taken += n
		return value, ok
	}
	size, ok := digits(2)
	if !ok {
		return 0, 0, ErrOptionalLength
	}
	if size != 0 {
		return taken, size, nil
	}
	count, ok := digits(2)
	if !ok {
		return 0, 0, ErrOptionalLength
	}
	if count < 1 || count > 8 {
		return 0, 0, ErrLengthOfLength
	}
	if size, ok = digits(count); !ok {
		return 0, 0, ErrOptionalLength
	}
	return taken, size, nil
}

// appendBlock prints an optional block, whose length takes the extended form with four
// digits only where two do not hold it.
func appendBlock(text []byte, block Optional) ([]byte, error) {
	if len(block.ID) != 2 || !alphanumeric(block.ID) {
		return nil, ErrOptionalID
	}
	if !printable(block.Data) {
		return nil, ErrOptionalText
	}
	text = append(text, block.ID...)
	if size := shortestBlock + len(block.Data); size <= 0xFF {
		text = fmt.Appendf(text, "%02X", size)
	} else if size += 6; size <= maxLength { // 00, 04 and four digits instead of two
		text = fmt.Appendf(text, "0004%04X", size)
	} else {
		return nil, ErrTooLong
	}
	return append(text, block.Data...), nil
}

// appendPadding appends a padding block of zeros where length, that of the header, is no
// multiple of the cipher block (X9.143-2021 6.3.6, block PB).
func appendPadding(text []byte, cipherBlock int) []byte {
	missing := -len(text) & (cipherBlock - 1)
	if missing == 0 {
		return text
	}
	if missing < shortestBlock {
		missing += cipherBlock
	}
	text = fmt.Appendf(text, paddingID+"%02X", missing)
	return append(text, bytes.Repeat([]byte{'0'}, missing-shortestBlock)...)
}

// Find returns the data of the optional block with that ID.
func (h *Header) Find(id string) (data string, found bool) {
	for _, block := range h.Blocks {
		if block.ID == id {
			return block.Data, true
		}
	}
	return "", false
}

// content reads the optional block with that ID. It returns [ErrAbsent], or [ErrContent]
// wrapped with the ID where read does not accept the data.
func content[T any](h *Header, id string, read func(data string) (T, bool)) (T, error) {
	var none T
	data, found := h.Find(id)
	if !found {
		return none, ErrAbsent
	}
	value, ok := read(data)
	if !ok {
		return none, fmt.Errorf("%w: %s", ErrContent, id)
	}
	return value, nil
}

// CheckBlocks checks the content of every optional block of a kind that this package reads.
// It returns [ErrContent] wrapped with the ID of the first that is not as the standard says.
// Blocks of the field break this and are genuine all the same: some makers put text of their
// own into KS.
func (h *Header) CheckBlocks() error {
	for _, block := range h.Blocks {
		if accepts, known := kinds[block.ID]; known && !accepts(block.Data) {
			return fmt.Errorf("%w: %s", ErrContent, block.ID)
		}
	}
	return nil
}

// kinds are the optional blocks with a reader.
var kinds = map[string]func(string) bool{
	"AL": accepts(readLife), "BI": accepts(readBaseKeyID), "CT": accepts(readCertificates), "DA": accepts(readDerivations),
	"HM": accepts(readHash), "IK": accepts(readInitialKeyID), "KC": accepts(readCheckValue), "KP": accepts(readCheckValue),
	"KS": accepts(readKSN), "LB": accepts(readLabel), "PK": accepts(readCheckValue), "TC": accepts(readTime),
	"TS": accepts(readTime), "WP": accepts(readPedigree),
}

func accepts[T any](read func(string) (T, bool)) func(string) bool {
	return func(data string) bool {
		_, ok := read(data)
		return ok
	}
}
