package macops

import (
	"bytes"
	"testing"

	"keyd/dukpt/software"
)

func TestSelfTest(t *testing.T) {
	if err := SelfTest(); err != nil {
		t.Fatal(err)
	}
}

// TestSelfTestSees: another key, or another message, is noticed.
func TestSelfTestSees(t *testing.T) {
	for i := range known {
		for _, s := range []*string{&known[i].key, &known[i].message, &known[i].mac} {
			was := *s
			*s = "00" + was
			if len(was) > 1 {
				*s = was[2:] + "31" // as long as it was
			}
			if SelfTest() == nil {
				t.Errorf("%s passes for %s", *s, was)
			}
			*s = was
		}
	}
	if err := SelfTest(); err != nil {
		t.Fatal(err)
	}
}

// The padding methods of ISO 9797-1:2011 §6.3: whole blocks, and never none.
func TestPadding(t *testing.T) {
	for n, want := range map[int][2]int{0: {8, 8}, 1: {8, 8}, 7: {8, 8}, 8: {8, 16}, 9: {16, 16}, 16: {16, 24}} {
		message := bytes.Repeat([]byte{0x5A}, n)
		for method := uint8(1); method <= 2; method++ {
			got := padded(message, method)
			if len(got) != want[method-1] || !bytes.HasPrefix(got, message) {
				t.Errorf("%d bytes by method %d: %X", n, method, got)
			}
			rest := got[n:]
			if method == 2 {
				if rest[0] != 0x80 {
					t.Errorf("%d bytes by method 2: %X", n, got)
				}
				rest = rest[1:]
			}
			if bytes.ContainsFunc(rest, func(r rune) bool { return r != 0 }) {
				t.Errorf("%d bytes by method %d: %X", n, method, got)
			}
		}
	}
}

// BenchmarkMemory is what a MAC costs that this process computes itself.
func BenchmarkMemory(b *testing.B) {
	var key, left software.TDESKey
	if err := key.Set(fromHex(retailKey)); err != nil {
		b.Fatal(err)
	}
	if err := left.Set(fromHex(retailKey[:16] + retailKey[:16])); err != nil {
		b.Fatal(err)
	}
	message := make([]byte, 128)
	var mac [tdesBlock]byte
	b.Run("algorithm 3, 128 bytes", func(b *testing.B) {
		b.SetBytes(int64(len(message)))
		for b.Loop() {
			algorithm3(&mac, &key, &left, message)
		}
	})
	b.Run("CMAC, 128 bytes", func(b *testing.B) {
		b.SetBytes(int64(len(message)))
		for b.Loop() {
			cmac(&mac, &key, message)
		}
	})
}
