package officer

import "errors"

// lineBytes are the bytes of a component on one line of paper: sixteen digits.
const lineBytes = 8

// Groups returns a component as text for writing down, in memory like its own: lines of
// sixteen upper-case hex digits in groups of four, then two more digits that check the
// line, for [Terminal.ReadWritten]:
//
//	1F2A 77B0 0042 99C3  5D
//
// The last line is shorter where the size is no multiple of eight. Each line ends in a
// newline.
func Groups(component *Secret) (*Secret, error) {
	value := component.Bytes()
	if len(value) == 0 {
		return nil, errors.New("there is no component to show: it was destroyed")
	}
	size := 0
	for line := range lines(len(value)) {
		n := lineLength(len(value), line)
		size += 2*n + (n-1)/2 + len("  00\n")
	}
	text, err := NewSecret(size)
	if err != nil {
		return nil, err
	}
	out := text.Bytes()[:0]
	for line := range lines(len(value)) {
		part := value[line*lineBytes:][:lineLength(len(value), line)]
		for i, b := range part {
			if i > 0 && i%2 == 0 {
				out = append(out, ' ')
			}
			out = append(out, digit(b>>4), digit(b&15))
		}
		check := lineCheck(line+1, part)
		out = append(out, ' ', ' ', digit(check>>4), digit(check&15), '\n')
	}
	return text, nil
}

// lines counts the lines of a component.
func lines(bytes int) int { return (bytes + lineBytes - 1) / lineBytes }

// lineLength returns the bytes on a line, which is counted from 0.
func lineLength(bytes, line int) int { return min(lineBytes, bytes-line*lineBytes) }

// lineCheck is a CRC of eight bits (x^8+x^2+x+1) over the bytes of a line. It begins with
// the number of the line, from 1, so that lines in the wrong order are noticed. One wrong
// digit and two digits swapped are always noticed. It is no secret: it stands on the paper
// beside what it checks, and is shown nowhere else.
func lineCheck(number int, part []byte) byte {
	crc := byte(number)
	for _, b := range part {
		crc ^= b
		for range 8 {
			crc = crc<<1 ^ 0x07*(crc>>7)
		}
	}
	return crc
}

// digit returns a hex digit without a table, whose place in memory would depend on it.
func digit(nibble byte) byte {
	return '0' + nibble + ('A'-'9'-1)*((nibble+6)>>4)
}

// nibble returns the value of a hex digit.
func nibble(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
