package dukpt_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/bits"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"keyd/dukpt"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return b
}

func readVectors[T any](t testing.TB, file string) []T {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var v []T
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v) == 0 {
		t.Fatalf("%s is empty", file)
	}
	return v
}

// X9.24-1:2009 A.2, X9.24-3:2017 6.1.
func TestKSNAdvanceVectors(t *testing.T) {
	type vector struct {
		ID, Scheme, KSN string
		NextKSN         *string `json:"next_ksn"`
		Exhausted       bool
	}
	for _, v := range readVectors[vector](t, "testdata/ksn_advance.json") {
		t.Run(v.ID, func(t *testing.T) {
			ksn, err := dukpt.ParseKSN(unhex(t, v.KSN))
			if errors.Is(err, dukpt.ErrKSNCounterZero) {
				ksn, err = dukpt.ParseInitialKSN(unhex(t, v.KSN))
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := ksn.Scheme().String(); got != v.Scheme {
				t.Errorf("Scheme = %s", got)
			}
			next, err := ksn.Next()
			if v.Exhausted {
				if !errors.Is(err, dukpt.ErrExhausted) || next != (dukpt.KSN{}) {
					t.Fatalf("Next = %v, %v; want ErrExhausted", next, err)
				}
				return
			}
			if err != nil || next.String() != *v.NextKSN {
				t.Errorf("Next = %v, %v; want %s", next, err, *v.NextKSN)
			}
		})
	}
}

func TestParseKSN(t *testing.T) {
	tests := []struct {
		name, ksn string
		want      error
		counter   uint32
		id        string
	}{
		{"TDES first", "FFFF9876543210E00001", nil, 1, "FFFF9876543210E0"},
		{"TDES ten one-bits", "FFFF9876543210FFF800", nil, 0x1FF800, "FFFF9876543210E0"},
		{"TDES counter in three bytes", "0123456789ABCDF50A01", nil, 0x150A01, "0123456789ABCDE0"},
		{"AES first", "123456789012345600000001", nil, 1, "1234567890123456"},
		{"AES sixteen one-bits, last", "1234567890123456FFFF0000", nil, 0xFFFF0000, "1234567890123456"},
		{"AES sixteen one-bits, low", "12345678901234560000FFFF", nil, 0xFFFF, "1234567890123456"},
		{"AES zero ID", "000000000000000080000000", nil, 0x80000000, "0000000000000000"},

		{"nothing", "", dukpt.ErrKSNLength, 0, ""},
		{"8 bytes", "9876543210E00001", dukpt.ErrKSNLength, 0, ""},
		{"9 bytes", "FF9876543210E00001", dukpt.ErrKSNLength, 0, ""},
		{"11 bytes", "FFFF9876543210E0000100", dukpt.ErrKSNLength, 0, ""},
		{"13 bytes", "12345678901234560000000100", dukpt.ErrKSNLength, 0, ""},
		{"16 bytes", "12345678901234567890123456789012", dukpt.ErrKSNLength, 0, ""},
		{"TDES counter 0", "FFFF9876543210E00000", dukpt.ErrKSNCounterZero, 0, ""},
		{"AES counter 0", "123456789012345600000000", dukpt.ErrKSNCounterZero, 0, ""},
		{"TDES eleven one-bits", "FFFF9876543210E007FF", dukpt.ErrKSNCounterWeight, 0, ""},
		{"TDES eleven one-bits at the top", "FFFF9876543210FFFC00", dukpt.ErrKSNCounterWeight, 0, ""},
		{"TDES all one-bits", "FFFFFFFFFFFFFFFFFFFF", dukpt.ErrKSNCounterWeight, 0, ""},
		{"AES seventeen one-bits", "12345678901234560001FFFF", dukpt.ErrKSNCounterWeight, 0, ""},
		{"AES update key", "1234567890123456FFFFFFFF", dukpt.ErrKSNCounterWeight, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ksn, err := dukpt.ParseKSN(unhex(t, tt.ksn))
			if err != tt.want {
				t.Fatalf("error = %v, want %v", err, tt.want)
			}
			if err != nil {
				if ksn != (dukpt.KSN{}) {
					t.Errorf("KSN %v beside an error", ksn)
				}
				return
			}
			id := ksn.InitialKeyID()
			if ksn.String() != tt.ksn || ksn.Counter() != tt.counter || strings.ToUpper(hex.EncodeToString(id[:])) != tt.id {
				t.Errorf("got %s, counter %X, ID %X", ksn, ksn.Counter(), id)
			}
			if !bytes.Equal(ksn.Bytes(), unhex(t, tt.ksn)) {
				t.Errorf("Bytes = %X", ksn.Bytes())
			}
		})
	}
}

func TestParseInitialKSN(t *testing.T) {
	for in, want := range map[string]error{
		"FFFF9876543210E00000":     nil,
		"123456789012345600000000": nil,
		"FFFF9876543210E00001":     dukpt.ErrKSNCounterNotZero,
		"FFFF9876543210F00000":     dukpt.ErrKSNCounterNotZero,
		"123456789012345680000000": dukpt.ErrKSNCounterNotZero,
		"1234567890123456000000":   dukpt.ErrKSNLength,
		"":                         dukpt.ErrKSNLength,
	} {
		ksn, err := dukpt.ParseInitialKSN(unhex(t, in))
		if err != want {
			t.Errorf("%s: error = %v, want %v", in, err, want)
		}
		if err == nil && (ksn.Counter() != 0 || ksn.String() != in || ksn.Initial() != ksn) {
			t.Errorf("%s: got %s", in, ksn)
		}
		if err != nil && ksn != (dukpt.KSN{}) {
			t.Errorf("%s: KSN beside an error", in)
		}
	}
}

func TestKSNWithCounter(t *testing.T) {
	tdes, _ := dukpt.ParseInitialKSN(unhex(t, "FFFF9876543210E00000"))
	aes, _ := dukpt.ParseInitialKSN(unhex(t, "123456789012345600000000"))
	tests := []struct {
		ksn     dukpt.KSN
		counter uint32
		want    string
		err     error
	}{
		{tdes, 1, "FFFF9876543210E00001", nil},
		{tdes, 0x100001, "FFFF9876543210F00001", nil},
		{tdes, 0, "", dukpt.ErrKSNCounterZero},
		{tdes, 0x200000, "", dukpt.ErrKSNCounterRange},
		{tdes, 0x7FF, "", dukpt.ErrKSNCounterWeight},
		{aes, 0xFFFF0000, "1234567890123456FFFF0000", nil},
		{aes, 0, "", dukpt.ErrKSNCounterZero},
		{aes, 0xFFFF8000, "", dukpt.ErrKSNCounterWeight},
		{dukpt.KSN{}, 1, "", dukpt.ErrKSNLength},
	}
	for _, tt := range tests {
		got, err := tt.ksn.WithCounter(tt.counter)
		if err != tt.err || got.String() != tt.want {
			t.Errorf("%s with %X = %s, %v; want %s, %v", tt.ksn, tt.counter, got, err, tt.want, tt.err)
		}
	}
}

func TestKSNMarshalText(t *testing.T) {
	ksn, _ := dukpt.ParseKSN(unhex(t, "FFFF9876543210E00001"))
	if got, err := json.Marshal(map[string]dukpt.KSN{"ksn": ksn}); err != nil || string(got) != `{"ksn":"FFFF9876543210E00001"}` {
		t.Errorf("%s, %v", got, err)
	}
}

func TestZeroKSN(t *testing.T) {
	var k dukpt.KSN
	if k.Scheme() != 0 || k.Scheme().String() != "invalid" || len(k.Bytes()) != 0 || k.String() != "" || k.Counter() != 0 {
		t.Errorf("zero KSN is not empty: %v", k)
	}
	if _, err := k.Next(); err != dukpt.ErrKSNLength {
		t.Errorf("Next: %v", err)
	}
}

// TestNextIsTheNextValidCounter compares Next with a search that knows nothing but ParseKSN.
func TestNextIsTheNextValidCounter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{dukpt.TDESKSNSize, dukpt.AESKSNSize}).Draw(t, "size")
		raw := rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "raw")
		ksn, err := dukpt.ParseKSN(raw)
		if err != nil {
			return
		}
		next, err := ksn.Next()
		if errors.Is(err, dukpt.ErrExhausted) {
			last := map[dukpt.Scheme]uint32{dukpt.TDES: 0x1FF800, dukpt.AES: 0xFFFF0000}[ksn.Scheme()]
			if ksn.Counter() < last {
				t.Fatalf("%s is not the last", ksn)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		c := ksn.Counter() + 1
		for i := 0; bits.OnesCount32(c) > ksn.Scheme().MaxOneBits(); i++ {
			if i == 1<<20 {
				return // too far to search one by one
			}
			c++
		}
		want, err := ksn.WithCounter(c)
		if err != nil || next != want || next.InitialKeyID() != ksn.InitialKeyID() {
			t.Fatalf("%s: Next = %s, want %s (%v)", ksn, next, want, err)
		}
	})
}

// TestTDESCounterSpace walks all counters of the TDES scheme: 21 over 1 to 21 over 10, X9.24-1:2009 A.3.
func TestTDESCounterSpace(t *testing.T) {
	ksn, err := dukpt.ParseInitialKSN(unhex(t, "FFFF9876543210E00000"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		next, err := ksn.Next()
		if err == dukpt.ErrExhausted {
			break
		}
		if err != nil || next.Counter() <= ksn.Counter() || bits.OnesCount32(next.Counter()) > 10 {
			t.Fatalf("after %s: %s, %v", ksn, next, err)
		}
		ksn = next
		n++
	}
	if n != 1048575 || ksn.Counter() != 0x1FF800 {
		t.Errorf("%d transactions, the last %s", n, ksn)
	}
}

func FuzzParseKSN(f *testing.F) {
	for _, s := range []string{
		"", "FFFF9876543210E00001", "FFFF9876543210FFF800", "FFFF9876543210E00000", "FFFF9876543210FFFC00",
		"123456789012345600000001", "1234567890123456FFFF0000", "123456789012345600000000", "1234567890123456FFFFFFFF",
		"9876543210E00001", "FFFF9876543210E0000100",
	} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ksn, err := dukpt.ParseKSN(b)
		if err != nil {
			if ksn != (dukpt.KSN{}) {
				t.Fatalf("KSN beside %v", err)
			}
			return
		}
		if !bytes.Equal(ksn.Bytes(), b) || ksn.String() != strings.ToUpper(hex.EncodeToString(b)) {
			t.Fatalf("%X becomes %s", b, ksn)
		}
		if n := bits.OnesCount32(ksn.Counter()); n == 0 || n > ksn.Scheme().MaxOneBits() || bits.Len32(ksn.Counter()) > ksn.Scheme().CounterBits() {
			t.Fatalf("%s accepted", ksn)
		}
		if again, err := ksn.WithCounter(ksn.Counter()); err != nil || again != ksn {
			t.Fatalf("WithCounter: %s, %v", again, err)
		}
		if _, err := dukpt.ParseInitialKSN(ksn.Initial().Bytes()); err != nil {
			t.Fatal(err)
		}
	})
}
