package pinopstest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"strings"

	"keyd/hsm"
)

// What follows is written from the standards on text of hex digits, and shares no code with what
// the module uses: ISO 9564-1:2017 §9.3 and §9.4, and Visa's PVV.

// pinKey is the value of a key that enciphers PIN blocks.
type pinKey struct {
	value []byte
	aes   bool
}

func (k pinKey) cipher() cipher.Block {
	value, make := k.value, des.NewTripleDESCipher
	switch {
	case k.aes:
		make = aes.NewCipher
	case len(value) == 16:
		value = append(bytes.Clone(value), value[:8]...)
	}
	c, err := make(value)
	if err != nil {
		panic(err) // a key of the suite's own
	}
	return c
}

// seal enciphers a clear field: in formats 0 and 3 its 8 bytes before the account digits go in, in
// format 4 its 16 bytes.
func (k pinKey) seal(f hsm.Format, field []byte, pan string) []byte {
	c, out := k.cipher(), make([]byte, f.BlockSize())
	if f == hsm.Format4 {
		c.Encrypt(out, field)
		c.Encrypt(out, xor(out, panField4(pan)))
		return out
	}
	c.Encrypt(out, xor(field, panField(pan)))
	return out
}

// open is the reverse of seal.
func (k pinKey) open(f hsm.Format, block []byte, pan string) []byte {
	c, out := k.cipher(), make([]byte, f.BlockSize())
	c.Decrypt(out, block)
	if f == hsm.Format4 {
		c.Decrypt(out, xor(out, panField4(pan)))
		return out
	}
	return xor(out, panField(pan))
}

// account is the n digits before a PAN's check digit, with zeros before them where there are fewer.
func account(pan string, n int) string {
	return (strings.Repeat("0", n) + pan[:len(pan)-1])[len(pan)-1:]
}

func panField(pan string) []byte { return unhex("0000" + account(pan, 12)) }

func panField4(pan string) []byte {
	digits := pan
	if len(pan) < 12 {
		digits = strings.Repeat("0", 12-len(pan)) + pan
	}
	text := fmt.Sprint(len(digits)-12) + digits
	return unhex(text + strings.Repeat("0", 32-len(text)))
}

// read takes a PIN and its fill digits out of a clear field, or says that it is none.
func read(f hsm.Format, field []byte) (pin, fill string, ok bool) {
	digits := strings.ToUpper(hex.EncodeToString(field[:8]))
	n := strings.IndexByte("0123456789ABC", digits[1])
	if digits[0] != "0??34"[f] || n < 4 {
		return "", "", false
	}
	pin, fill = digits[2:2+n], digits[2+n:]
	allowed := map[hsm.Format]string{hsm.Format0: "F", hsm.Format3: "ABCDEF", hsm.Format4: "A"}[f]
	if strings.Trim(fill, allowed) != "" {
		return "", "", false
	}
	return pin, fill, true
}

// isDecimal reports whether a PIN is one that somebody can have chosen.
func isDecimal(pin string) bool { return strings.Trim(pin, "0123456789") == "" }

// pvv is Visa's, of the PIN's first four digits, whatever they are.
func pvv(key []byte, pan string, index uint8, pin string) string {
	out := make([]byte, 8)
	pinKey{value: key}.cipher().Encrypt(out, unhex(fmt.Sprintf("%s%d%s", account(pan, 11), index, pin[:4])))
	var first, later []byte
	for _, c := range []byte(strings.ToUpper(hex.EncodeToString(out))) {
		if c <= '9' {
			first = append(first, c)
		} else {
			later = append(later, c-'A'+'0')
		}
	}
	return string(append(first, later...)[:4])
}

func xor(a, b []byte) []byte {
	out := make([]byte, len(a))
	if subtle.XORBytes(out, a, b) != len(b) {
		panic("operands of two lengths")
	}
	return out
}

func unhex(text string) []byte {
	b, err := hex.DecodeString(text)
	if err != nil {
		panic(err) // text of the suite's own
	}
	return b
}
