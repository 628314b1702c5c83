package e2e

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// A reference written for these tests alone, on Go's own DES and AES and on strings of
// hex digits, so that it shares nothing with what it checks.

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return b
}

// readVectors reads a file of vectors, of this package or of the one that it is about.
func readVectors[T any](t testing.TB, file string) (out []T) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if len(out) == 0 {
		t.Fatalf("%s holds no vector", file)
	}
	return out
}

func tdes(t testing.TB, key []byte) cipher.Block {
	t.Helper()
	if len(key) == 16 {
		key = append(key[:16:16], key[:8]...)
	}
	c, err := des.NewTripleDESCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func des1(t testing.TB, key []byte) cipher.Block {
	t.Helper()
	c, err := des.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func aesCipher(t testing.TB, key []byte) cipher.Block {
	t.Helper()
	c, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// account is the 12 digits before the check digit.
func account(pan string) string {
	s := strings.Repeat("0", 12) + pan[:len(pan)-1]
	return s[len(s)-12:]
}

func xor(a, b []byte) []byte {
	out := make([]byte, len(a))
	for i := range a {
		out[i] = a[i] ^ b[i]
	}
	return out
}

// iso0 is the clear block of format 0, and with 3 and a fill of format 3.
func iso0(t testing.TB, control, pin, fill, pan string) []byte {
	t.Helper()
	field := control + string("0123456789ABC"[len(pin)]) + pin
	field += strings.Repeat(fill, 16-len(field))
	return xor(unhex(t, field), unhex(t, "0000"+account(pan)))
}

func panField4(t testing.TB, pan string) []byte {
	t.Helper()
	m := max(len(pan)-12, 0)
	s := strings.Repeat("0", max(12-len(pan), 0)) + pan
	s = string("01234567"[m]) + s
	return unhex(t, s+strings.Repeat("0", 32-len(s)))
}

// seal4 is a block of format 4 with a given random half.
func seal4(t testing.TB, key []byte, pin, pan string) []byte {
	t.Helper()
	field := "4" + string("0123456789ABC"[len(pin)]) + pin
	field += strings.Repeat("A", 16-len(field)) + "0123456789ABCDEF"
	return seal4Field(t, key, unhex(t, field), pan)
}

func seal4Field(t testing.TB, key, field []byte, pan string) []byte {
	t.Helper()
	c := aesCipher(t, key)
	block := make([]byte, 16)
	c.Encrypt(block, field)
	c.Encrypt(block, xor(block, panField4(t, pan)))
	return block
}

func encrypt(c cipher.Block, clear []byte) []byte {
	out := make([]byte, len(clear))
	c.Encrypt(out, clear)
	return out
}
