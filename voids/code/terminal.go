package code

import "strings"

// Colours says how a terminal shows dark and light.
type Colours int

// Colours of a terminal. Whoever writes to a file, or to a terminal without colours, knows
// which of the last two is right.
const (
	OwnColours  Colours = iota // black on white by escape sequences, on any terminal
	DarkOnLight                // the terminal's own: a light background
	LightOnDark                // the inverse: a dark background
)

// TerminalStyle says what a terminal can show.
type TerminalStyle struct {
	Colours Colours
	ASCII   bool // no UTF-8: a module is two characters wide and a line high, not one and a half
}

// Black and white of the fixed part of the palette of 256 colours: those of the first 16 are
// whatever the user's theme makes of them.
const (
	blackOnWhite = "\x1b[38;5;16;48;5;231m"
	black        = "\x1b[48;5;16m"
	white        = "\x1b[48;5;231m"
	reset        = "\x1b[0m"
)

// Terminal draws the symbol with its quiet zone as lines of text, each with a line feed. The
// error is [ErrColours].
func (s *Symbol) Terminal(style TerminalStyle) (string, error) {
	if style.Colours < OwnColours || style.Colours > LightOnDark {
		return "", ErrColours
	}
	var b strings.Builder
	if style.ASCII {
		for y := range s.Size() {
			s.asciiLine(&b, y, style.Colours)
		}
		return b.String(), nil
	}
	for y := 0; y < s.Size(); y += 2 { // below the last line is one more of the quiet zone
		s.halfBlockLine(&b, y, style.Colours)
	}
	return b.String(), nil
}

// halfBlockLine draws two rows of modules.
func (s *Symbol) halfBlockLine(b *strings.Builder, y int, colours Colours) {
	if colours == OwnColours {
		b.WriteString(blackOnWhite)
	}
	for x := range s.Size() {
		upper, lower := s.Dark(x, y), s.Dark(x, y+1)
		if colours == LightOnDark {
			upper, lower = !upper, !lower
		}
		switch {
		case upper && lower:
			b.WriteRune('█')
		case upper:
			b.WriteRune('▀')
		case lower:
			b.WriteRune('▄')
		default:
			b.WriteByte(' ')
		}
	}
	if colours == OwnColours {
		b.WriteString(reset)
	}
	b.WriteByte('\n')
}

// asciiLine draws one row of modules.
func (s *Symbol) asciiLine(b *strings.Builder, y int, colours Colours) {
	last := ""
	for x := range s.Size() {
		dark := s.Dark(x, y)
		if colours == OwnColours {
			sequence := white
			if dark {
				sequence = black
			}
			if sequence != last {
				b.WriteString(sequence)
				last = sequence
			}
			b.WriteString("  ")
			continue
		}
		if dark == (colours == DarkOnLight) {
			b.WriteString("##")
		} else {
			b.WriteString("  ")
		}
	}
	if colours == OwnColours {
		b.WriteString(reset)
	}
	b.WriteByte('\n')
}
