package software_test

import (
	"bytes"
	"crypto/cipher"
	cryptodes "crypto/des"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"keyd/dukpt"
	"keyd/dukpt/software"
)

var _ cipher.Block = (*software.TDESKey)(nil)

func TestTDESKeyEqualsCryptoDES(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{16, 24}).Draw(t, "size")
		key := rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "key")
		block := rapid.SliceOfN(rapid.Byte(), 8, 8).Draw(t, "block")
		want, err := cryptodes.NewTripleDESCipher(append(bytes.Clone(key), key[:8]...)[:24])
		if err != nil {
			t.Fatal(err)
		}
		var k software.TDESKey
		if err := k.Set(key); err != nil {
			t.Fatal(err)
		}
		a, b := make([]byte, 8), make([]byte, 8)
		k.Encrypt(a, block)
		want.Encrypt(b, block)
		if !bytes.Equal(a, b) {
			t.Fatalf("Encrypt = %X, want %X", a, b)
		}
		k.Decrypt(a, a)
		if !bytes.Equal(a, block) {
			t.Fatalf("Decrypt = %X, want %X", a, block)
		}
	})
}

func TestTDESKeyRefusesOtherLengths(t *testing.T) {
	var k software.TDESKey
	if err := k.Set(unhex(t, "0123456789ABCDEFFEDCBA9876543210")); err != nil {
		t.Fatal(err)
	}
	before := k
	for n := range 40 {
		if n == 16 || n == 24 {
			continue
		}
		if err := k.Set(make([]byte, n)); err != software.ErrKeySize {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if k != before {
		t.Error("a refused key changes the schedule")
	}
	if k.BlockSize() != 8 {
		t.Errorf("BlockSize = %d", k.BlockSize())
	}
	k.Destroy()
	if k != (software.TDESKey{}) {
		t.Error("Destroy leaves something")
	}
}

func TestSecretsRedactThemselves(t *testing.T) {
	ksn, _ := dukpt.ParseInitialKSN(unhex(t, "FFFF9876543210E00000"))
	terminal, err := software.NewTerminal(unhex(t, "6AC292FAA1315B4D858AB3A3D7D5933A"), ksn)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := terminal.Begin()
	if err != nil {
		t.Fatal(err)
	}
	k := new(software.TDESKey)
	if err := k.Set(unhex(t, "6AC292FAA1315B4D858AB3A3D7D5933A")); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []any{terminal, *terminal, tx, *tx, k, *k} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			if got := fmt.Sprintf(verb, secret); got != "[redacted]" {
				t.Errorf("%T %s: %s", secret, verb, got)
			}
		}
		if got := secret.(fmt.Stringer).String() + secret.(fmt.GoStringer).GoString(); got != "[redacted][redacted]" {
			t.Errorf("%T: %s", secret, got)
		}
		if got, err := json.Marshal(secret); err != nil || string(got) != `"[redacted]"` {
			t.Errorf("%T JSON: %s, %v", secret, got, err)
		}
		var out strings.Builder
		slog.New(slog.NewJSONHandler(&out, nil)).Info("test", "secret", secret)
		if !strings.Contains(out.String(), `"secret":"[redacted]"`) {
			t.Errorf("%T log: %s", secret, out.String())
		}
	}
}

func TestTDESRefusals(t *testing.T) {
	ksn := parseKSN(t, "FFFF9876543210E00001")
	aes := parseKSN(t, "123456789012345600000001")
	key := make([]byte, 16)
	type call func(dst, key []byte, ksn dukpt.KSN) error
	tests := []struct {
		name     string
		call     call
		out, key int
		ksn      dukpt.KSN
		want     error
	}{
		{"initial key, single DES", software.TDESInitialKey, 16, 8, ksn, software.ErrKeySize},
		{"initial key, three-key BDK", software.TDESInitialKey, 16, 24, ksn, software.ErrKeySize},
		{"initial key, no BDK", software.TDESInitialKey, 16, 0, ksn, software.ErrKeySize},
		{"initial key, output", software.TDESInitialKey, 8, 16, ksn, software.ErrOutputSize},
		{"initial key, AES KSN", software.TDESInitialKey, 16, 16, aes, software.ErrScheme},
		{"initial key, zero KSN", software.TDESInitialKey, 16, 16, dukpt.KSN{}, software.ErrScheme},
		{"transaction key, single DES", software.TDESTransactionKey, 16, 8, ksn, software.ErrKeySize},
		{"transaction key, output", software.TDESTransactionKey, 24, 16, ksn, software.ErrOutputSize},
		{"transaction key, AES KSN", software.TDESTransactionKey, 16, 16, aes, software.ErrScheme},
		{"transaction key, counter 0", software.TDESTransactionKey, 16, 16, ksn.Initial(), dukpt.ErrKSNCounterZero},
	}
	for _, tt := range tests {
		out := make([]byte, tt.out)
		if err := tt.call(out, make([]byte, tt.key), tt.ksn); err != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if !bytes.Equal(out, make([]byte, tt.out)) {
			t.Errorf("%s: output beside an error", tt.name)
		}
	}
	out := make([]byte, 16)
	for _, v := range []dukpt.Variant{0, 6, 255} {
		if err := software.TDESWorkingKey(out, key, v); err != software.ErrVariant {
			t.Errorf("variant %d: %v", v, err)
		}
	}
	if err := software.TDESWorkingKey(out, key[:8], dukpt.VariantPIN); err != software.ErrKeySize {
		t.Errorf("working key of single DES: %v", err)
	}
	if err := software.TDESWorkingKey(out[:8], key, dukpt.VariantPIN); err != software.ErrOutputSize {
		t.Errorf("working key into 8 bytes: %v", err)
	}
}

func TestAESRefusals(t *testing.T) {
	ksn := parseKSN(t, "123456789012345600000001")
	path, err := dukpt.NewPath(ksn, dukpt.AES256, dukpt.UsagePIN, dukpt.AES128)
	if err != nil {
		t.Fatal(err)
	}
	step := path.Step(0)
	long := step
	long.Key = dukpt.AES256
	long.DataLen = 16
	for name, tt := range map[string]struct{ got, want error }{
		"empty path":        {software.AESDerive(make([]byte, 16), make([]byte, 16), dukpt.Path{}), software.ErrScheme},
		"short key":         {software.AESDerive(make([]byte, 16), make([]byte, 16), path), software.ErrKeySize},
		"long output":       {software.AESDerive(make([]byte, 32), make([]byte, 32), path), software.ErrOutputSize},
		"empty step":        {software.AESDeriveStep(make([]byte, 16), make([]byte, 16), dukpt.Step{}), software.ErrScheme},
		"too little data":   {software.AESDeriveStep(make([]byte, 32), make([]byte, 32), long), software.ErrScheme},
		"step, no AES key":  {software.AESDeriveStep(make([]byte, 32), make([]byte, 8), step), software.ErrKeySize},
		"step, no key":      {software.AESDeriveStep(make([]byte, 32), nil, step), software.ErrKeySize},
		"step, odd output":  {software.AESDeriveStep(make([]byte, 31), make([]byte, 32), step), software.ErrOutputSize},
		"step, good":        {software.AESDeriveStep(make([]byte, 32), make([]byte, 32), step), nil},
		"path, good":        {software.AESDerive(make([]byte, 16), make([]byte, 32), path), nil},
		"path from IK good": {software.AESDerive(make([]byte, 16), make([]byte, 32), path.FromInitialKey()), nil},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %v, want %v", name, tt.got, tt.want)
		}
	}
}

// A result may take the place of the key that it comes from.
func TestInPlace(t *testing.T) {
	ksn := parseKSN(t, "FFFF9876543210EFF800")
	bdk := unhex(t, "0123456789ABCDEFFEDCBA9876543210")
	ik, tk, data := make([]byte, 16), make([]byte, 16), make([]byte, 16)
	key := bytes.Clone(bdk)
	for i, err := range []error{
		software.TDESInitialKey(ik, bdk, ksn), software.TDESInitialKey(key, key, ksn),
		software.TDESTransactionKey(tk, ik, ksn), software.TDESTransactionKey(key, key, ksn),
		software.TDESWorkingKey(data, tk, dukpt.VariantDataRequest), software.TDESWorkingKey(key, key, dukpt.VariantDataRequest),
	} {
		if err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	if !bytes.Equal(key, data) || bytes.Equal(data, tk) || bytes.Equal(tk, ik) {
		t.Errorf("in place %X, apart %X", key, data)
	}
	aes, err := dukpt.NewPath(parseKSN(t, "123456789012345600000007"), dukpt.AES128, dukpt.UsagePIN, dukpt.AES128)
	if err != nil {
		t.Fatal(err)
	}
	apart, place := make([]byte, 16), bytes.Clone(bdk)
	if err := software.AESDerive(apart, bdk, aes); err != nil {
		t.Fatal(err)
	}
	if err := software.AESDerive(place, place, aes); err != nil || !bytes.Equal(place, apart) {
		t.Errorf("AES in place %X, apart %X, %v", place, apart, err)
	}
}

// The two encryptions that a token does instead of TDESInitialKey, X9.24-1:2009 A.6.
func TestInitialKeyFromTokenInputs(t *testing.T) {
	ksn := parseKSN(t, "FFFF9876543210E00001")
	bdk := unhex(t, "0123456789ABCDEFFEDCBA9876543210")
	id, mask := ksn.InitialKeyID(), dukpt.TDESInitialKeyMask()
	got := make([]byte, 16)
	var k software.TDESKey
	if err := k.Set(bdk); err != nil {
		t.Fatal(err)
	}
	k.Encrypt(got, id[:])
	if err := k.Set(xor(bdk, mask[:])); err != nil {
		t.Fatal(err)
	}
	k.Encrypt(got[8:], id[:])
	if upper(got) != "6AC292FAA1315B4D858AB3A3D7D5933A" {
		t.Errorf("initial key = %X", got)
	}
}

func TestTDESHostPathDoesNotAllocate(t *testing.T) {
	bdk := unhex(t, "0123456789ABCDEFFEDCBA9876543210")
	raw := unhex(t, "FFFF9876543210EFF800")
	key := make([]byte, 16)
	block := make([]byte, 8)
	var k software.TDESKey
	if n := testing.AllocsPerRun(100, func() {
		ksn, err := dukpt.ParseKSN(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := software.TDESInitialKey(key, bdk, ksn); err != nil {
			t.Fatal(err)
		}
		if err := software.TDESTransactionKey(key, key, ksn); err != nil {
			t.Fatal(err)
		}
		if err := software.TDESWorkingKey(key, key, dukpt.VariantDataRequest); err != nil {
			t.Fatal(err)
		}
		if err := k.Set(key); err != nil {
			t.Fatal(err)
		}
		k.Decrypt(block, block)
		k.Encrypt(block, block)
		k.Destroy()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
