// Package tries counts how often the PIN, or the card verification value, of an account is
// tried, before anything is compared: no crash and no parallel call gives a try for nothing.
//
// What is counted is what enters the comparison, so that a false label beside it evades no
// limit. The counts and their limits are those of package velocity.
//
// Only hsm/module and its operations use it.
package tries

import (
	"keyd/hsm"
	"keyd/hsm/module/internal/pinverify"
	"keyd/hsm/module/internal/velocity"
	"keyd/pinblock"
)

// Tries counts. The nil Tries limits nothing. It is safe for concurrent use.
type Tries struct{ table *velocity.Table }

// New returns what counts in a table; nil without one.
func New(table *velocity.Table) *Tries {
	if table == nil {
		return nil
	}
	return &Tries{table}
}

// maxSubject is the size of the largest subject in bytes: a fingerprint and what a card
// verification value is made of.
const maxSubject = 32 + CardSize

// Translation counts a translation of an account's PIN and reports whether it is within
// the limits.
//
// It counts for the last 8 of the 12 account digits that formats 0 and 3 combine with the
// PIN. The first ones meet PIN digits, which may be any nibble: with another label the same
// block comes out, and would count for another account. Of a PIN of up to 6 digits none
// meets the last 8.
func (t *Tries) Translation(pan pinblock.PAN) bool {
	var room [maxSubject]byte
	return t == nil || t.table.Count(velocity.Translation, translationSubject(room[:0], pan))
}

// Verification counts a verification under the key of a header, likewise. It counts for the
// account digits of the transformed security parameter or, where there are validation data,
// for those.
func (t *Tries) Verification(h *hsm.Header, pan pinblock.PAN, validation *[pinverify.ValidationSize]byte) bool {
	var room [maxSubject]byte
	return t == nil || t.table.Count(velocity.Verification, verificationSubject(room[:0], h, pan, validation))
}

// CardSize is the size in bytes of what a card verification value is made of.
const CardSize = 16

// Card counts a verification of a card verification value under the key of a header,
// likewise. It counts for what the value is made of, the digits of PAN, expiry date and
// service code: where one ends and the next begins is not part of the value.
func (t *Tries) Card(h *hsm.Header, input *[CardSize]byte) bool {
	var room [maxSubject]byte
	return t == nil || t.table.Count(velocity.Card, append(append(room[:0], h.Fingerprint...), input[:]...))
}

func translationSubject(b []byte, pan pinblock.PAN) []byte {
	var account [8]byte
	pan.Account(account[:])
	return append(b, account[:]...)
}

func verificationSubject(b []byte, h *hsm.Header, pan pinblock.PAN, validation *[pinverify.ValidationSize]byte) []byte {
	b = append(b, h.Fingerprint...)
	if validation != nil {
		return append(b, validation[:]...)
	}
	var account [11]byte
	pan.Account(account[:])
	return append(b, account[:]...)
}

// PermitSubject is what a permit to reset an account's tries is given for. Which
// verification key it is used for is decided by whoever redeems it.
func PermitSubject(pan pinblock.PAN) []byte {
	var account [12]byte
	pan.Account(account[:])
	return append([]byte("permit"), account[:]...)
}
