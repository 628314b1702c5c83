package keyblock

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// readers are the typed readers by the ID of what they read.
var readers = map[string]func(*Header) (any, error){
	"AL": erase((*Header).KeyLife), "BI": erase((*Header).BaseKeyID), "CT": erase((*Header).Certificates), "DA": erase((*Header).Derivations),
	"HM": erase((*Header).HMACHash), "IK": erase((*Header).InitialKeyID), "KC": erase((*Header).KeyCheckValue), "KP": erase((*Header).ProtectionCheckValue),
	"KS": erase((*Header).KSN), "LB": erase((*Header).Label), "PK": erase((*Header).ExportCheckValue), "TC": erase((*Header).Created),
	"TS": erase((*Header).TimeStamp), "WP": erase((*Header).Pedigree),
}

func erase[T any](read func(*Header) (T, error)) func(*Header) (any, error) {
	return func(h *Header) (any, error) { return read(h) }
}

func TestTypedBlocks(t *testing.T) {
	at := time.Date(2018, 6, 18, 20, 42, 39, 0, time.UTC)
	hundredths := at.Add(220 * time.Millisecond)
	for _, c := range []struct {
		id, data string
		want     any // nil: refused
	}{
		{"KS", "00604B120F9292800000", []byte{0x00, 0x60, 0x4B, 0x12, 0x0F, 0x92, 0x92, 0x80, 0x00, 0x00}},
		{"KS", "00604B120F929280", []byte{0x00, 0x60, 0x4B, 0x12, 0x0F, 0x92, 0x92, 0x80}},
		{"KS", "00604B120F9292", nil},
		{"KS", "00604b120f9292800000", nil},
		{"KS", "DE#GBIC#OPT1", nil},
		{"KS", "DE#GBIC#OPT1!!!!", nil},
		{"KS", "", nil},
		{"IK", "1234567890123456", [8]byte{0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56}},
		{"IK", "12345678901234", nil},
		{"IK", "123456789012345678", nil},
		{"KC", "00F4B08D", CheckValue{CheckEncryption, []byte{0xF4, 0xB0, 0x8D}}},
		{"KC", "00F4B0", CheckValue{CheckEncryption, []byte{0xF4, 0xB0}}},
		{"KC", "0105EF4531EC", CheckValue{CheckCMAC, []byte{0x05, 0xEF, 0x45, 0x31, 0xEC}}},
		{"KC", "00F4B08D00", nil},
		{"KC", "0105EF4531EC00", nil},
		{"KC", "02F4B08D", nil},
		{"KC", "00", nil},
		{"KC", "", nil},
		{"KC", "00F4B08", nil},
		{"KP", "012331550BC9", CheckValue{CheckCMAC, []byte{0x23, 0x31, 0x55, 0x0B, 0xC9}}},
		{"KP", "0123", nil},
		{"PK", "002F0EEA", CheckValue{CheckEncryption, []byte{0x2F, 0x0E, 0xEA}}},
		{"TS", "2018-06-18T20:42:39Z", at},
		{"TS", "2018-06-18T20:42:39.22Z", hundredths},
		{"TS", "20180618204239Z", at},
		{"TC", "2018061820423922Z", hundredths},
		{"TS", "2018-06-18T20:42:39.22", nil},
		{"TS", "2018-06-18T20:42:39,22Z", nil},
		{"TS", "2018-06-31T20:42:39Z", nil},
		{"TS", "2018-06-18T20:42:60Z", nil},
		{"TS", "2018-06-18T20:42:39+00", nil},
		{"TC", "2018061820423922z", nil},
		{"TC", "", nil},
		{"LB", "My Amazing BDK", "My Amazing BDK"},
		{"LB", "", nil},
		{"HM", "21", SHA256},
		{"HM", "10", SHA1},
		{"HM", "26", nil},
		{"HM", "2", nil},
		{"HM", "2121", nil},
		{"WP", "000", WrappedStrong},
		{"WP", "003", WrappedAsymmetricWeak},
		{"WP", "004", nil},
		{"WP", "010", nil},
		{"WP", "00", nil},
		{"AL", "0100", Ephemeral},
		{"AL", "0101", Static},
		{"AL", "0102", nil},
		{"AL", "0001", nil},
		{"BI", "0008793E2500", BaseKeyID{false, []byte{0x08, 0x79, 0x3E, 0x25, 0x00}}},
		{"BI", "0112345678", BaseKeyID{true, []byte{0x12, 0x34, 0x56, 0x78}}},
		{"BI", "0012345678", nil},
		{"BI", "0108793E2500", nil},
		{"BI", "02", nil},
		{"DA", "01P0TEN", []Derivation{{"P0", 'T', 'E', 'N'}}},
		{"DA", "01P0TENM6AGE", []Derivation{{"P0", 'T', 'E', 'N'}, {"M6", 'A', 'G', 'E'}}},
		{"DA", "01", nil},
		{"DA", "01P0TE", nil},
		{"DA", "02P0TEN", nil},
		{"DA", "01P0TE ", nil},
		{"CT", "00AAEC", []Certificate{{X509, []byte{0, 1, 2}}}},
		{"CT", "01AAE=", []Certificate{{EMV, []byte{0, 1}}}},
		{"CT", "02000004AAEC010004AAE=", []Certificate{{X509, []byte{0, 1, 2}}, {EMV, []byte{0, 1}}}},
		{"CT", "02", nil},
		{"CT", "00", nil},
		{"CT", "00AAE", nil},
		{"CT", "00AAF=", nil}, // bits after the last byte are not 0
		{"CT", "03AAEC", nil},
		{"CT", "02000005AAEC", nil},
		{"CT", "02000003AAEC", nil},
		{"CT", "02000004AAEC0", nil},
		{"CT", "02020004AAEC", nil},
		{"CT", "0200", nil},
		{"CT", "0", nil},
	} {
		h := plain('B', Optional{"ZZ", ""}, Optional{c.id, c.data})
		got, err := readers[c.id](h)
		check := h.CheckBlocks()
		if c.want == nil {
			if !errors.Is(err, ErrContent) || !strings.HasSuffix(err.Error(), ": "+c.id) || !errors.Is(check, ErrContent) {
				t.Errorf("%s %q: %v, %v, %v", c.id, c.data, got, err, check)
			}
			continue
		}
		if when, ok := c.want.(time.Time); ok {
			if moment, _ := got.(time.Time); !moment.Equal(when) {
				t.Errorf("%s %q: %v, want %v", c.id, c.data, got, when)
			}
			got = c.want
		}
		if err != nil || check != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s %q: %v, %v, %v, want %v", c.id, c.data, got, err, check, c.want)
		}
	}
	for id, read := range readers {
		if _, err := read(plain('B')); err != ErrAbsent {
			t.Errorf("%s: %v where there is none", id, err)
		}
		if kinds[id] == nil {
			t.Errorf("CheckBlocks does not know %s", id)
		}
	}
	if len(kinds) != len(readers) {
		t.Errorf("%d kinds, %d readers", len(kinds), len(readers))
	}
}

// What the constructors make, the readers accept and give back.
func TestConstructors(t *testing.T) {
	made := map[string]func() (Optional, error){
		"KS00604B120F9292800000": func() (Optional, error) {
			return NewKS([10]byte{0x00, 0x60, 0x4B, 0x12, 0x0F, 0x92, 0x92, 0x80}), nil
		},
		"IK1234567890123456": func() (Optional, error) {
			return NewIK([8]byte{0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56}), nil
		},
		"KC00F4B08D": func() (Optional, error) { return NewKC(CheckValue{CheckEncryption, []byte{0xF4, 0xB0, 0x8D}}) },
		"KP019E357F": func() (Optional, error) { return NewKP(CheckValue{CheckCMAC, []byte{0x9E, 0x35, 0x7F}}) },
		"TS2018-06-18T18:42:39Z": func() (Optional, error) {
			return NewTS(time.Date(2018, 6, 18, 20, 42, 39, 999, time.FixedZone("east", 7200)))
		},
		"LBA label": func() (Optional, error) { return NewLB("A label") },
		"HM21":      func() (Optional, error) { return NewHM(SHA256) },
		"WP002":     func() (Optional, error) { return NewWP(WrappedAsymmetric) },
	}
	for want, make := range made {
		got, err := make()
		if err != nil || got.ID+got.Data != want {
			t.Errorf("%v, %v, want %s", got, err, want)
		}
		if err := plain('B', got).CheckBlocks(); err != nil {
			t.Error(err)
		}
	}
	for i, make := range []func() (Optional, error){
		func() (Optional, error) { return NewKC(CheckValue{CheckEncryption, make([]byte, 4)}) },
		func() (Optional, error) { return NewKC(CheckValue{CheckCMAC, make([]byte, 1)}) },
		func() (Optional, error) { return NewKP(CheckValue{2, make([]byte, 3)}) },
		func() (Optional, error) { return NewTS(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)) },
		func() (Optional, error) { return NewLB("") },
		func() (Optional, error) { return NewLB("line\n") },
		func() (Optional, error) { return NewLB(strings.Repeat("x", 201)) },
		func() (Optional, error) { return NewHM(0x26) },
		func() (Optional, error) { return NewWP(4) },
	} {
		if got, err := make(); !errors.Is(err, ErrContent) || got != (Optional{}) {
			t.Errorf("case %d: %v, %v", i, got, err)
		}
	}
	if SHA512256.String() != "SHA-512/256" || Hash(0).String() != "unknown" || fmt.Sprint(SHA256) != "SHA-256" {
		t.Error("names of hash functions")
	}
}
