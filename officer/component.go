package officer

import (
	"fmt"
	"strings"
)

// Digits are drawn in groups, and the groups in rows that fit on any terminal.
const (
	groupDigits = 4
	rowDigits   = 32
	indent      = "  "
)

// ReadComponent asks for a component of so many bytes as hex digits. Each digit shows as
// *, with a space after every four; backspace takes one back, Ctrl-U all; spaces are
// passed over, and anything else rings. Enter is taken when all digits are there.
func (t *Terminal) ReadComponent(label string, bytes int) (*Secret, error) {
	return t.digits(fmt.Sprintf("%s (%d hex digits, then Enter)", label, 2*bytes), bytes)
}

// ReadWritten asks for a component that was written down as [Groups] shows it, line by
// line with the two digits that check each line. A line that does not fit its check is
// asked for again.
func (t *Terminal) ReadWritten(label string, bytes int) (_ *Secret, err error) {
	component, err := NewSecret(bytes)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			component.Destroy()
		}
	}()
	total, problem := lines(bytes), ""
	for line := 0; line < total; {
		part := component.Bytes()[line*lineBytes:][:lineLength(bytes, line)]
		question := fmt.Sprintf("%s%s, line %d of %d (%d hex digits and 2 that check them)", problem, label, line+1, total, 2*len(part))
		typed, err := t.digits(question, len(part)+1)
		if err != nil {
			return nil, err
		}
		if fits := lineCheck(line+1, typed.Bytes()[:len(part)]) == typed.Bytes()[len(part)]; fits {
			copy(part, typed.Bytes())
			line, problem = line+1, ""
		} else {
			problem = fmt.Sprintf("Line %d does not fit its check: compare it with the paper and type it again.\n", line+1)
		}
		typed.Destroy()
	}
	return component, nil
}

// digits is the dialogue for hex digits, packed into bytes as they are typed.
func (t *Terminal) digits(question string, bytes int) (*Secret, error) {
	s, err := NewSecret(bytes)
	if err != nil {
		return nil, err
	}
	err = t.raw("", func(k *keyboard) error {
		k.write(shown(question) + ":\r\n" + indent)
		defer k.write("\r\n")
		row := &digitRow{k: k, value: s.Bytes()}
		for {
			b, err := k.key()
			if err != nil {
				return err
			}
			v, isDigit := nibble(b)
			switch {
			case isDigit && row.missing() > 0:
				row.put(v)
			case b == '\r' || b == '\n':
				if row.missing() == 0 {
					return nil
				}
				row.hint()
			case b == backspace || b == deleted:
				row.takeBack()
			case b == ctrlU:
				for row.n > 0 {
					row.takeBack()
				}
			case b == ctrlD && row.n == 0:
				return ErrInterrupted
			case b == ' ' || b == '\t':
			default:
				k.ring()
			}
		}
	})
	if err != nil {
		s.Destroy()
		return nil, err
	}
	return s, nil
}

// digitRow holds the digits typed so far, and draws them.
type digitRow struct {
	k     *keyboard
	value []byte
	n     int // digits
}

func (r *digitRow) missing() int { return 2*len(r.value) - r.n }

func (r *digitRow) put(v byte) {
	r.value[r.n/2] |= v << (4 * (1 - r.n%2))
	r.n++
	r.k.write(r.drawn(r.n))
}

// drawn returns what the n-th digit looks like, from 1: the gap after it is drawn with it.
func (r *digitRow) drawn(n int) string { return "*" + r.gap(n) }

// gap returns what stands between digit n and the next.
func (r *digitRow) gap(n int) string {
	switch {
	case n == 2*len(r.value):
		return ""
	case n%rowDigits == 0:
		return "\r\n" + indent
	case n%groupDigits == 0:
		return " "
	}
	return ""
}

func (r *digitRow) takeBack() {
	if r.n == 0 {
		r.k.ring()
		return
	}
	switch r.gap(r.n) {
	case "":
		r.k.write("\b \b")
	case " ":
		r.k.write("\b\b \b")
	default: // up to the last digit of the row above
		column := len(indent) + rowDigits + rowDigits/groupDigits - 1 - 1
		r.k.write(fmt.Sprintf("\x1b[A\r\x1b[%dC \b", column))
	}
	r.n--
	r.value[r.n/2] &= 0xF0 * byte(r.n%2)
}

// hint says what is missing and draws the digits again.
func (r *digitRow) hint() {
	var again strings.Builder
	for n := range r.n {
		again.WriteString(r.drawn(n + 1))
	}
	r.k.write(fmt.Sprintf("\a\r\n%s\r\n%s%s", missing(r.missing()), indent, again.String()))
}

func missing(digits int) string {
	if digits == 1 {
		return "1 digit is missing; Ctrl-C gives up."
	}
	return fmt.Sprintf("%d digits are missing; Ctrl-C gives up.", digits)
}

// Show shows a text that was made by [Groups], on a screen of its own that is gone, also
// from the lines one can scroll back to, when Enter is typed.
func (t *Terminal) Show(title string, text *Secret) error {
	const enter, leave = "\x1b[?1049h\x1b[2J\x1b[H", "\x1b[2J\x1b[H\x1b[?1049l"
	return t.raw(leave, func(k *keyboard) error {
		k.write(enter + shown(title) + "\r\n\r\n" + indent)
		rest := text.Bytes()
		for i := 0; i < len(rest); {
			if rest[i] != '\n' {
				i++
				continue
			}
			k.writeBytes(rest[:i])
			k.write("\r\n" + indent)
			rest, i = rest[i+1:], 0
		}
		k.writeBytes(rest)
		k.write("\r\nWrite it down, compare it, and press Enter.")
		for {
			switch b, err := k.key(); {
			case err != nil:
				return err
			case b == '\r' || b == '\n':
				return nil
			}
			k.ring()
		}
	})
}
