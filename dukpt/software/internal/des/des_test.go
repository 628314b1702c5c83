package des

import (
	cryptodes "crypto/des"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"pgregory.net/rapid"
)

// weakKeys are the weak and semi-weak keys of NIST SP 800-67 rev. 2, 3.3.2, with and without parity.
var weakKeys = []uint64{
	0x0101010101010101, 0xFEFEFEFEFEFEFEFE, 0xE0E0E0E0F1F1F1F1, 0x1F1F1F1F0E0E0E0E,
	0x011F011F010E010E, 0x1F011F010E010E01, 0x01E001E001F101F1, 0xE001E001F101F101,
	0x01FE01FE01FE01FE, 0xFE01FE01FE01FE01, 0x1FE01FE00EF10EF1, 0xE01FE01FF10EF10E,
	0x1FFE1FFE0EFE0EFE, 0xFE1FFE1FFE0EFE0E, 0xE0FEE0FEF1FEF1FE, 0xFEE0FEE0FEF1FEF1,
	0x0000000000000000, 0xFFFFFFFFFFFFFFFF, 0xC0C0C0C000000000,
}

func keys() *rapid.Generator[uint64] {
	return rapid.OneOf(rapid.Uint64(), rapid.SampledFrom(weakKeys))
}

func be(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// FIPS 46-3 has no figures of its own; this one is NIST SP 500-20's first of the S-box test.
func TestSingleKnownAnswer(t *testing.T) {
	var s Schedule
	s.Expand(0x7CA110454A1A6E57)
	if got := s.Encrypt(0x01A1D6D039776742); got != 0x690F5B0D9A26939B {
		t.Errorf("Encrypt = %016X", got)
	}
	if got := s.Decrypt(0x690F5B0D9A26939B); got != 0x01A1D6D039776742 {
		t.Errorf("Decrypt = %016X", got)
	}
}

func TestSingleEqualsCryptoDES(t *testing.T) {
	check := func(t interface {
		Fatalf(string, ...any)
	}, key, block uint64) {
		var s Schedule
		s.Expand(key)
		want, err := cryptodes.NewCipher(be(key))
		if err != nil {
			t.Fatalf("crypto/des: %v", err)
		}
		out := make([]byte, 8)
		want.Encrypt(out, be(block))
		if got := be(s.Encrypt(block)); string(got) != string(out) {
			t.Fatalf("key %016X: Encrypt(%016X) = %x, want %x", key, block, got, out)
		}
		want.Decrypt(out, be(block))
		if got := be(s.Decrypt(block)); string(got) != string(out) {
			t.Fatalf("key %016X: Decrypt(%016X) = %x, want %x", key, block, got, out)
		}
	}
	for _, key := range weakKeys {
		for _, block := range weakKeys {
			check(t, key, block)
		}
	}
	for i := range 64 { // every single bit of key and of block
		check(t, 1<<i, 0x0123456789ABCDEF)
		check(t, 0x0123456789ABCDEF, 1<<i)
	}
	rapid.Check(t, func(t *rapid.T) {
		check(t, keys().Draw(t, "key"), rapid.Uint64().Draw(t, "block"))
	})
}

func TestTripleEqualsCryptoDES(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k1, k2, k3 := keys().Draw(t, "k1"), keys().Draw(t, "k2"), keys().Draw(t, "k3")
		key := append(be(k1), be(k2)...)
		full := append(append([]byte{}, key...), be(k1)...)
		if rapid.Bool().Draw(t, "three keys") {
			key = append(key, be(k3)...)
			full = key
		}
		block := rapid.Uint64().Draw(t, "block")
		want, err := cryptodes.NewTripleDESCipher(full)
		if err != nil {
			t.Fatal(err)
		}
		var k Triple
		if !k.Expand(key) {
			t.Fatalf("Expand refuses %d bytes", len(key))
		}
		out := make([]byte, 8)
		want.Encrypt(out, be(block))
		if got := be(k.Encrypt(block)); string(got) != string(out) {
			t.Fatalf("key %X: Encrypt(%016X) = %x, want %x", key, block, got, out)
		}
		want.Decrypt(out, be(block))
		if got := be(k.Decrypt(block)); string(got) != string(out) {
			t.Fatalf("key %X: Decrypt(%016X) = %x, want %x", key, block, got, out)
		}
	})
}

func TestTripleRefusesOtherLengths(t *testing.T) {
	for n := range 40 {
		var k Triple
		if ok := k.Expand(make([]byte, n)); ok != (n == 16 || n == 24) {
			t.Errorf("%d bytes: %v", n, ok)
		}
		if k != (Triple{}) && n != 16 && n != 24 {
			t.Errorf("%d bytes: schedule changed", n)
		}
	}
}

func TestEncryptPairEqualsTwoKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key, mask := keys().Draw(t, "key"), keys().Draw(t, "mask")
		a, b := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")
		var s, m, both Schedule
		s.Expand(key)
		m.Expand(mask)
		both.Expand(key ^ mask)
		gotA, gotB := s.EncryptPair(&m, a, b)
		if wantA, wantB := s.Encrypt(a), both.Encrypt(b); gotA != wantA || gotB != wantB {
			t.Fatalf("EncryptPair = %016X %016X, want %016X %016X", gotA, gotB, wantA, wantB)
		}
	})
}

func TestParityIsIgnored(t *testing.T) {
	var a, b Schedule
	a.Expand(0x0123456789ABCDEF)
	b.Expand(0x0123456789ABCDEF ^ 0x0101010101010101)
	if a != b {
		t.Error("parity bits change the schedule")
	}
}

func BenchmarkSchedule(b *testing.B) {
	var s Schedule
	k := uint64(0x0123456789ABCDEF)
	b.Run("keyd", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Expand(k)
			k += s[15]
		}
	})
	b.Run("crypto-des", func(b *testing.B) {
		b.ReportAllocs()
		key, _ := hex.DecodeString("0123456789ABCDEF")
		for b.Loop() {
			if _, err := cryptodes.NewCipher(key); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkBlock(b *testing.B) {
	var t Triple
	key, _ := hex.DecodeString("0123456789ABCDEFFEDCBA9876543210")
	t.Expand(key)
	x := uint64(1)
	b.Run("single/keyd", func(b *testing.B) {
		for b.Loop() {
			x = t[0].Encrypt(x)
		}
	})
	b.Run("pair/keyd", func(b *testing.B) {
		y := x + 1
		for b.Loop() {
			x, y = t[0].EncryptPair(&t[1], x, y)
		}
	})
	b.Run("triple/keyd", func(b *testing.B) {
		for b.Loop() {
			x = t.Encrypt(x)
		}
	})
	block := make([]byte, 8)
	single, _ := cryptodes.NewCipher(key[:8])
	b.Run("single/crypto-des", func(b *testing.B) {
		for b.Loop() {
			single.Encrypt(block, block)
		}
	})
	triple, _ := cryptodes.NewTripleDESCipher(append(append([]byte{}, key...), key[:8]...))
	b.Run("triple/crypto-des", func(b *testing.B) {
		for b.Loop() {
			triple.Encrypt(block, block)
		}
	})
}
