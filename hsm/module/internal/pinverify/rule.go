package pinverify

import (
	"errors"
	"strings"

	"keyd/hsm"
	"keyd/pinblock"
)

// Rule is what an issuer fixes for IBM 3624 with its PVK: the decimalisation table, and
// how validation data follows from a PAN. With a table or a rule of the caller's choice
// offsets would give PINs away, so it comes from the sealed key only.
type Rule struct {
	DecimalizationTable string // 16 decimal digits, see [Rule.Validate]
	Start               uint8  // first PAN digit, 0 = leftmost, up to 18
	Length              uint8  // PAN digits taken, 1 to 16; Start+Length is at most 19
	Pad                 string // one digit, 0 to 9 or A to F, that fills up to 16 on the right
}

// Errors of [Rule.Validate] and of what is computed with a rule.
var (
	ErrTable       = errors.New("decimalization table must have 16 decimal digits")
	ErrWeakTable   = errors.New("decimalization table must have at least 8 different digits, none more than 4 times")
	ErrValidation  = errors.New("validation data must be 1 to 16 digits within a PAN of 19")
	ErrPad         = errors.New("validation pad must be one of 0 to 9 and A to F")
	ErrPANTooShort = errors.New("PAN is too short for the validation-data rule of the key")
	ErrNoRule      = errors.New("no IBM 3624 rule")
)

// Validate checks every field. A table must also spread: with fewer than 8 different
// digits, or one that occurs more than 4 times, natural PINs are few and guessed
// easily (payment HSMs refuse such tables by default; Thales payShield host commands,
// error 25). The error is [ErrTable], [ErrWeakTable], [ErrValidation] or [ErrPad].
func (r Rule) Validate() error {
	if len(r.DecimalizationTable) != 16 || !decimalDigits(r.DecimalizationTable) {
		return ErrTable
	}
	var count [10]int
	different := 0
	for i := range len(r.DecimalizationTable) {
		d := r.DecimalizationTable[i] - '0'
		if count[d] == 0 {
			different++
		}
		if count[d]++; count[d] > 4 {
			return ErrWeakTable
		}
	}
	if different < 8 {
		return ErrWeakTable
	}
	if r.Length < 1 || r.Length > 16 || int(r.Start)+int(r.Length) > pinblock.MaxPANLen {
		return ErrValidation
	}
	if len(r.Pad) != 1 || !strings.Contains(hexDigits, r.Pad) {
		return ErrPad
	}
	return nil
}

// IBM3624 is a validated [Rule] in the form in which it is computed with. The zero value
// has no rule and refuses.
type IBM3624 struct {
	table  [16]byte // 0 to 9
	start  int
	length int
	pad    byte
}

// NewIBM3624 validates a rule. Errors are those of [Rule.Validate].
func NewIBM3624(r Rule) (IBM3624, error) {
	if err := r.Validate(); err != nil {
		return IBM3624{}, err
	}
	m := IBM3624{start: int(r.Start), length: int(r.Length), pad: byte(strings.Index(hexDigits, r.Pad))}
	for i := range m.table {
		m.table[i] = r.DecimalizationTable[i] - '0'
	}
	return m, nil
}

// RuleOf returns the rule that is sealed with a V1 key in the form in which it is computed
// with. Errors are those of [Rule.Validate]; [ErrNoRule] if there is none.
func RuleOf(r *hsm.IBM3624Rule) (IBM3624, error) {
	if r == nil {
		return IBM3624{}, ErrNoRule
	}
	return NewIBM3624(Rule{DecimalizationTable: r.DecimalizationTable, Start: r.Start, Length: r.Length, Pad: r.Pad})
}

// PutValidationData writes the validation data of a PAN to dst: the digits that the
// rule names, then the pad to 16 digits. The error is [ErrPANTooShort] for a PAN that
// ends before those digits do and [ErrNoRule] for the zero IBM3624; dst is then zero.
func (m *IBM3624) PutValidationData(dst *[ValidationSize]byte, pan pinblock.PAN) error {
	clear(dst[:])
	if m.length == 0 {
		return ErrNoRule
	}
	if pan.Len() < m.start+m.length {
		return ErrPANTooShort
	}
	for i := range 2 * ValidationSize {
		d := m.pad
		if i < m.length {
			d = pan.Digit(m.start + i)
		}
		dst[i/2] |= d << (4 * (1 - i%2))
	}
	return nil
}
