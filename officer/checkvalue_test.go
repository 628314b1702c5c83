package officer

import (
	"crypto/aes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	must(t, err)
	return b
}

func vectors(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	must(t, err)
	must(t, json.Unmarshal(text, into))
}

// The files in testdata are the project's shared vectors, kcv.json and components.json; each
// entry names the public source that it was checked against.
//
// methods are those that CheckValue has; the files have others besides.
var methods = map[[2]string]string{
	{"TDES", "legacy_zero_encrypt"}: "T",
	{"AES", "cmac_zero_block"}:      "A",
	{"HMAC", "hmac_sha256_empty"}:   "H",
}

func TestCheckValueVectors(t *testing.T) {
	var all []struct{ ID, Algorithm, Method, Key, KCV string }
	vectors(t, "kcv.json", &all)
	tested := map[string]int{}
	for _, v := range all {
		algorithm, ok := methods[[2]string{v.Algorithm, v.Method}]
		if !ok {
			continue
		}
		tested[algorithm]++
		if got, err := CheckValue(algorithm, unhex(t, v.Key)); err != nil || got != v.KCV[:6] {
			t.Errorf("%s: %s, %v; want %s", v.ID, got, err, v.KCV[:6])
		}
	}
	if tested["T"] < 10 || tested["A"] < 5 || tested["H"] < 1 {
		t.Errorf("tested were %v", tested)
	}
}

func TestComponentVectors(t *testing.T) {
	var all []struct {
		ID, Algorithm, Key, KCV string
		Method                  string `json:"kcv_method"`
		Components              []string
	}
	vectors(t, "components.json", &all)
	tested := 0
	for _, v := range all {
		key := make([]byte, len(v.Key)/2)
		for _, c := range v.Components {
			part := unhex(t, c)
			// Parity bits play no part.
			before, err := CheckValue("T", part)
			must(t, err)
			for i, b := range part {
				key[i] ^= b
				part[i] ^= 1
			}
			if after, err := CheckValue("T", part); err != nil || after != before {
				t.Errorf("%s: a component with the other parity has %s, not %s", v.ID, after, before)
			}
		}
		if got := strings.ToUpper(hex.EncodeToString(key)); got != v.Key {
			t.Errorf("%s: the key is %s, want %s", v.ID, got, v.Key)
		}
		if v.KCV == "" {
			continue
		}
		tested++
		if got, err := CheckValue(methods[[2]string{v.Algorithm, v.Method}], key); err != nil || got != v.KCV[:6] {
			t.Errorf("%s: %s, %v; want %s", v.ID, got, err, v.KCV[:6])
		}
	}
	if len(all) < 4 || tested < 3 {
		t.Errorf("%d vectors, %d with a check value", len(all), tested)
	}
}

func TestCheckValueSizes(t *testing.T) {
	sizes := map[string]func(int) bool{
		"T": func(n int) bool { return n == 16 || n == 24 },
		"A": func(n int) bool { return n == 16 || n == 24 || n == 32 },
		"H": func(n int) bool { return n >= 16 && n <= 64 },
		"R": func(int) bool { return false },
		"":  func(int) bool { return false },
	}
	for algorithm, fits := range sizes {
		for n := range 100 {
			got, err := CheckValue(algorithm, make([]byte, n))
			if (err == nil) != fits(n) || (len(got) == 6) != fits(n) {
				t.Errorf("%q of %d bytes: %q, %v", algorithm, n, got, err)
			}
		}
	}
	// A TDES key of 24 bytes that is one of 16 has its check value.
	two := unhex(t, "0123456789ABCDEFFEDCBA9876543210")
	a, err := CheckValue("T", two)
	must(t, err)
	b, err := CheckValue("T", append(two, two[:8]...))
	must(t, err)
	if a != b || a != "08D7B4" {
		t.Errorf("%s and %s", a, b)
	}
}

// NIST SP 800-38B, appendix D (examples as updated in 2016).
func TestCMAC(t *testing.T) {
	const message = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
	for key, macs := range map[string]map[int]string{
		"2b7e151628aed2a6abf7158809cf4f3c": {
			0: "bb1d6929e95937287fa37d129b756746", 16: "070a16b46b4d4144f79bdd9dd04a287c", 40: "dfa66747de9ae63030ca32611497c827", 64: "51f0bebf7e3b9d92fc49741779363cfe"},
		"8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b": {
			0: "d17ddf46adaacde531cac483de7a9367", 16: "9e99a7bf31e710900662f65e617c5184", 40: "8a1de5be2eb31aad089a82e6ee908b0e", 64: "a1d5df0eed790f794d77589659f39a11"},
		"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4": {
			0: "028962f61b7bf89efc6b551f4667d983", 16: "28a7023f452e8f82bd4bf28d8c37c35c", 40: "aaf3d8f1de5640c232f5b169b9c911e6", 64: "e1992190549f6ed5696a2c056c315410"},
	} {
		c, err := aes.NewCipher(unhex(t, key))
		must(t, err)
		for n, want := range macs {
			if got := cmac(c, unhex(t, message)[:n]); hex.EncodeToString(got[:]) != want {
				t.Errorf("%d bytes under %s: %x, want %s", n, key, got, want)
			}
		}
	}
}
