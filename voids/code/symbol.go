package code

import qr "github.com/piglig/go-qr"

// MaxVersion bounds a symbol: 57 modules on a side, which a reader sees as a whole on
// a slip of 58 mm.
const MaxVersion = 10

// QuietZone is the light border around a symbol, in modules.
const QuietZone = 4

// Level is how much of a symbol may be unreadable.
type Level byte

// Levels of ISO/IEC 18004 that are used, with the share of codewords that can be restored.
const (
	LevelM Level = 'M' // 15 %
	LevelQ Level = 'Q' // 25 %
	LevelH Level = 'H' // 30 %
)

// Symbol is a QR code. It can be drawn any number of times, by several goroutines at once.
type Symbol struct {
	level Level
	code  *qr.QrCode
}

// NewSymbol makes the symbol of a text or URL, in alphanumeric mode. It has level Q, which
// thermal paper needs: heads with dead dots, creases, fading. Where H takes no more modules it
// has H, and M where Q would take more than version 10. The same text gives the same symbol.
// Errors are [ErrCharacters] and [ErrTooBig].
func NewSymbol(text string) (*Symbol, error) {
	segment, err := qr.MakeAlphanumeric(text)
	if err != nil {
		return nil, ErrCharacters
	}
	segments := []*qr.QrSegment{segment}
	const bestMask, asAsked = -1, false
	s := &Symbol{level: LevelQ}
	if s.code, err = qr.EncodeSegments(segments, qr.Quartile, qr.MinVersion, MaxVersion, bestMask, asAsked); err == nil {
		if better, err := qr.EncodeSegments(segments, qr.High, s.Version(), s.Version(), bestMask, asAsked); err == nil {
			s = &Symbol{LevelH, better}
		}
		return s, nil
	}
	s.level = LevelM
	if s.code, err = qr.EncodeSegments(segments, qr.Medium, qr.MinVersion, MaxVersion, bestMask, asAsked); err != nil {
		return nil, ErrTooBig
	}
	return s, nil
}

// Version returns the size as a QR version, 1 to [MaxVersion].
func (s *Symbol) Version() int { return (s.code.Size() - 17) / 4 }

// Level returns the level of error correction.
func (s *Symbol) Level() Level { return s.level }

// Size returns the modules on a side, quiet zone included.
func (s *Symbol) Size() int { return s.code.Size() + 2*QuietZone }

// Dark reports whether a module is dark. The quiet zone, where it begins at 0, 0, is light, and
// so is everything outside.
func (s *Symbol) Dark(x, y int) bool { return s.code.Module(x-QuietZone, y-QuietZone) }
