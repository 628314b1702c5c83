package pinsvc

import (
	"keyd/hsm"
	"keyd/keyuse"
)

// What is kept of an answer is its custody, then either a text with its length and a block
// (translation, generation), or 1 for a right PIN and a text (verification, change). The
// record of key serial numbers outlives this process: the forms stay as they are.

var keptTranslation = keyuse.Form[hsm.TranslatedPIN]{
	Encode: func(a hsm.TranslatedPIN) []byte { return keepBlock(a.Custody, a.CheckValue, a.Block) },
	Decode: func(b []byte) (a hsm.TranslatedPIN, ok bool) {
		a.Custody, a.CheckValue, a.Block, ok = keptBlock(b)
		return a, ok
	},
}

var keptGeneration = keyuse.Form[hsm.GeneratedPIN]{
	Encode: func(a hsm.GeneratedPIN) []byte { return keepBlock(a.Custody, a.Datum, a.Block) },
	Decode: func(b []byte) (a hsm.GeneratedPIN, ok bool) {
		a.Custody, a.Datum, a.Block, ok = keptBlock(b)
		return a, ok
	},
}

var keptVerification = keyuse.Form[hsm.VerifiedPIN]{
	Encode: func(a hsm.VerifiedPIN) []byte { return keepVerdict(a.Custody, a.Verified, "") },
	Decode: func(b []byte) (a hsm.VerifiedPIN, ok bool) {
		a.Custody, a.Verified, _, ok = keptVerdict(b)
		return a, ok && len(b) == 2
	},
}

var keptChange = keyuse.Form[hsm.ChangedPIN]{
	Encode: func(a hsm.ChangedPIN) []byte { return keepVerdict(a.Custody, a.Verified, a.Datum) },
	Decode: func(b []byte) (a hsm.ChangedPIN, ok bool) {
		a.Custody, a.Verified, a.Datum, ok = keptVerdict(b)
		return a, ok
	},
}

func keepBlock(c hsm.Custody, text string, block []byte) []byte {
	b := append(make([]byte, 0, 32), byte(c), byte(len(text)))
	return append(append(b, text...), block...)
}

func keptBlock(b []byte) (c hsm.Custody, text string, block []byte, ok bool) {
	if len(b) < 2 || len(b) < 2+int(b[1]) {
		return 0, "", nil, false
	}
	return hsm.Custody(b[0]), string(b[2 : 2+b[1]]), b[2+b[1]:], true
}

func keepVerdict(c hsm.Custody, verified bool, text string) []byte {
	b := append(make([]byte, 0, 16), byte(c), 0)
	if verified {
		b[1] = 1
	}
	return append(b, text...)
}

func keptVerdict(b []byte) (c hsm.Custody, verified bool, text string, ok bool) {
	if len(b) < 2 || b[1] > 1 {
		return 0, false, "", false
	}
	return hsm.Custody(b[0]), b[1] == 1, string(b[2:]), true
}
