package software_test

import (
	cryptodes "crypto/des"
	"encoding/binary"
	"math/bits"
	"testing"

	"keyd/dukpt"
	"keyd/dukpt/software"
)

// cryptoDESTransactionKey is the transaction key derivation on crypto/des, for comparison.
func cryptoDESTransactionKey(t testing.TB, dst, ik []byte, ksn dukpt.KSN) {
	encrypt := func(key, block uint64) uint64 {
		c, err := cryptodes.NewCipher(binary.BigEndian.AppendUint64(nil, key))
		if err != nil {
			t.Fatal(err)
		}
		b := binary.BigEndian.AppendUint64(nil, block)
		c.Encrypt(b, b)
		return binary.BigEndian.Uint64(b)
	}
	const mask = 0xC0C0C0C000000000
	left, right := binary.BigEndian.Uint64(ik), binary.BigEndian.Uint64(ik[8:])
	register := binary.BigEndian.Uint64(ksn.Bytes()[2:]) &^ 0x1FFFFF
	for c := ksn.Counter(); c != 0; {
		bit := uint32(1) << (31 - bits.LeadingZeros32(c))
		c &^= bit
		register |= uint64(bit)
		newRight := encrypt(left, register^right) ^ right
		left = encrypt(left^mask, register^right^mask) ^ right ^ mask
		right = newRight
	}
	binary.BigEndian.PutUint64(dst, left)
	binary.BigEndian.PutUint64(dst[8:], right)
}

func TestCryptoDESComparisonIsRight(t *testing.T) {
	ik := unhex(t, "6AC292FAA1315B4D858AB3A3D7D5933A")
	for _, s := range []string{"FFFF9876543210E00001", "FFFF9876543210EFF800", "FFFF9876543210FFF800"} {
		ksn := parseKSN(t, s)
		got, want := make([]byte, 16), make([]byte, 16)
		cryptoDESTransactionKey(t, got, ik, ksn)
		if err := software.TDESTransactionKey(want, ik, ksn); err != nil || upper(got) != upper(want) {
			t.Errorf("%s: %X, %X, %v", s, got, want, err)
		}
	}
}

// BenchmarkTDESTransactionKey derives from the initial key; ten one-bits are the most there are.
func BenchmarkTDESTransactionKey(b *testing.B) {
	ik := unhex(b, "6AC292FAA1315B4D858AB3A3D7D5933A")
	for _, c := range []struct{ name, ksn string }{{"1-bit", "FFFF9876543210E00001"}, {"10-bits", "FFFF9876543210FFF800"}} {
		ksn := parseKSN(b, c.ksn)
		dst := make([]byte, 16)
		b.Run(c.name+"/keyd", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := software.TDESTransactionKey(dst, ik, ksn); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.name+"/crypto-des", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				cryptoDESTransactionKey(b, dst, ik, ksn)
			}
		})
	}
}

// BenchmarkTDESHost is the host's whole way: BDK, initial key, transaction key, PIN key, one block.
func BenchmarkTDESHost(b *testing.B) {
	bdk := unhex(b, "0123456789ABCDEFFEDCBA9876543210")
	ksn := parseKSN(b, "FFFF9876543210FFF800")
	key, block := make([]byte, 16), make([]byte, 8)
	var k software.TDESKey
	b.ReportAllocs()
	for b.Loop() {
		if err := software.TDESInitialKey(key, bdk, ksn); err != nil {
			b.Fatal(err)
		}
		if err := software.TDESTransactionKey(key, key, ksn); err != nil {
			b.Fatal(err)
		}
		if err := software.TDESWorkingKey(key, key, dukpt.VariantPIN); err != nil {
			b.Fatal(err)
		}
		if err := k.Set(key); err != nil {
			b.Fatal(err)
		}
		k.Decrypt(block, block)
	}
}

func BenchmarkTDESWorkingKey(b *testing.B) {
	tk, dst := unhex(b, "042666B49184CFA368DE9628D0397BC9"), make([]byte, 16)
	for _, c := range []struct {
		name string
		v    dukpt.Variant
	}{{"PIN", dukpt.VariantPIN}, {"data", dukpt.VariantDataRequest}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if err := software.TDESWorkingKey(dst, tk, c.v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAESDerive walks from the BDK to a PIN key.
func BenchmarkAESDerive(b *testing.B) {
	for _, c := range []struct {
		name, bdk, ksn string
	}{
		{"AES-128/1-bit", "FEDCBA9876543210F1F1F1F1F1F1F1F1", "123456789012345600000001"},
		{"AES-128/16-bits", "FEDCBA9876543210F1F1F1F1F1F1F1F1", "1234567890123456FFFF0000"},
		{"AES-256/16-bits", "FEDCBA9876543210F1F1F1F1F1F1F1F1FEDCBA9876543210F1F1F1F1F1F1F1F1", "1234567890123456FFFF0000"},
	} {
		b.Run(c.name, func(b *testing.B) {
			bdk := unhex(b, c.bdk)
			typ, err := dukpt.AESKeyType(len(bdk))
			if err != nil {
				b.Fatal(err)
			}
			path, err := dukpt.NewPath(parseKSN(b, c.ksn), typ, dukpt.UsagePIN, typ)
			if err != nil {
				b.Fatal(err)
			}
			dst := make([]byte, typ.Size())
			b.ReportAllocs()
			for b.Loop() {
				if err := software.AESDerive(dst, bdk, path); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
