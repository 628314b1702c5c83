package officer

import (
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// maxSpace bounds the white space around the digits of a secret, so that a descriptor
// that never ends is noticed.
const maxSpace = 4096

// ReadSecretFrom reads a secret from a descriptor: exactly so many bytes as hex digits of
// either case, with any white space in between, up to the end of r.
func ReadSecretFrom(r io.Reader, bytes int) (_ *Secret, err error) {
	s, err := NewSecret(bytes)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Destroy()
		}
	}()
	chunk, err := NewSecret(256)
	if err != nil {
		return nil, err
	}
	defer chunk.Destroy()
	value, digits, space := s.Bytes(), 0, 0
	for {
		n, err := r.Read(chunk.Bytes())
		for _, c := range chunk.Bytes()[:n] {
			if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
				if space++; space > maxSpace {
					return nil, errors.New("the descriptor holds more white space than any component: give one that holds hex digits")
				}
				continue
			}
			v, ok := nibble(c)
			if !ok {
				return nil, errors.New("the descriptor holds something besides hex digits and white space")
			}
			if digits == 2*bytes {
				return nil, fmt.Errorf("the descriptor holds more than the %d hex digits of %d bytes", 2*bytes, bytes)
			}
			value[digits/2] = value[digits/2]<<4 | v
			digits++
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the descriptor: %w", err)
		}
	}
	if digits != 2*bytes {
		return nil, fmt.Errorf("the descriptor holds %d hex digits; %d bytes have %d", digits, bytes, 2*bytes)
	}
	return s, nil
}

// PassphraseFrom reads a passphrase from a descriptor: one line of UTF-8, without its
// line end, and nothing after it. The caller wipes it.
func PassphraseFrom(r io.Reader) ([]byte, error) {
	buffer, err := NewSecret(maxPassphrase + len("\r\n") + 1)
	if err != nil {
		return nil, err
	}
	defer buffer.Destroy()
	n, err := io.ReadFull(r, buffer.Bytes())
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read the passphrase: %w", err)
	}
	line := buffer.Bytes()[:n]
	if len(line) > 0 && line[len(line)-1] == '\n' {
		line = line[:len(line)-1]
		if len(line) > 0 && line[len(line)-1] == '\r' {
			line = line[:len(line)-1]
		}
	}
	if len(line) == 0 {
		return nil, ErrEmptyPassphrase
	}
	if len(line) > maxPassphrase || !utf8.Valid(line) || hasControl(line) {
		return nil, fmt.Errorf("the descriptor must hold the passphrase on one line of at most %d bytes, and nothing else", maxPassphrase)
	}
	return append(make([]byte, 0, len(line)), line...), nil
}

func hasControl(line []byte) bool {
	for _, b := range line {
		if b < 0x20 || b == 0x7f {
			return true
		}
	}
	return false
}
