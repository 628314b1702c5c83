package pinblock

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

type vector struct {
	ID        string `json:"id"`
	Format    string `json:"format"`
	Op        string `json:"op"`
	PIN       string `json:"pin"`
	PAN       string `json:"pan"`
	PAN12     string `json:"pan_12"` // account field without check digit
	PANField  string `json:"pan_field"`
	PINField  string `json:"pin_field"`
	Random    string `json:"random"`
	Clear     string `json:"clear_block"`
	Key       string `json:"key"`
	Encrypted string `json:"encrypted_block"`
	Valid     bool   `json:"valid"`
	Computed  struct {
		Clear    string `json:"clear_block"`
		PINField string `json:"pin_field"`
		Random   string `json:"random"`
	} `json:"computed_here"`
}

// Vectors that their source refuses because a PIN digit is above 9. Here they decode,
// and Decimal is false: ISO 9564-1 has control, length and fill checked, not digits.
// (pb-004 is not among them although its stated reason says so: with that PAN the
// difference falls on the first fill digit, which becomes C.)
var nonDecimal = map[string]string{
	"pb-007": "1234F",
	"pb-049": "1234F",
	"pb-073": "1AB2",
}

var formats = map[string]Format{"ISO-0": ISO0, "ISO-1": ISO1, "ISO-3": ISO3, "ISO-4": ISO4}

// TestVectors goes through every published figure: clear blocks both ways, enciphered
// blocks with crypto/des and crypto/aes, PAN fields, and refusals.
func TestVectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/pinblock.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	checked := map[string]int{}
	for _, v := range vectors {
		t.Run(v.ID, func(t *testing.T) {
			f, ok := formats[v.Format]
			switch {
			case !ok:
				testOtherFormat(t, v)
				checked["other format"]++
			case v.PANField != "" && v.PIN == "":
				testPANField(t, f, v)
				checked["PAN field"]++
			case !v.Valid:
				testInvalid(t, f, v)
				checked["invalid"]++
			default:
				testValid(t, f, v)
				checked["valid"]++
			}
		})
	}
	want := map[string]int{"other format": 11, "PAN field": 12, "invalid": 14, "valid": 32}
	for kind, n := range want {
		if checked[kind] != n {
			t.Errorf("%d vectors of kind %q, want %d", checked[kind], kind, n)
		}
	}
}

// testOtherFormat: format 2 is refused as a format, and each of these blocks, of format 2
// or of no ISO format, by every decoder.
func testOtherFormat(t *testing.T, v vector) {
	if strings.HasPrefix(v.Format, "ISO-") {
		number := Format(v.Format[4] - '0')
		if number.Valid() || number.Size() != 0 {
			t.Errorf("%s counts as implemented", v.Format)
		}
		pin := filledPIN(t)
		if err := Decode(pin, number, unhex(t, v.Clear), PAN{}); !errors.Is(err, ErrFormat) {
			t.Errorf("Decode: %v, want ErrFormat", err)
		}
		if *pin != (PIN{}) {
			t.Error("PIN not empty after a refusal")
		}
	}
	block := unhex(t, v.Clear)
	for name, f := range formats {
		pin := filledPIN(t)
		if err := Decode(pin, f, block, PAN{}); !errors.Is(err, ErrBlock) {
			t.Errorf("as %s: %v, want ErrBlock", name, err)
		}
		if *pin != (PIN{}) {
			t.Errorf("as %s: PIN not empty after a refusal", name)
		}
	}
}

func testPANField(t *testing.T, f Format, v vector) {
	got := hex.EncodeToString(panField(v.pan(t), f))
	if want := strings.ToLower(v.PANField); got != want {
		t.Errorf("PAN field %s, want %s", got, want)
	}
}

func testInvalid(t *testing.T, f Format, v vector) {
	pin := filledPIN(t)
	err := Decode(pin, f, v.clear(t, f), v.pan(t))
	if digits, ok := nonDecimal[v.ID]; ok {
		if err != nil {
			t.Fatalf("Decode: %v, want the digits %s", err, digits)
		}
		if got := ascii(pin); got != digits {
			t.Errorf("digits %s, want %s", got, digits)
		}
		if pin.Decimal() {
			t.Error("Decimal is true")
		}
		return
	}
	if err != ErrBlock {
		t.Errorf("Decode: %v, want ErrBlock", err)
	}
	if *pin != (PIN{}) {
		t.Error("PIN not empty after a refusal")
	}
}

func testValid(t *testing.T, f Format, v vector) {
	clearBlock, pan := v.clear(t, f), v.pan(t)
	var pin PIN
	if err := Decode(&pin, f, clearBlock, pan); err != nil {
		t.Fatalf("Decode: %v", err)
	}
	if got := ascii(&pin); got != v.PIN {
		t.Errorf("PIN %s, want %s", got, v.PIN)
	}
	if !pin.Decimal() {
		t.Error("Decimal is false")
	}

	// Encoding gives the block again, with the random digits that the block shows.
	again := make([]byte, f.Size())
	random := randomOf(f, clearBlock, pan, len(v.PIN))
	if err := Encode(again, f, &pin, pan, &random); err != nil {
		t.Fatalf("Encode: %v", err)
	}
	if !bytes.Equal(again, clearBlock) {
		t.Errorf("encoded %X, want %X", again, clearBlock)
	}
	if v.PANField != "" {
		testPANField(t, f, v)
	}
	if v.Encrypted != "" {
		if got := encipher(t, f, unhex(t, v.Key), again, pan); !bytes.Equal(got, unhex(t, v.Encrypted)) {
			t.Errorf("enciphered %X, want %s", got, v.Encrypted)
		}
	}
}

func (v vector) pan(t *testing.T) PAN {
	switch {
	case v.PAN12 != "":
		return mustPAN(t, v.PAN12+"0")
	case v.PAN != "":
		return mustPAN(t, v.PAN)
	default:
		return PAN{}
	}
}

// clear returns the clear block, or for format 4 the PIN field, deciphered where the
// vector has it enciphered only.
func (v vector) clear(t *testing.T, f Format) []byte {
	for _, s := range []string{v.Clear, v.PINField} {
		if s != "" {
			return unhex(t, s)
		}
	}
	got := decipher(t, f, unhex(t, v.Key), unhex(t, v.Encrypted), v.pan(t))
	for _, s := range []string{v.Computed.Clear, v.Computed.PINField} {
		if s != "" && !bytes.Equal(got, unhex(t, s)) {
			t.Errorf("deciphered %X, want %s", got, s)
		}
	}
	return got
}

// randomOf returns the random bytes for which encoding gives block again.
func randomOf(f Format, block []byte, pan PAN, length int) (random [RandomSize]byte) {
	field := append([]byte(nil), block...)
	if f == ISO0 || f == ISO3 {
		mask := pan.Field()
		for i := range field {
			field[i] ^= mask[i]
		}
	}
	digit := func(i int) byte { return field[1+i/2] >> (4 * (1 - i%2)) & 0xF }
	switch f {
	case ISO1:
		for i := length; i < digitsInField; i++ {
			at := i - MinPINLen
			random[at/2] |= digit(i) << (4 * (1 - at%2))
		}
	case ISO3: // the middle of the interval of fractions that begin with these digits
		numerator, denominator := uint64(0), uint64(1)
		for i := MinPINLen; i < digitsInField; i++ {
			d := uint64(0)
			if i >= length {
				d = uint64(digit(i) - 0xA)
			}
			numerator, denominator = numerator*6+d, denominator*6
		}
		width := ^uint64(0) / denominator
		fraction := numerator*width + numerator*(^uint64(0)%denominator)/denominator + width/2
		for i := range random {
			random[i] = byte(fraction >> (56 - 8*i))
		}
	case ISO4:
		copy(random[:], field[BlockSize:])
	}
	return random
}

func blockCipher(t testing.TB, f Format, key []byte) cipher.Block {
	var c cipher.Block
	var err error
	if f == ISO4 {
		c, err = aes.NewCipher(key)
	} else {
		c, err = des.NewTripleDESCipher(append(append([]byte(nil), key...), key[:8]...))
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func encipher(t testing.TB, f Format, key, clearBlock []byte, pan PAN) []byte {
	c, out := blockCipher(t, f, key), make([]byte, len(clearBlock))
	c.Encrypt(out, clearBlock)
	if f == ISO4 {
		if err := pan.XORField4(out); err != nil {
			t.Fatal(err)
		}
		c.Encrypt(out, out)
	}
	return out
}

func decipher(t testing.TB, f Format, key, block []byte, pan PAN) []byte {
	c, out := blockCipher(t, f, key), make([]byte, len(block))
	c.Decrypt(out, block)
	if f == ISO4 {
		if err := pan.XORField4(out); err != nil {
			t.Fatal(err)
		}
		c.Decrypt(out, out)
	}
	return out
}

func panField(pan PAN, f Format) []byte {
	if f == ISO4 {
		field := pan.Field4()
		return field[:]
	}
	field := pan.Field()
	return field[:]
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustPAN(t testing.TB, s string) PAN {
	t.Helper()
	p, err := ParsePAN(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// filledPIN returns a PIN with digits, so that a test sees whether they are gone.
func filledPIN(t testing.TB) *PIN {
	t.Helper()
	p := new(PIN)
	if err := p.SetDigits([]byte("987654321098")); err != nil {
		t.Fatal(err)
	}
	return p
}

// ascii returns the digits of a PIN as hex digits.
func ascii(p *PIN) string {
	var s []byte
	for i := range p.Len() {
		s = append(s, "0123456789ABCDEF"[p.Digit(i)])
	}
	return string(s)
}
