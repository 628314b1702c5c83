package sealing_test

import (
	"bytes"
	"testing"

	"keyd/hsm"
)

// One key under other names, with other parity bits or written three parts long, has one
// fingerprint: by it the same key is found again (package ksn, velocity).
func TestFingerprintIsOfTheKey(t *testing.T) {
	tok, masters := setUp(t, 1)
	fingerprint := func(name, usage, algorithm string, value []byte) string {
		t.Helper()
		s, err := hsm.ParseSealed(seal(t, tok, masters, header(name, usage, algorithm, "B"), bytes.Clone(value)))
		if err != nil {
			t.Fatal(err)
		}
		return s.Header.Fingerprint
	}
	k1, k2 := []byte{1, 2, 3, 4, 5, 6, 7, 8}, []byte{11, 12, 13, 14, 15, 16, 17, 18}
	double := append(bytes.Clone(k1), k2...)
	other := bytes.Clone(double)
	for i := range other {
		other[i] ^= 1 // the parity bit of each byte
	}
	want := fingerprint("a", "P0", "T", double)
	for name, value := range map[string][]byte{"the same": double, "other parity": other, "K1 K2 K1": append(bytes.Clone(double), k1...)} {
		if got := fingerprint("b", "P0", "T", value); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	other = bytes.Clone(double)
	other[3] ^= 2
	for name, got := range map[string]string{
		"another key": fingerprint("c", "P0", "T", other), "AES": fingerprint("d", "P0", "A", double),
		"three parts": fingerprint("e", "P0", "T", append(bytes.Clone(double), k2...)), "AES with a bit changed": fingerprint("f", "P0", "A", append([]byte{0}, double[1:]...)),
	} {
		if got == want {
			t.Errorf("%s has the same fingerprint", name)
		}
	}
}
