package audit

import "fmt"

// ellipsis marks what was left out.
const ellipsis = "…"

// PAN is what an entry keeps of a primary account number: its last four digits. The
// zero value stands for an operation without a PAN.
type PAN struct{ shown string }

// MaskPAN keeps the last four digits of a PAN of 9 to 19 digits (ISO/IEC 7812-1),
// shown as "…1111". Of a shorter one, of which four digits would be half or more, and
// of what is no PAN it keeps only that there was one, shown as "…".
func MaskPAN(pan string) PAN {
	if pan == "" {
		return PAN{}
	}
	if len(pan) <= 8 || len(pan) > 19 || !all(pan, digit) {
		return PAN{ellipsis}
	}
	return PAN{ellipsis + pan[len(pan)-4:]}
}

// String returns what is kept.
func (p PAN) String() string { return p.shown }

// MarshalText returns what is kept.
func (p PAN) MarshalText() ([]byte, error) { return []byte(p.shown), nil }

// UnmarshalText reads what [PAN.MarshalText] returns and refuses anything longer.
func (p *PAN) UnmarshalText(b []byte) error {
	s := string(b)
	if s != "" && s != ellipsis && (len(s) != len(ellipsis)+4 || s[:len(ellipsis)] != ellipsis || !all(s[len(ellipsis):], digit)) {
		return fmt.Errorf("%w: a masked PAN has four digits after an ellipsis", ErrEntry)
	}
	p.shown = s
	return nil
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

func upperHex(c byte) bool { return digit(c) || 'A' <= c && c <= 'F' }

func all(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return true
}
