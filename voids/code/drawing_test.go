package code_test

import (
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"image/png"
	"io"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"keyd/voids/code"
)

func TestPNG(t *testing.T) {
	s := symbol(t, live(t, 0).Text())
	for _, scale := range []int{1, 3, 10, code.MaxScale} {
		b, err := s.PNG(scale)
		if err != nil {
			t.Fatal(err)
		}
		config, err := png.DecodeConfig(bytes.NewReader(b))
		if err != nil || config.Width != s.Size()*scale || config.Height != s.Size()*scale {
			t.Fatalf("scale %d: %+v, %v", scale, config, err)
		}
		if b[24] != 1 { // bit depth in IHDR
			t.Errorf("scale %d: %d bits per pixel", scale, b[24])
		}
		if scale == code.MaxScale { // 13 million pixels
			continue
		}
		p := developed(t, b)
		for y := range p.height {
			for x := range p.width {
				if want := s.Dark(x/scale, y/scale); (p.at(x, y) == 0) != want || (p.at(x, y) == 1) == want {
					t.Fatalf("scale %d: pixel %d, %d is %v", scale, x, y, p.at(x, y))
				}
			}
		}
	}
	for _, scale := range []int{-1, 0, code.MaxScale + 1, 1 << 40} {
		if b, err := s.PNG(scale); err != code.ErrScale || b != nil {
			t.Errorf("scale %d: %v", scale, err)
		}
	}
}

// TestSVG draws the SVG by what it says, and finds every module in its place and nothing else
// in the file.
func TestSVG(t *testing.T) {
	for _, form := range forms {
		text := form.text(t, 0)
		s := symbol(t, text)
		p := newPicture(s.Size(), s.Size())
		var elements []string
		for d := xml.NewDecoder(bytes.NewReader(s.SVG())); ; {
			token, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			start, ok := token.(xml.StartElement)
			if !ok {
				continue
			}
			element := start.Name.Local
			for _, a := range start.Attr {
				if a.Name.Local == "d" {
					fill(t, p, a.Value)
					continue
				}
				element += " " + a.Name.Local + "=" + a.Value
			}
			elements = append(elements, element)
		}
		want := fmt.Sprintf("svg xmlns=http://www.w3.org/2000/svg viewBox=0 0 %[1]d %[1]d shape-rendering=crispEdges|rect width=%[1]d height=%[1]d fill=#fff|path fill=#000", s.Size())
		if got := strings.Join(elements, "|"); got != want {
			t.Errorf("%s: %s", form.name, got)
		}
		for y := range p.height {
			for x := range p.width {
				if (p.at(x, y) == 0) != s.Dark(x, y) {
					t.Fatalf("%s: module %d, %d", form.name, x, y)
				}
			}
		}
		if got, _, err := p.read(); err != nil || got != text {
			t.Errorf("%s is read as %q: %v", form.name, got, err)
		}
	}
}

// fill draws a path of boxes: M x y, h right, v 1, h left, z.
func fill(t *testing.T, p *picture, path string) {
	t.Helper()
	for box := range strings.SplitSeq(strings.TrimSuffix(path, "z"), "z") {
		var x, y, right, down, left int
		if n, err := fmt.Sscanf(box, "M%d %dh%dv%dh%d", &x, &y, &right, &down, &left); n != 5 || err != nil || down != 1 || left != -right || right < 1 {
			t.Fatalf("box %q: %v", box, err)
		}
		for i := range right {
			if p.at(x+i, y) == 0 {
				t.Fatalf("box %q covers another", box)
			}
			p.pixels[y*p.width+x+i] = 0
		}
	}
}

// screen is a terminal's own colours, in light from 0 to 1.
type screen struct{ background, foreground float64 }

// A cell of a terminal, in pixels: as in most fonts, half of it is not quite a square.
const cellWidth, cellHeight = 9, 19

// show draws text as a terminal does, in a window that has three cells of its own background around it.
func (s screen) show(t *testing.T, text string) *picture {
	t.Helper()
	const margin = 3
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	widest := 0
	for _, line := range lines {
		widest = max(widest, len(s.cells(t, line)))
	}
	p := newPicture((widest+2*margin)*cellWidth, (len(lines)+2*margin)*cellHeight)
	for i := range p.pixels {
		p.pixels[i] = s.background
	}
	for row, line := range lines {
		for column, c := range s.cells(t, line) {
			for y := range cellHeight {
				for x := range cellWidth {
					light := c.background
					if inked(t, c.glyph, x, y) {
						light = c.foreground
					}
					p.pixels[((row+margin)*cellHeight+y)*p.width+(column+margin)*cellWidth+x] = light
				}
			}
		}
	}
	return p
}

type cell struct {
	glyph                  rune
	background, foreground float64
}

// cells obeys the escape sequences of a line. At its end there must be none in force.
func (s screen) cells(t *testing.T, line string) (cells []cell) {
	t.Helper()
	now := s
	for line != "" {
		if rest, ok := strings.CutPrefix(line, "\x1b["); ok {
			sequence, after, ok := strings.Cut(rest, "m")
			if !ok {
				t.Fatalf("unknown escape sequence in %q", line)
			}
			now.obey(t, s, sequence)
			line = after
			continue
		}
		glyph, size := utf8.DecodeRuneInString(line)
		cells = append(cells, cell{glyph, now.background, now.foreground})
		line = line[size:]
	}
	if now != s {
		t.Fatal("colours are in force behind the line")
	}
	return cells
}

// obey sets colours of the fixed palette (38;5;n, 48;5;n) or one's own (0).
func (s *screen) obey(t *testing.T, own screen, sequence string) {
	t.Helper()
	palette := map[string]float64{"16": 0, "231": 1}
	numbers := strings.Split(sequence, ";")
	for len(numbers) > 0 {
		if numbers[0] == "0" {
			*s, numbers = own, numbers[1:]
			continue
		}
		if len(numbers) < 3 || numbers[1] != "5" {
			t.Fatalf("escape sequence %q", sequence)
		}
		light, ok := palette[numbers[2]]
		if !ok {
			t.Fatalf("colour %q is not fixed in every terminal", numbers[2])
		}
		switch numbers[0] {
		case "38":
			s.foreground = light
		case "48":
			s.background = light
		default:
			t.Fatalf("escape sequence %q", sequence)
		}
		numbers = numbers[3:]
	}
}

// inked says where a glyph has ink.
func inked(t *testing.T, glyph rune, x, y int) bool {
	t.Helper()
	switch glyph {
	case ' ':
		return false
	case '█':
		return true
	case '▀':
		return y < cellHeight/2
	case '▄':
		return y >= cellHeight/2
	case '#': // strokes, not a full cell
		return y >= 3 && y < 16 && (x == 2 || x == 3 || x == 6 || x == 7 || y == 6 || y == 7 || y == 11 || y == 12)
	}
	t.Fatalf("glyph %q", glyph)
	return false
}

var (
	darkTerminal  = screen{background: 0.1, foreground: 0.85}
	lightTerminal = screen{background: 0.95, foreground: 0.15}
)

func TestTerminal(t *testing.T) {
	for _, form := range forms {
		text := form.text(t, 0)
		s := symbol(t, text)
		for _, c := range []struct {
			name     string
			style    code.TerminalStyle
			terminal screen
			readable bool
		}{
			{"own colours on dark", code.TerminalStyle{}, darkTerminal, true},
			{"own colours on light", code.TerminalStyle{}, lightTerminal, true},
			{"dark on light", code.TerminalStyle{Colours: code.DarkOnLight}, lightTerminal, true},
			{"inverse on dark", code.TerminalStyle{Colours: code.LightOnDark}, darkTerminal, true},
			{"dark on light, on dark", code.TerminalStyle{Colours: code.DarkOnLight}, darkTerminal, false},
			{"inverse on light", code.TerminalStyle{Colours: code.LightOnDark}, lightTerminal, false},
			{"ASCII, own colours on dark", code.TerminalStyle{ASCII: true}, darkTerminal, true},
			{"ASCII, own colours on light", code.TerminalStyle{ASCII: true}, lightTerminal, true},
			{"ASCII, dark on light", code.TerminalStyle{ASCII: true, Colours: code.DarkOnLight}, lightTerminal, true},
			{"ASCII, inverse on dark", code.TerminalStyle{ASCII: true, Colours: code.LightOnDark}, darkTerminal, true},
			{"ASCII, dark on light, on dark", code.TerminalStyle{ASCII: true, Colours: code.DarkOnLight}, darkTerminal, false},
		} {
			t.Run(form.name+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				drawn, err := s.Terminal(c.style)
				if err != nil {
					t.Fatal(err)
				}
				if c.style.ASCII && strings.IndexFunc(drawn, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0 {
					t.Error("there is more than ASCII in it")
				}
				photographed := c.terminal.show(t, drawn)
				if c.style.ASCII { // strokes are seen from farther away than blocks
					photographed = photographed.scaled(0.25).blurred(1)
				} else {
					photographed = photographed.scaled(0.5)
				}
				got, _, err := photographed.read()
				if (err == nil && got == text) != c.readable {
					t.Errorf("is read as %q: %v", got, err)
				}
			})
		}
	}
}

// TestTerminalSize: it fits in a window, and ends where it should.
func TestTerminalSize(t *testing.T) {
	s := symbol(t, live(t, 0).Text())
	for _, c := range []struct {
		style          code.TerminalStyle
		columns, lines int
	}{{code.TerminalStyle{}, 57, 29}, {code.TerminalStyle{Colours: code.LightOnDark}, 57, 29}, {code.TerminalStyle{ASCII: true}, 114, 57}} {
		drawn, err := s.Terminal(c.style)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfter(drawn, "\n")
		if len(lines) != c.lines+1 || lines[c.lines] != "" {
			t.Errorf("%+v: %d lines", c.style, len(lines)-1)
		}
		for i, line := range lines[:len(lines)-1] {
			if got := len(darkTerminal.cells(t, strings.TrimSuffix(line, "\n"))); got != c.columns {
				t.Errorf("%+v: line %d has %d columns", c.style, i, got)
			}
		}
	}
	for _, colours := range []code.Colours{-1, code.LightOnDark + 1} {
		for _, ascii := range []bool{false, true} {
			if text, err := s.Terminal(code.TerminalStyle{Colours: colours, ASCII: ascii}); err != code.ErrColours || text != "" {
				t.Errorf("colours %d: %v", colours, err)
			}
		}
	}
}

// TestPNGIsSmall: what goes over a mobile network stays small.
func TestPNGIsSmall(t *testing.T) {
	b, err := symbol(t, url(t, live(t, 0), longestHost)).PNG(8)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 4096 {
		t.Error(strconv.Itoa(len(b)) + " bytes")
	}
	if binary.BigEndian.Uint32(b[16:]) != 65*8 {
		t.Error("not 65 modules of 8 pixels")
	}
}
