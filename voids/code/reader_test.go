package code_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"keyd/voids/code"
)

// longHost and longestHost are the longest with level Q, and the longest of all.
var (
	longHost    = strings.Repeat("a", 49) + ".com"
	longestHost = strings.Repeat("a", 61) + "." + strings.Repeat("b", 63) + ".de"
)

// forms are what is drawn, with the size that it has to have.
var forms = []struct {
	name       string
	text       func(t testing.TB, number uint64) string
	characters int
	version    int
	level      code.Level
}{
	{"slip", func(t testing.TB, n uint64) string { return slip(t, n).Text() }, 48, 4, code.LevelH},
	{"slip, URL", func(t testing.TB, n uint64) string { return url(t, slip(t, n), host) }, 75, 5, code.LevelQ},
	{"live", func(t testing.TB, n uint64) string { return live(t, n).Text() }, 157, 8, code.LevelQ},
	{"live, URL", func(t testing.TB, n uint64) string { return url(t, live(t, n), host) }, 184, 9, code.LevelQ},
	{"live, URL of a long host", func(t testing.TB, n uint64) string { return url(t, live(t, n), longHost) }, 221, 10, code.LevelQ},
	{"live, URL of the longest host", func(t testing.TB, n uint64) string { return url(t, live(t, n), longestHost) }, 296, 10, code.LevelM},
}

func symbol(t testing.TB, text string) *code.Symbol {
	t.Helper()
	s, err := code.NewSymbol(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// printed draws a symbol as a PNG and looks at it.
func printed(t testing.TB, s *code.Symbol, scale int) *picture {
	t.Helper()
	b, err := s.PNG(scale)
	if err != nil {
		t.Fatal(err)
	}
	return developed(t, b)
}

// maltreatments are what happens to a code between printer and scanner. A module is as many
// pixels as scale says before it.
var maltreatments = []struct {
	name  string
	scale int
	do    func(p *picture, random *rand.Rand, side int) *picture
}{
	{"as drawn, 1 pixel per module", 1, func(p *picture, _ *rand.Rand, _ int) *picture { return p }},
	{"as drawn", 4, func(p *picture, _ *rand.Rand, _ int) *picture { return p }},
	{"scaled down to 3 pixels per module", 8, func(p *picture, _ *rand.Rand, _ int) *picture { return p.scaled(3.0 / 8) }},
	{"scaled down to 2.6", 8, func(p *picture, _ *rand.Rand, _ int) *picture { return p.scaled(2.6 / 8) }},
	{"scaled down to 2.2", 8, func(p *picture, _ *rand.Rand, _ int) *picture { return p.scaled(2.2 / 8) }},
	{"scaled down to 2", 8, func(p *picture, _ *rand.Rand, _ int) *picture { return p.scaled(2.0 / 8) }},
	{"turned by any angle", 6, func(p *picture, r *rand.Rand, _ int) *picture { return p.rotated(360 * r.Float64()) }},
	{"out of focus by 0.3 modules", 8, func(p *picture, _ *rand.Rand, _ int) *picture { return p.blurred(0.3 * 8) }},
	{"salt and pepper, a tenth of the dots", 8, func(p *picture, r *rand.Rand, _ int) *picture { return p.noised(r, 0.1).scaled(0.5) }},
	{"salt and pepper, a twentieth of the pixels", 4, func(p *picture, r *rand.Rand, _ int) *picture { return p.noised(r, 0.05) }},
	{"3 dead dots, each a quarter of a module", 4, func(p *picture, r *rand.Rand, _ int) *picture {
		return p.withoutColumns(r.IntN(p.width), r.IntN(p.width), r.IntN(p.width))
	}},
	// The column beside the finder pattern has both copies of the format: without it no code is read.
	{"a column of modules is missing between the finder patterns", 4, func(p *picture, r *rand.Rand, side int) *picture {
		first := code.QuietZone + 9
		x := 4 * (first + r.IntN(side-2*first))
		return p.withoutColumns(x, x+1, x+2, x+3)
	}},
	{"a tenth of the contrast", 4, func(p *picture, _ *rand.Rand, _ int) *picture { return p.faded(0.65, 0.75) }},
	{"a dead dot, turned, small, blurred, faded and noised", 8, func(p *picture, r *rand.Rand, _ int) *picture {
		x := r.IntN(p.width - 1)
		return p.withoutColumns(x, x+1).rotated(360*r.Float64()).scaled(0.5).blurred(0.6).faded(0.35, 0.8).noised(r, 0.005)
	}},
}

// TestIndependentReader has another library read what was drawn, after it was maltreated. Codes
// and damage are the same in each run.
func TestIndependentReader(t *testing.T) {
	const codes = 3
	for i, form := range forms {
		for j, m := range maltreatments {
			t.Run(form.name+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				for n := range uint64(codes) {
					text := form.text(t, n)
					s := symbol(t, text)
					random := rand.New(rand.NewPCG(uint64(1+i*len(maltreatments)+j), n))
					got, level, err := m.do(printed(t, s, m.scale), random, s.Size()).read()
					if err != nil || got != text || level != string(rune(s.Level())) {
						t.Errorf("code %d is read as %q, level %q: %v", n, got, level, err)
					}
				}
			})
		}
	}
}

// TestReaderSeesDamage shows that the reader does not read whatever it is given: a code without
// its middle is not read, nor one that is turned into noise.
func TestReaderSeesDamage(t *testing.T) {
	for _, form := range forms {
		p := printed(t, symbol(t, form.text(t, 0)), 4)
		var middle []int
		for x := p.width / 3; x < p.width*2/3; x++ {
			middle = append(middle, x)
		}
		for name, damaged := range map[string]*picture{
			"without its middle": p.withoutColumns(middle...), "noised": p.noised(rand.New(rand.NewPCG(1, 2)), 0.9), "out of focus": p.blurred(8),
		} {
			if got, _, err := damaged.read(); err == nil {
				t.Errorf("%s, %s, is read as %q", form.name, name, got)
			}
		}
	}
}

// TestSizes holds the size of each form: a code that grows is harder to read from paper.
func TestSizes(t *testing.T) {
	for _, form := range forms {
		for n := range uint64(20) {
			text := form.text(t, n)
			s := symbol(t, text)
			if len(text) != form.characters || s.Version() != form.version || s.Level() != form.level || s.Size() != 17+4*form.version+2*code.QuietZone {
				t.Fatalf("%s: %d characters, version %d-%c, %d modules", form.name, len(text), s.Version(), s.Level(), s.Size())
			}
			if s.Version() > 10 {
				t.Errorf("%s: version %d", form.name, s.Version())
			}
		}
	}
	if len(longHost) != 53 || len(longestHost) != code.MaxHost {
		t.Errorf("hosts of %d and %d characters", len(longHost), len(longestHost))
	}
	if s := symbol(t, url(t, live(t, 0), "a"+longHost)); s.Level() != code.LevelM || s.Version() > code.MaxVersion {
		t.Errorf("with a host of 54 characters: %d-%c", s.Version(), s.Level())
	}
}

// TestQuietZone looks at every module of the border.
func TestQuietZone(t *testing.T) {
	for _, form := range forms {
		s := symbol(t, form.text(t, 0))
		for y := -1; y <= s.Size(); y++ {
			for x := -1; x <= s.Size(); x++ {
				inside := x >= 4 && y >= 4 && x < s.Size()-4 && y < s.Size()-4
				if s.Dark(x, y) && !inside {
					t.Fatalf("%s: %d, %d is dark", form.name, x, y)
				}
			}
		}
		for _, corner := range [][2]int{{4, 4}, {s.Size() - 5, 4}, {4, s.Size() - 5}} {
			if !s.Dark(corner[0], corner[1]) {
				t.Errorf("%s: no finder pattern at %v", form.name, corner)
			}
		}
	}
}

func TestSymbolRefuses(t *testing.T) {
	for text, want := range map[string]error{
		"a": code.ErrCharacters, "A\n": code.ErrCharacters, "Ä": code.ErrCharacters, "A#": code.ErrCharacters, "\x00": code.ErrCharacters,
		strings.Repeat("A", 312): code.ErrTooBig,
	} {
		if s, err := code.NewSymbol(text); err != want || s != nil {
			t.Errorf("%.10q: %v, %v", text, s, err)
		}
	}
	if s := symbol(t, strings.Repeat("A", 311)); s.Version() != 10 || s.Level() != code.LevelM { // ISO/IEC 18004:2015 table 7
		t.Errorf("%d-%c", s.Version(), s.Level())
	}
	if s := symbol(t, strings.Repeat("A", 221)); s.Version() != 10 || s.Level() != code.LevelQ {
		t.Errorf("%d-%c", s.Version(), s.Level())
	}
}

// TestSameTextSameSymbol: a void's code may be drawn again.
func TestSameTextSameSymbol(t *testing.T) {
	for _, form := range forms {
		text := form.text(t, 3)
		if a, b := symbol(t, text).SVG(), symbol(t, text).SVG(); string(a) != string(b) {
			t.Errorf("%s is drawn in two ways", form.name)
		}
	}
}

func ExampleSymbol_Terminal() {
	s, err := code.NewSymbol("VOID")
	if err != nil {
		return
	}
	text, err := s.Terminal(code.TerminalStyle{Colours: code.DarkOnLight, ASCII: true})
	if err != nil {
		return
	}
	lines := strings.Split(text, "\n")
	fmt.Println(len(lines)-1, "lines of", len(lines[0]), "characters")
	// Output: 29 lines of 58 characters
}
