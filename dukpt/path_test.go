package dukpt_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/bits"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"keyd/dukpt"
)

var keyTypeNames = map[string]dukpt.KeyType{
	"2TDEA": dukpt.TDES2Key, "3TDEA": dukpt.TDES3Key,
	"AES128": dukpt.AES128, "AES192": dukpt.AES192, "AES256": dukpt.AES256,
	"HMAC128": dukpt.HMAC128,
}

var usageNames = map[string]dukpt.Usage{
	"PIN": dukpt.UsagePIN, "MACGen": dukpt.UsageMACGeneration, "MACVer": dukpt.UsageMACVerification, "MACBoth": dukpt.UsageMACBoth,
	"DataEnc": dukpt.UsageDataEncryption, "DataDec": dukpt.UsageDataDecryption, "DataBoth": dukpt.UsageDataBoth,
	"KeyEncryption": dukpt.UsageKeyEncryption, "KeyDeriv": dukpt.UsageKeyDerivation,
}

// X9.24-3:2017 6.3.2 and 6.3.3: the data of the last step.
func TestDerivationDataVectors(t *testing.T) {
	type vector struct {
		ID, Usage, KSN string
		BDKType        string `json:"bdk_type"`
		WorkingKeyType string `json:"working_key_type"`
		DerivationData string `json:"derivation_data"`
	}
	for _, v := range readVectors[vector](t, "testdata/derivation_data.json") {
		t.Run(v.ID, func(t *testing.T) {
			bdk, working := keyTypeNames[v.BDKType], keyTypeNames[v.WorkingKeyType]
			raw := unhex(t, v.KSN)
			initial, err := dukpt.ParseInitialKSN(append(append([]byte{}, raw[:8]...), 0, 0, 0, 0))
			if err != nil {
				t.Fatal(err)
			}
			var p dukpt.Path
			switch {
			case v.Usage == "InitialKey":
				p, err = dukpt.NewInitialKeyPath(initial, bdk)
			case strings.HasSuffix(v.KSN, "FFFFFFFF") && v.Usage == "KeyEncryption":
				p, err = dukpt.NewUpdateKeyPath(initial, bdk, working)
			default:
				var ksn dukpt.KSN
				ksn, err = dukpt.ParseKSN(raw)
				if bits.OnesCount32(binary.BigEndian.Uint32(raw[8:])) > dukpt.AESMaxOneBits {
					// Printed by the supplement, but not a counter that a transaction may have.
					if err != dukpt.ErrKSNCounterWeight {
						t.Errorf("error = %v", err)
					}
					return
				}
				if err == nil {
					p, err = dukpt.NewPath(ksn, bdk, usageNames[v.Usage], working)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			step := p.Step(p.Len() - 1)
			if got := strings.ToUpper(hex.EncodeToString(step.Data[:16])); got != v.DerivationData {
				t.Errorf("data = %s, want %s", got, v.DerivationData)
			}
			if p.Key() != working || step.Key != working || p.Root() != bdk {
				t.Errorf("from %s to %s (%s)", p.Root(), p.Key(), step.Key)
			}
		})
	}
}

func TestPathShape(t *testing.T) {
	ksn, err := dukpt.ParseKSN(unhex(t, "12345678901234568000A001"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := dukpt.NewPath(ksn, dukpt.AES256, dukpt.UsagePIN, dukpt.AES128)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"01018001000401001234567890123456" + "01028001000401001234567890123456",
		"01018000000401009012345680000000" + "01028000000401009012345680000000",
		"01018000000401009012345680008000" + "01028000000401009012345680008000",
		"0101800000040100901234568000A000" + "0102800000040100901234568000A000",
		"0101800000040100901234568000A001" + "0102800000040100901234568000A001",
		"0101100000020080901234568000A001",
	}
	check := func(p dukpt.Path, want []string) {
		t.Helper()
		if p.Len() != len(want) {
			t.Fatalf("%d steps, want %d", p.Len(), len(want))
		}
		for i := range p.Len() {
			s := p.Step(i)
			if got := strings.ToUpper(hex.EncodeToString(s.Data[:s.DataLen])); got != want[i] {
				t.Errorf("step %d: %s, want %s", i, got, want[i])
			}
			if s.Key.Size() > s.DataLen {
				t.Errorf("step %d: %d bytes make a key of %d", i, s.DataLen, s.Key.Size())
			}
		}
	}
	check(p, want)
	check(p.FromInitialKey(), want[1:])
	check(p.FromInitialKey().FromInitialKey(), want[1:])
	d, err := dukpt.NewDerivationPath(ksn, dukpt.AES256)
	if err != nil {
		t.Fatal(err)
	}
	check(d, want[:5])
	check(d.FromInitialKey(), want[1:5])
	ik, err := dukpt.NewInitialKeyPath(ksn, dukpt.AES256)
	if err != nil {
		t.Fatal(err)
	}
	check(ik, want[:1])
	check(dukpt.Path{}.FromInitialKey(), nil)
	update, err := dukpt.NewUpdateKeyPath(ksn, dukpt.AES256, dukpt.AES256)
	if err != nil {
		t.Fatal(err)
	}
	if update.Len() != 34 {
		t.Errorf("update key in %d steps", update.Len())
	}
	working, err := dukpt.WorkingKeyStep(ksn, dukpt.AES256, dukpt.UsagePIN, dukpt.AES128)
	if err != nil || working != p.Step(5) {
		t.Errorf("WorkingKeyStep = %v, %v", working, err)
	}
}

func TestStepOutsidePathPanics(t *testing.T) {
	ksn, _ := dukpt.ParseKSN(unhex(t, "123456789012345600000001"))
	p, err := dukpt.NewPath(ksn, dukpt.AES128, dukpt.UsagePIN, dukpt.AES128)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{-1, p.Len()} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Step(%d) returns", i)
				}
			}()
			p.Step(i)
		}()
	}
}

// Two steps have the same KeyID exactly when everything that was walked up to them is the same.
func TestKeyIDNamesTheKey(t *testing.T) {
	types := []dukpt.KeyType{dukpt.AES128, dukpt.AES192, dukpt.AES256}
	usages := []dukpt.Usage{dukpt.UsagePIN, dukpt.UsageMACGeneration, dukpt.UsageKeyDerivation, dukpt.UsageKeyEncryption}
	rapid.Check(t, func(t *rapid.T) {
		bdk := rapid.SampledFrom(types).Draw(t, "bdk") // KeyID names a key below one BDK
		draw := func() dukpt.Path {
			raw := make([]byte, dukpt.AESKSNSize)
			raw[0] = rapid.ByteRange(0, 1).Draw(t, "id")
			raw[11] = rapid.ByteRange(1, 7).Draw(t, "counter")
			ksn, err := dukpt.ParseKSN(raw)
			if err != nil {
				t.Fatal(err)
			}
			p, err := dukpt.NewPath(ksn, bdk, rapid.SampledFrom(usages).Draw(t, "usage"), dukpt.AES128)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		a, b := draw(), draw()
		for i := range a.Len() {
			for j := range b.Len() {
				same := i == j
				for k := 0; same && k <= i; k++ {
					same = a.Step(k).Data == b.Step(k).Data
				}
				if got := a.Step(i).ID == b.Step(j).ID; got != same {
					t.Fatalf("steps %d of %v and %d of %v: same key %v, same ID %v", i, a, j, b, same, got)
				}
			}
		}
	})
}

func TestPathRefusals(t *testing.T) {
	aes, _ := dukpt.ParseKSN(unhex(t, "123456789012345600000001"))
	tdes, _ := dukpt.ParseKSN(unhex(t, "FFFF9876543210E00001"))
	tests := []struct {
		name    string
		ksn     dukpt.KSN
		bdk     dukpt.KeyType
		usage   dukpt.Usage
		working dukpt.KeyType
		want    error
	}{
		{"TDES KSN", tdes, dukpt.AES128, dukpt.UsagePIN, dukpt.AES128, dukpt.ErrNotAESKSN},
		{"zero KSN", dukpt.KSN{}, dukpt.AES128, dukpt.UsagePIN, dukpt.AES128, dukpt.ErrNotAESKSN},
		{"counter 0", aes.Initial(), dukpt.AES128, dukpt.UsagePIN, dukpt.AES128, dukpt.ErrKSNCounterZero},
		{"TDES BDK", aes, dukpt.TDES2Key, dukpt.UsagePIN, dukpt.TDES2Key, dukpt.ErrKeyType},
		{"HMAC BDK", aes, dukpt.HMAC256, dukpt.UsagePIN, dukpt.AES128, dukpt.ErrKeyType},
		{"no BDK type", aes, 0, dukpt.UsagePIN, dukpt.AES128, dukpt.ErrKeyType},
		{"no working key type", aes, dukpt.AES128, dukpt.UsagePIN, 0, dukpt.ErrKeyType},
		{"unknown working key type", aes, dukpt.AES128, dukpt.UsagePIN, 99, dukpt.ErrKeyType},
		{"AES-192 from AES-128", aes, dukpt.AES128, dukpt.UsagePIN, dukpt.AES192, dukpt.ErrStronger},
		{"AES-256 from AES-128", aes, dukpt.AES128, dukpt.UsageMACGeneration, dukpt.AES256, dukpt.ErrStronger},
		{"AES-256 from AES-192", aes, dukpt.AES192, dukpt.UsageDataBoth, dukpt.AES256, dukpt.ErrStronger},
		{"HMAC-256 from AES-128", aes, dukpt.AES128, dukpt.UsageMACGeneration, dukpt.HMAC256, dukpt.ErrStronger},
		{"HMAC-192 from AES-128", aes, dukpt.AES128, dukpt.UsageMACVerification, dukpt.HMAC192, dukpt.ErrStronger},
		{"3TDEA from AES-128", aes, dukpt.AES128, dukpt.UsagePIN, dukpt.TDES3Key, nil},
		{"2TDEA from AES-256", aes, dukpt.AES256, dukpt.UsageDataEncryption, dukpt.TDES2Key, nil},
		{"HMAC-128 from AES-128", aes, dukpt.AES128, dukpt.UsageMACGeneration, dukpt.HMAC128, nil},
		{"HMAC-256 from AES-256", aes, dukpt.AES256, dukpt.UsageMACBoth, dukpt.HMAC256, nil},
		{"HMAC for PINs", aes, dukpt.AES128, dukpt.UsagePIN, dukpt.HMAC128, dukpt.ErrUsage},
		{"HMAC for data", aes, dukpt.AES128, dukpt.UsageDataEncryption, dukpt.HMAC128, dukpt.ErrUsage},
		{"HMAC for keys", aes, dukpt.AES128, dukpt.UsageKeyEncryption, dukpt.HMAC128, dukpt.ErrUsage},
		{"TDES for derivation", aes, dukpt.AES128, dukpt.UsageKeyDerivation, dukpt.TDES2Key, dukpt.ErrUsage},
		{"usage 0", aes, dukpt.AES128, 0, dukpt.AES128, dukpt.ErrUsage},
		{"usage of initial keys", aes, dukpt.AES128, 0x8001, dukpt.AES128, dukpt.ErrUsage},
		{"unknown usage", aes, dukpt.AES128, 0x1001, dukpt.AES128, dukpt.ErrUsage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := dukpt.NewPath(tt.ksn, tt.bdk, tt.usage, tt.working)
			if !errors.Is(err, tt.want) || (tt.want == nil) != (err == nil) {
				t.Errorf("error = %v, want %v", err, tt.want)
			}
			if err != nil && p != (dukpt.Path{}) {
				t.Error("path beside an error")
			}
		})
	}
	for name, err := range map[string]error{
		"NewInitialKeyPath TDES KSN": second(dukpt.NewInitialKeyPath(tdes, dukpt.AES128)),
		"NewUpdateKeyPath TDES KSN":  second(dukpt.NewUpdateKeyPath(tdes, dukpt.AES128, dukpt.AES128)),
		"NewDerivationPath TDES KSN": second(dukpt.NewDerivationPath(tdes, dukpt.AES128)),
	} {
		if err != dukpt.ErrNotAESKSN {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"NewInitialKeyPath TDES BDK": second(dukpt.NewInitialKeyPath(aes, dukpt.TDES2Key)),
		"NewDerivationPath TDES BDK": second(dukpt.NewDerivationPath(aes, dukpt.TDES2Key)),
		"DerivationKeyStep TDES":     second(dukpt.DerivationKeyStep([8]byte{}, 1, dukpt.TDES3Key)),
		"NewUpdateKeyPath HMAC BDK":  second(dukpt.NewUpdateKeyPath(aes, dukpt.HMAC128, dukpt.AES128)),
	} {
		if err != dukpt.ErrKeyType {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := dukpt.DerivationKeyStep([8]byte{}, 0, dukpt.AES128); err != dukpt.ErrKSNCounterZero {
		t.Errorf("DerivationKeyStep of counter 0: %v", err)
	}
	if _, err := dukpt.NewUpdateKeyPath(aes, dukpt.AES128, dukpt.AES256); err != dukpt.ErrStronger {
		t.Errorf("update key stronger than the BDK: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestLongestPath(t *testing.T) {
	ksn, _ := dukpt.ParseKSN(unhex(t, "1234567890123456FFFF0000"))
	p, err := dukpt.NewPath(ksn, dukpt.AES128, dukpt.UsagePIN, dukpt.AES128)
	if err != nil || p.Len() != dukpt.MaxSteps {
		t.Errorf("%d steps, %v", p.Len(), err)
	}
}

func TestPathsDoNotAllocate(t *testing.T) {
	raw := unhex(t, "12345678901234560000FFFF")
	var sum byte
	if n := testing.AllocsPerRun(100, func() {
		ksn, err := dukpt.ParseKSN(raw)
		if err != nil {
			t.Fatal(err)
		}
		p, err := dukpt.NewPath(ksn, dukpt.AES256, dukpt.UsagePIN, dukpt.AES256)
		if err != nil {
			t.Fatal(err)
		}
		for i := range p.Len() {
			s := p.Step(i)
			sum += s.Data[15]
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestKeyTypes(t *testing.T) {
	tests := []struct {
		key                       dukpt.KeyType
		name                      string
		size, strength            int
		tdes, aes, hmac, fromAES1 bool
	}{
		{0, "invalid", 0, 0, false, false, false, false},
		{dukpt.TDES2Key, "TDES_2KEY", 16, 80, true, false, false, true},
		{dukpt.TDES3Key, "TDES_3KEY", 24, 112, true, false, false, true},
		{dukpt.AES128, "AES_128", 16, 128, false, true, false, true},
		{dukpt.AES192, "AES_192", 24, 192, false, true, false, false},
		{dukpt.AES256, "AES_256", 32, 256, false, true, false, false},
		{dukpt.HMAC128, "HMAC_128", 16, 128, false, false, true, true},
		{dukpt.HMAC192, "HMAC_192", 24, 192, false, false, true, false},
		{dukpt.HMAC256, "HMAC_256", 32, 256, false, false, true, false},
		{dukpt.HMAC256 + 1, "invalid", 0, 0, false, false, false, false},
	}
	for _, tt := range tests {
		k := tt.key
		if k.String() != tt.name || k.Size() != tt.size || k.Strength() != tt.strength || k.IsTDES() != tt.tdes || k.IsAES() != tt.aes || k.IsHMAC() != tt.hmac {
			t.Errorf("%d: %s, %d bytes, %d bits", k, k, k.Size(), k.Strength())
		}
		if k.NoStrongerThan(dukpt.AES128) != tt.fromAES1 {
			t.Errorf("%s no stronger than AES_128: %v", k, !tt.fromAES1)
		}
		if k.Valid() != (tt.name != "invalid") || k.NoStrongerThan(0) {
			t.Errorf("%s: Valid %v", k, k.Valid())
		}
	}
	for size, want := range map[int]dukpt.KeyType{16: dukpt.AES128, 24: dukpt.AES192, 32: dukpt.AES256} {
		if got, err := dukpt.AESKeyType(size); got != want || err != nil {
			t.Errorf("AESKeyType(%d) = %s, %v", size, got, err)
		}
	}
	if _, err := dukpt.AESKeyType(8); err != dukpt.ErrKeyType {
		t.Errorf("AESKeyType(8): %v", err)
	}
}

// X9.24-1:2009 A.4.1, table A-1.
func TestVariantMasks(t *testing.T) {
	for v, want := range map[dukpt.Variant]string{
		dukpt.VariantPIN:          "00000000000000FF",
		dukpt.VariantMACRequest:   "000000000000FF00",
		dukpt.VariantMACResponse:  "00000000FF000000",
		dukpt.VariantDataRequest:  "0000000000FF0000",
		dukpt.VariantDataResponse: "000000FF00000000",
		0:                         "0000000000000000",
		6:                         "0000000000000000",
	} {
		m := v.Mask()
		if got := strings.ToUpper(hex.EncodeToString(m[:])); got != want+want {
			t.Errorf("variant %d: %s", v, got)
		}
	}
	m := dukpt.TDESInitialKeyMask()
	if got := strings.ToUpper(hex.EncodeToString(m[:])); got != "C0C0C0C000000000C0C0C0C000000000" {
		t.Errorf("initial key mask %s", got)
	}
}

func TestUsageVariants(t *testing.T) {
	want := map[dukpt.Usage]dukpt.Variant{
		dukpt.UsagePIN:             dukpt.VariantPIN,
		dukpt.UsageMACGeneration:   dukpt.VariantMACRequest,
		dukpt.UsageMACVerification: dukpt.VariantMACResponse,
		dukpt.UsageDataEncryption:  dukpt.VariantDataRequest,
		dukpt.UsageDataDecryption:  dukpt.VariantDataResponse,
	}
	for u := range 1 << 16 {
		v, ok := dukpt.Usage(u).Variant()
		if w, has := want[dukpt.Usage(u)]; ok != has || v != w {
			t.Errorf("usage %04X: variant %d, %v", u, v, ok)
		}
	}
	names := map[string]int{}
	for u := range 1 << 16 {
		names[dukpt.Usage(u).String()]++
	}
	if len(names) != 11 || names["invalid"] != 1<<16-10 {
		t.Errorf("usage names: %v", names)
	}
}

// The counter of the update key is no transaction's: it has too many one-bits.
func TestUpdateCounterIsNoTransaction(t *testing.T) {
	ksn, _ := dukpt.ParseKSN(unhex(t, "1234567890123456FFFF0000"))
	if _, err := ksn.WithCounter(0xFFFFFFFF); err != dukpt.ErrKSNCounterWeight {
		t.Errorf("WithCounter(FFFFFFFF): %v", err)
	}
	p, err := dukpt.NewUpdateKeyPath(ksn, dukpt.AES128, dukpt.TDES2Key)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= 32; i++ {
		if n := bits.OnesCount32(p.Step(i).ID.Counter); n != i {
			t.Errorf("step %d walks %d one-bits", i, n)
		}
	}
}
