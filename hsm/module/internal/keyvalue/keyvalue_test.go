package keyvalue

import (
	"bytes"
	"crypto/des"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"testing"
)

// weakKeys are the weak and semi-weak keys of DES (NIST SP 800-67r2 §3.3.2), each with the
// key that undoes what it does.
var weakKeys = [][2]string{
	{"0101010101010101", "0101010101010101"}, {"FEFEFEFEFEFEFEFE", "FEFEFEFEFEFEFEFE"}, {"E0E0E0E0F1F1F1F1", "E0E0E0E0F1F1F1F1"}, {"1F1F1F1F0E0E0E0E", "1F1F1F1F0E0E0E0E"},
	{"011F011F010E010E", "1F011F010E010E01"}, {"01E001E001F101F1", "E001E001F101F101"}, {"01FE01FE01FE01FE", "FE01FE01FE01FE01"},
	{"1FE01FE00EF10EF1", "E01FE01FF10EF10E"}, {"1FFE1FFE0EFE0EFE", "FE1FFE1FFE0EFE0E"}, {"E0FEE0FEF1FEF1FE", "FEE0FEE0FEF1FEF1"},
}

// The 16 weak and semi-weak keys are found in every parity, and no others. That they are weak
// is tried out: one undoes the other.
func TestWeakDESKeys(t *testing.T) {
	found := make(map[string]bool)
	for _, pair := range weakKeys {
		var keys [2][]byte
		for i := range keys {
			var err error
			if keys[i], err = hex.DecodeString(pair[i]); err != nil {
				t.Fatal(err)
			}
			found[pair[i]] = true
			odd := [8]byte(keys[i])
			if !weakDES(&odd) {
				t.Errorf("%s passes", pair[i])
			}
			for at := range 8 {
				for _, bit := range []byte{2, 4, 8, 16, 32, 64, 128} {
					other := odd
					other[at] ^= bit
					OddParity(other[:])
					if weakDES(&other) {
						t.Errorf("%x is no weak key", other)
					}
				}
			}
			for _, beside := range [][]byte{{0x13, 0x57, 0x9B, 0xDF, 0x24, 0x68, 0xAC, 0xE0}} {
				for _, key := range [][]byte{slices.Concat(keys[i], beside), slices.Concat(beside, keys[i]), slices.Concat(beside, []byte("another!"), keys[i])} {
					for _, flipped := range []byte{0, 1} {
						k := bytes.Clone(key)
						for j := range k {
							k[j] ^= flipped
						}
						if Weakness("T", k) == "" {
							t.Errorf("%x passes", k)
						}
					}
				}
			}
		}
		block := []byte("01234567")
		for _, key := range keys {
			c, err := des.NewCipher(key)
			if err != nil {
				t.Fatal(err)
			}
			c.Encrypt(block, block)
		}
		if string(block) != "01234567" {
			t.Errorf("%s does not undo %s", pair[1], pair[0])
		}
	}
	if len(found) != 16 {
		t.Errorf("%d keys", len(found))
	}
}

// What is a good key of one algorithm is judged by it alone.
func TestWeakness(t *testing.T) {
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rand.Uint32()) // of no secret
		}
		return b
	}
	a, b, c := random(8), random(8), random(8)
	for name, k := range map[string]struct {
		algorithm string
		key       []byte
		good      bool
	}{
		"two keys":                {"T", slices.Concat(a, b), true},
		"three keys":              {"T", slices.Concat(a, b, c), true},
		"first and third equal":   {"T", slices.Concat(a, b, a), true},
		"equal":                   {"T", slices.Concat(a, a), false},
		"first and second equal":  {"T", slices.Concat(a, a, b), false},
		"second and third equal":  {"T", slices.Concat(a, b, b), false},
		"equal halves of AES":     {"A", slices.Concat(a, a), true},
		"one byte of AES":         {"A", bytes.Repeat([]byte{7}, 16), false},
		"two bytes of AES":        {"A", bytes.Repeat([]byte{6, 7}, 8), true},
		"parity alone of TDES":    {"T", bytes.Repeat([]byte{6, 7}, 8), false},
		"one byte of HMAC":        {"H", bytes.Repeat([]byte{7}, 20), false},
		"a weak DES key as AES":   {"A", slices.Concat(bytes.Repeat([]byte{1}, 8), a), true},
		"zero of the longest key": {"H", make([]byte, 64), false},
	} {
		if why := Weakness(k.algorithm, k.key); (why == "") != k.good {
			t.Errorf("%s: %q", name, why)
		}
	}
}

func TestOddParity(t *testing.T) {
	for i := range 256 {
		key := []byte{byte(i)}
		OddParity(key)
		ones := 0
		for bit := range 8 {
			ones += int(key[0]) >> bit & 1
		}
		if ones%2 != 1 || key[0]>>1 != byte(i)>>1 {
			t.Errorf("%02X becomes %02X", i, key[0])
		}
	}
}
