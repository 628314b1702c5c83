package software

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"keyd/keyblock"
)

// vector is an entry of package keyblock's testdata/tr31.json, each with its source.
type vector struct {
	ID       string `json:"id"`
	Kind     string `json:"kind"`
	KBPK     string `json:"kbpk"`
	KeyBlock string `json:"key_block"`
	Version  string `json:"version"`
	Key      string `json:"key"`
	Valid    bool   `json:"valid"`
	Reason   string `json:"reason"`
}

func vectors(t testing.TB) (unwrap []vector) {
	t.Helper()
	raw, err := os.ReadFile("../testdata/tr31.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		if v.Kind == "unwrap" {
			unwrap = append(unwrap, v)
		}
	}
	if len(unwrap) != 94 {
		t.Fatalf("%d vectors, want 94", len(unwrap))
	}
	return unwrap
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestOpenVectors (X9.143-2021 7.2): those of versions B and D open or are refused as the vectors
// say, and those of others are always refused.
func TestOpenVectors(t *testing.T) {
	opened := map[string]int{}
	for _, v := range vectors(t) {
		algorithm := byte('T')
		if v.Version == "D" {
			algorithm = 'A'
		}
		out := bytes.Repeat([]byte{0xA5}, 256)
		h, n, err := Open(Protection{algorithm, unhex(t, v.KBPK)}, []byte(v.KeyBlock), out)
		if wanted := v.Valid && (v.Version == "B" || v.Version == "D"); (err == nil) != wanted {
			t.Errorf("%s: %v, want valid %t (%s)", v.ID, err, wanted, v.Reason)
			continue
		}
		if err != nil {
			if h != nil || n != 0 || !bytes.Equal(out, bytes.Repeat([]byte{0xA5}, 256)) {
				t.Errorf("%s: something was returned with an error", v.ID)
			}
			var want error
			switch {
			case v.Version != "B" && v.Version != "D":
			case v.Reason == "MAC does not match":
				want = ErrMAC
			case strings.HasPrefix(v.Reason, "MAC correct but"):
				want = ErrLength
			}
			if want != nil && err != want {
				t.Errorf("%s: %v, want it for %s", v.ID, err, v.Reason)
			}
			continue
		}
		opened[v.Version]++
		if !bytes.Equal(out[:n], unhex(t, v.Key)) || out[n] != 0xA5 || string(h.Version) != v.Version {
			t.Errorf("%s: another key, of %d bytes", v.ID, n)
		}
	}
	if opened["B"] != 16 || opened["D"] != 26 {
		t.Errorf("%v were opened", opened)
	}
}

// TestEveryBitCounts: no altered character of a block is accepted.
func TestEveryBitCounts(t *testing.T) {
	for _, v := range vectors(t) {
		if !v.Valid || v.Version != "D" && v.Version != "B" {
			continue
		}
		algorithm := map[string]byte{"B": 'T', "D": 'A'}[v.Version]
		whole, err := keyblock.Parse([]byte(v.KeyBlock))
		if err != nil {
			t.Fatal(err)
		}
		text := whole.Text()
		for i := range text {
			altered := bytes.Clone(text)
			altered[i] ^= 1
			if altered[i] < '0' {
				continue
			}
			if strings.EqualFold(string(altered), string(text)) {
				continue
			}
			if _, _, err := Open(Protection{algorithm, unhex(t, v.KBPK)}, altered, make([]byte, 256)); err == nil {
				t.Errorf("%s: opens with character %d altered", v.ID, i)
			}
		}
	}
}

// TestOpenRefuses what fits nowhere.
func TestOpenRefuses(t *testing.T) {
	var b, d vector
	for _, v := range vectors(t) {
		if v.Valid && v.Version == "B" {
			b = v
		}
		if v.Valid && v.Version == "D" {
			d = v
		}
	}
	key := bytes.Repeat([]byte{7}, 32)
	for name, try := range map[string]struct {
		p     Protection
		block string
		out   int
		want  error
	}{
		"B under AES":               {Protection{'A', key[:16]}, b.KeyBlock, 64, ErrProtection},
		"D under TDES":              {Protection{'T', key[:16]}, d.KeyBlock, 64, ErrProtection},
		"an AES key of 20 bytes":    {Protection{'A', key[:20]}, d.KeyBlock, 64, ErrProtection},
		"single DES":                {Protection{'T', key[:8]}, b.KeyBlock, 64, ErrProtection},
		"another key":               {Protection{'A', key}, d.KeyBlock, 64, ErrMAC},
		"no room":                   {Protection{'A', unhex(t, d.KBPK)}, d.KeyBlock, 1, ErrOutput},
		"nothing":                   {Protection{'A', key}, "", 64, keyblock.ErrShort},
		"an algorithm that is none": {Protection{'H', key}, d.KeyBlock, 64, ErrProtection},
	} {
		if _, n, err := Open(try.p, []byte(try.block), make([]byte, try.out)); err != try.want || n != 0 {
			t.Errorf("%s: %v, want %v", name, err, try.want)
		}
	}
}

// TestCMAC: RFC 4493 4 for AES, NIST SP 800-38B D.4 and D.5 for TDES.
func TestCMAC(t *testing.T) {
	message := unhex(t, "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
	for _, v := range []struct {
		algorithm byte
		key       string
		size      int
		want      string
	}{
		{'A', "2b7e151628aed2a6abf7158809cf4f3c", 0, "bb1d6929e95937287fa37d129b756746"},
		{'A', "2b7e151628aed2a6abf7158809cf4f3c", 16, "070a16b46b4d4144f79bdd9dd04a287c"},
		{'A', "2b7e151628aed2a6abf7158809cf4f3c", 40, "dfa66747de9ae63030ca32611497c827"},
		{'A', "2b7e151628aed2a6abf7158809cf4f3c", 64, "51f0bebf7e3b9d92fc49741779363cfe"},
		{'T', "8aa83bf8cbda10620bc1bf19fbb6cd58bc313d4a371ca8b5", 0, "b7a688e122ffaf95"},
		{'T', "8aa83bf8cbda10620bc1bf19fbb6cd58bc313d4a371ca8b5", 8, "8e8f293136283797"},
		{'T', "8aa83bf8cbda10620bc1bf19fbb6cd58bc313d4a371ca8b5", 20, "743ddbe0ce2dc2ed"},
		{'T', "4cf15134a2850dd58a3d10ba80570d38", 32, "31b1e431dabc4eb8"},
	} {
		c, err := Cipher(v.algorithm, unhex(t, v.key))
		if err != nil {
			t.Fatal(err)
		}
		if got := CMAC(c, message[:v.size]); !bytes.Equal(got, unhex(t, v.want)) {
			t.Errorf("%c, %d bytes: %x, want %s", v.algorithm, v.size, got, v.want)
		}
	}
}

// TestCheckValue: known values of published keys.
func TestCheckValue(t *testing.T) {
	for _, v := range []struct {
		algorithm byte
		key, want string
	}{
		{'T', "0123456789ABCDEFFEDCBA9876543210", "08d7b4"},
		{'A', "00000000000000000000000000000000", "763cbc"},
	} {
		got, err := CheckValue(v.algorithm, unhex(t, v.key))
		if err != nil || hex.EncodeToString(got) != v.want {
			t.Errorf("%c: %x, %v, want %s", v.algorithm, got, err, v.want)
		}
	}
	for algorithm, want := range map[byte]error{'T': ErrKeySize, 'A': ErrKeySize, 'H': ErrAlgorithm} {
		if got, err := CheckValue(algorithm, make([]byte, 8)); err != want || got != nil {
			t.Errorf("%c of 8 bytes: %v", algorithm, err)
		}
	}
}

// FuzzOpen asserts for any key and text: no panic, and nothing returned with an error.
func FuzzOpen(f *testing.F) {
	for _, v := range vectors(f) {
		key, err := hex.DecodeString(v.KBPK)
		if err != nil {
			continue
		}
		f.Add(byte('T'), key, []byte(v.KeyBlock))
		f.Add(byte('A'), key, []byte(v.KeyBlock))
	}
	f.Fuzz(func(t *testing.T, algorithm byte, key, text []byte) {
		out := bytes.Repeat([]byte{0xA5}, MaxKeySize)
		h, n, err := Open(Protection{algorithm, key}, text, out)
		if err != nil && (h != nil || n != 0 || !bytes.Equal(out, bytes.Repeat([]byte{0xA5}, MaxKeySize))) {
			t.Fatal("something was returned with an error")
		}
		if err == nil && (n < 1 || n > MaxKeySize) {
			t.Fatalf("a key of %d bytes", n)
		}
	})
}
