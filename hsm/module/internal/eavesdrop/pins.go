package eavesdrop

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"

	"keyd/hsm"
)

// PINSecrets are the forms of a PIN that nobody may know: its digits, two a byte, one a byte and as text;
// each clear field of it, with the account digits and without; and Visa's transformed security parameter.
// fields are clear PIN fields of 8 bytes, or of 16 in format 4.
func PINSecrets(random *rand.Rand, what, pin, pan string, fields ...[]byte) (list []Secret) {
	forms := []struct {
		kind string
		of   func(string) string
	}{
		{"PIN, two digits a byte", func(pin string) string { return pin }},
		{"PIN, a digit a byte", func(pin string) string { return "0" + strings.Join(strings.Split(pin, ""), "0") }},
		{"PIN, as text", func(pin string) string { return hex.EncodeToString([]byte(pin)) }},
	}
	for _, f := range forms {
		s := Secret{Kind: f.kind, What: what, Digits: f.of(pin)}
		for len(s.Digits) < certain && len(s.Decoys) < 8 {
			if decoy := anyPIN(random, len(pin)); decoy != pin {
				s.Decoys = append(s.Decoys, f.of(decoy))
			}
		}
		list = append(list, s)
	}
	for _, field := range fields {
		kind := "clear PIN field"
		mask := "0000" + account(pan, 12)
		if len(field) == 16 {
			mask = panField4(pan)
			list = append(list, Secret{Kind: "digits of a clear PIN field of format 4", What: what, Digits: hex.EncodeToString(field[:8])})
		}
		list = append(list, Secret{Kind: kind, What: what, Digits: hex.EncodeToString(field)}, Secret{Kind: kind + " with the account digits", What: what, Digits: xorHex(hex.EncodeToString(field), mask)})
	}
	for index := range 10 {
		public := fmt.Sprint(account(pan, 11), index)
		s := Secret{Kind: "transformed security parameter", What: what, Digits: public + pin[:4]}
		if len(strings.TrimLeft(public, "0")) < certain-4 { // of a PAN so short that there are as many zeros elsewhere
			for len(s.Decoys) < 8 {
				if decoy := anyPIN(random, 4); decoy != pin[:4] {
					s.Decoys = append(s.Decoys, public+decoy)
				}
			}
		}
		list = append(list, s)
	}
	return list
}

// KeySecrets are the forms of a key: its value, and the halves of one of TDES.
func KeySecrets(what string, value []byte, algorithm string) []Secret {
	list := []Secret{{Kind: "key", What: what, Digits: hex.EncodeToString(value)}}
	if algorithm == "T" {
		for i := 0; i+8 <= len(value); i += 8 {
			list = append(list, Secret{Kind: "part of a key", What: what, Digits: hex.EncodeToString(value[i : i+8])})
		}
	}
	return list
}

// FieldPattern is what somebody may know of a clear field beforehand ([Wire.Assume]): all but the PIN's
// digits, which nobody may know, and what is random, which is no secret. It is that of the block as it is enciphered, with the account digits in formats 0 and 3.
func FieldPattern(f hsm.Format, length int, pan string) string {
	fill := map[hsm.Format]string{hsm.Format0: "F", hsm.Format3: "?", hsm.Format4: "A"}[f]
	digits := fmt.Sprintf("%d%X", f, length) + strings.Repeat(".", length) + strings.Repeat(fill, 14-length)
	if f == hsm.Format4 {
		return digits + strings.Repeat("?", 16)
	}
	return xorHex(digits, "0000"+account(pan, 12))
}

// account is the n digits before a PAN's check digit, with zeros before them where there are fewer.
func account(pan string, n int) string {
	return (strings.Repeat("0", n) + pan[:len(pan)-1])[len(pan)-1:]
}

func panField4(pan string) string {
	digits := strings.Repeat("0", max(0, 12-len(pan))) + pan
	text := fmt.Sprint(len(digits)-12) + digits
	return text + strings.Repeat("0", 32-len(text))
}

// xorHex combines hex digits; a point or a question mark stays one.
func xorHex(a, b string) string {
	const digits = "0123456789ABCDEF"
	out, b := []byte(strings.ToUpper(a)), strings.ToUpper(b)
	for i := range out {
		if at := strings.IndexByte(digits, out[i]); at >= 0 {
			out[i] = digits[at^strings.IndexByte(digits, b[i])]
		}
	}
	return string(out)
}

func anyPIN(random *rand.Rand, n int) string {
	out := make([]byte, n)
	for i := range out {
		out[i] = '0' + byte(random.IntN(10))
	}
	return string(out)
}
