package software_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math/bits"
	"os"
	"strings"
	"testing"

	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/dukpt/software/internal/des"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	return b
}

func upper(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

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
	return v
}

func parseKSN(t testing.TB, s string) dukpt.KSN {
	t.Helper()
	ksn, err := dukpt.ParseKSN(unhex(t, s))
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return ksn
}

// tdesVector has every figure as a string, under the names of the file.
type tdesVector map[string]any

func (v tdesVector) get(name string) (string, bool) {
	s, ok := v[name].(string)
	if !ok {
		if c, has := v["computed_here"].(map[string]any); has {
			s, ok = c[name].(string)
		}
	}
	return s, ok
}

// X9.24-1:2009 A.2, A.3, A.4.1, A.6 and the sequence of A.4.2: every derived key, and every PIN block, MAC and
// cryptogram that was made with one.
func TestTDESVectors(t *testing.T) {
	derivations := 0
	for _, v := range readVectors[tdesVector](t, "testdata/dukpt_tdes.json") {
		id, _ := v.get("id")
		switch kind, _ := v.get("kind"); kind {
		case "derivation":
			derivations++
			t.Run(id, func(t *testing.T) { testTDESVector(t, v) })
		case "ksn_advance": // package dukpt
		default:
			t.Errorf("%s: unknown kind %s", id, kind)
		}
	}
	if derivations < 33 {
		t.Errorf("only %d derivations", derivations)
	}
}

func testTDESVector(t *testing.T, v tdesVector) {
	get := func(name string) string {
		s, ok := v.get(name)
		if !ok {
			t.Fatalf("no %s", name)
		}
		return s
	}
	ksn := parseKSN(t, get("ksn"))
	var ik, tk [16]byte
	if err := software.TDESInitialKey(ik[:], unhex(t, get("bdk")), ksn); err != nil {
		t.Fatal(err)
	}
	if err := software.TDESTransactionKey(tk[:], ik[:], ksn); err != nil {
		t.Fatal(err)
	}
	working := func(variant dukpt.Variant) []byte {
		k := make([]byte, 16)
		if err := software.TDESWorkingKey(k, tk[:], variant); err != nil {
			t.Fatal(err)
		}
		return k
	}
	block := func(key []byte) cipher.Block {
		k := new(software.TDESKey)
		if err := k.Set(key); err != nil {
			t.Fatal(err)
		}
		return k
	}
	pin, macRequest, macResponse := working(dukpt.VariantPIN), working(dukpt.VariantMACRequest), working(dukpt.VariantMACResponse)
	dataRequest, dataResponse := working(dukpt.VariantDataRequest), working(dukpt.VariantDataResponse)
	checks := map[string]func() []byte{
		"ipek":              func() []byte { return ik[:] },
		"transaction_key":   func() []byte { return tk[:] },
		"pin_key":           func() []byte { return pin },
		"mac_request_key":   func() []byte { return macRequest },
		"mac_response_key":  func() []byte { return macResponse },
		"data_request_key":  func() []byte { return dataRequest },
		"data_response_key": func() []byte { return dataResponse },
		"data_request_variant_no_owf": func() []byte {
			mask := dukpt.VariantDataRequest.Mask()
			return xor(tk[:], mask[:])
		},
		"encrypted_pin_block": func() []byte { return cbc(block(pin), make([]byte, 8), unhex(t, get("clear_pin_block"))) },
		"clear_pin_block": func() []byte {
			out := make([]byte, 8)
			block(pin).Decrypt(out, unhex(t, get("encrypted_pin_block")))
			return out
		},
		"mac_request_x919_4":          func() []byte { return retailMAC(macRequest, []byte(get("mac_data_ascii")))[:4] },
		"mac_response_x919_4":         func() []byte { return retailMAC(macResponse, []byte(get("mac_data_ascii")))[:4] },
		"mac_request_x919_8":          func() []byte { return retailMAC(macRequest, []byte(get("mac_data_ascii"))) },
		"mac_response_x919_8":         func() []byte { return retailMAC(macResponse, []byte(get("mac_data_ascii"))) },
		"cmac_request":                func() []byte { return cmac(block(macRequest), []byte(get("mac_data_ascii"))) },
		"cmac_response":               func() []byte { return cmac(block(macResponse), []byte(get("mac_data_ascii"))) },
		"cmac_request_value":          func() []byte { return cmac(block(macRequest), unhex(t, get("cmac_request_data"))) },
		"data_request_encrypted_cbc":  func() []byte { return cbc(block(dataRequest), unhex(t, get("data_iv")), unhex(t, get("data_plain"))) },
		"data_response_encrypted_cbc": func() []byte { return cbc(block(dataResponse), unhex(t, get("data_iv")), unhex(t, get("data_plain"))) },
		"data_request_encrypted_cbc_iv2": func() []byte {
			return cbc(block(dataRequest), unhex(t, get("data_request_iv2")), unhex(t, get("data_plain")))
		},
		"data_response_encrypted_cbc_iv2": func() []byte {
			return cbc(block(dataResponse), unhex(t, get("data_response_iv2")), unhex(t, get("data_plain")))
		},
		"track_encrypted_with_pin_key_cbc": func() []byte {
			return cbc(block(pin), make([]byte, 8), unhex(t, get("track_plain")))
		},
		"track_encrypted_with_data_key_cbc": func() []byte {
			return cbc(block(dataRequest), make([]byte, 8), unhex(t, get("track_plain")))
		},
		"single_block_encrypted_with_data_key": func() []byte {
			return cbc(block(dataRequest), make([]byte, 8), unhex(t, get("single_block_plain")))
		},
	}
	checked := 0
	for name, compute := range checks {
		want, ok := v.get(name)
		if !ok {
			continue
		}
		checked++
		if got := upper(compute()); got != want {
			t.Errorf("%s = %s, want %s", name, got, want)
		}
	}
	for _, name := range v["outputs_checked"].([]any) {
		if _, ok := checks[name.(string)]; !ok {
			t.Errorf("output %s is not checked", name)
		}
	}
	if checked == 0 {
		t.Error("nothing checked")
	}
}

type aesVector struct {
	ID, Kind, BDK, KSN, Usage string
	BDKType                   string `json:"bdk_type"`
	WorkingKeyType            string `json:"working_key_type"`
	DerivedKey                string `json:"derived_key"`
	PINField                  string `json:"pin_field"`
	PANField                  string `json:"pan_field"`
	EncryptedPINBlock         string `json:"encrypted_pin_block"`
	DataASCII                 string `json:"data_ascii"`
	DataPadded                string `json:"data_padded"`
	IV, Result                string
	ComputedHere              struct {
		InitialKey    string `json:"initial_key"`
		DerivationKey string `json:"transaction_derivation_key"`
		WorkingKey    string `json:"working_key"`
	} `json:"computed_here"`
}

var keyTypes = map[string]dukpt.KeyType{
	"2TDEA": dukpt.TDES2Key, "3TDEA": dukpt.TDES3Key,
	"AES128": dukpt.AES128, "AES192": dukpt.AES192, "AES256": dukpt.AES256,
	"HMAC128": dukpt.HMAC128,
}

var usages = map[string]dukpt.Usage{
	"PIN": dukpt.UsagePIN, "MACGen": dukpt.UsageMACGeneration, "MACVer": dukpt.UsageMACVerification, "MACBoth": dukpt.UsageMACBoth,
	"DataEnc": dukpt.UsageDataEncryption, "DataDec": dukpt.UsageDataDecryption, "DataBoth": dukpt.UsageDataBoth,
	"KeyEncryption": dukpt.UsageKeyEncryption, "KeyDeriv": dukpt.UsageKeyDerivation,
}

// X9.24-3:2017 6.1 to 6.5 and its supplement.
func TestAESVectors(t *testing.T) {
	derivations := 0
	for _, v := range readVectors[aesVector](t, "testdata/dukpt_aes.json") {
		switch v.Kind {
		case "ksn_advance": // package dukpt
		case "derived_key":
			derivations++
			t.Run(v.ID, func(t *testing.T) {
				if got := upper(deriveAESVector(t, v)); got != v.DerivedKey {
					t.Errorf("derived key = %s, want %s", got, v.DerivedKey)
				}
				checkIntermediate(t, v)
			})
		default:
			t.Run(v.ID, func(t *testing.T) { testAESUse(t, v) })
		}
	}
	if derivations < 201 {
		t.Errorf("only %d derivations", derivations)
	}
}

// deriveAESVector walks from the BDK to the vector's key the way a caller would, and by single steps for the
// counters which the supplement prints but no transaction may have.
func deriveAESVector(t *testing.T, v aesVector) []byte {
	t.Helper()
	bdk := unhex(t, v.BDK)
	bdkType, err := dukpt.AESKeyType(len(bdk))
	if err != nil {
		t.Fatal(err)
	}
	if v.BDKType != "" && keyTypes[v.BDKType] != bdkType {
		t.Fatalf("BDK of %d bytes is no %s", len(bdk), v.BDKType)
	}
	working := keyTypes[v.WorkingKeyType]
	raw := unhex(t, v.KSN)
	counter := binary.BigEndian.Uint32(raw[8:])
	initial, err := dukpt.ParseInitialKSN(append(append([]byte{}, raw[:8]...), 0, 0, 0, 0))
	if err != nil {
		t.Fatal(err)
	}

	var path dukpt.Path
	switch {
	case v.Usage == "InitialKey":
		path, err = dukpt.NewInitialKeyPath(initial, bdkType)
	case v.Usage == "KeyEncryption" && counter == 0xFFFFFFFF:
		path, err = dukpt.NewUpdateKeyPath(initial, bdkType, working)
	case bits.OnesCount32(counter) > dukpt.AESMaxOneBits:
		if _, err := dukpt.ParseKSN(raw); err != dukpt.ErrKSNCounterWeight {
			t.Errorf("ParseKSN accepts the counter: %v", err)
		}
		return deriveBySteps(t, v, initial, bdk, bdkType, counter)
	case v.Usage == "TransactionDerivation":
		path, err = dukpt.NewDerivationPath(parseKSN(t, v.KSN), bdkType)
	default:
		path, err = dukpt.NewPath(parseKSN(t, v.KSN), bdkType, usages[v.Usage], working)
	}
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, path.Key().Size())
	if err := software.AESDerive(out, bdk, path); err != nil {
		t.Fatal(err)
	}

	// The same from the initial key, which is how it is done where that is kept.
	if path.Len() > 1 {
		ikPath, err := dukpt.NewInitialKeyPath(initial, bdkType)
		if err != nil {
			t.Fatal(err)
		}
		ik := make([]byte, bdkType.Size())
		if err := software.AESDerive(ik, bdk, ikPath); err != nil {
			t.Fatal(err)
		}
		again := make([]byte, len(out))
		if err := software.AESDerive(again, ik, path.FromInitialKey()); err != nil || !bytes.Equal(again, out) {
			t.Errorf("from the initial key: %X, %v; from the BDK: %X", again, err, out)
		}
	}
	return out
}

func deriveBySteps(t *testing.T, v aesVector, initial dukpt.KSN, bdk []byte, bdkType dukpt.KeyType, counter uint32) []byte {
	t.Helper()
	path, err := dukpt.NewInitialKeyPath(initial, bdkType)
	if err != nil {
		t.Fatal(err)
	}
	key := make([]byte, bdkType.Size())
	if err := software.AESDerive(key, bdk, path); err != nil {
		t.Fatal(err)
	}
	var c uint32
	for bit := uint32(1 << 31); bit != 0; bit >>= 1 {
		if counter&bit == 0 {
			continue
		}
		c |= bit
		step, err := dukpt.DerivationKeyStep(initial.InitialKeyID(), c, bdkType)
		if err != nil {
			t.Fatal(err)
		}
		if err := software.AESDeriveStep(key, key, step); err != nil {
			t.Fatal(err)
		}
	}
	if v.Usage == "TransactionDerivation" {
		return key
	}
	ksn, err := initial.WithCounter(1)
	if err != nil {
		t.Fatal(err)
	}
	step, err := dukpt.WorkingKeyStep(ksn, bdkType, usages[v.Usage], keyTypes[v.WorkingKeyType])
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < step.DataLen; i += 16 {
		binary.BigEndian.PutUint32(step.Data[i+12:], counter)
	}
	out := make([]byte, step.Key.Size())
	if err := software.AESDeriveStep(out, key, step); err != nil {
		t.Fatal(err)
	}
	return out
}

// checkIntermediate compares the keys on the way with those that the vector gives.
func checkIntermediate(t *testing.T, v aesVector) {
	t.Helper()
	for usage, want := range map[string]string{"InitialKey": v.ComputedHere.InitialKey, "TransactionDerivation": v.ComputedHere.DerivationKey} {
		if want == "" {
			continue
		}
		w := v
		w.Usage, w.WorkingKeyType = usage, v.BDKType
		if got := upper(deriveAESVector(t, w)); got != want {
			t.Errorf("%s = %s, want %s", usage, got, want)
		}
	}
}

func testAESUse(t *testing.T, v aesVector) {
	key := deriveAESVector(t, v)
	if upper(key) != v.ComputedHere.WorkingKey {
		t.Errorf("working key = %X, want %s", key, v.ComputedHere.WorkingKey)
	}
	var got []byte
	want := v.Result
	switch v.Kind {
	case "iso4_pin_block": // ISO 9564-1:2017 9.4.2.3
		want = v.EncryptedPINBlock
		b := mustAES(t, key)
		got = make([]byte, 16)
		b.Encrypt(got, unhex(t, v.PINField))
		b.Encrypt(got, xor(got, unhex(t, v.PANField)))
	case "cmac":
		got = cmac(mustAES(t, key), []byte(v.DataASCII))
	case "hmac_sha256":
		m := hmac.New(sha256.New, key)
		m.Write([]byte(v.DataASCII))
		got = m.Sum(nil)
	case "cbc_encrypt":
		got = cbc(mustAES(t, key), unhex(t, v.IV), unhex(t, v.DataPadded))
	case "ecb_encrypt_single_block":
		got = make([]byte, 16)
		mustAES(t, key).Encrypt(got, unhex(t, v.DataPadded))
	default:
		t.Fatalf("unknown kind %s", v.Kind)
	}
	if upper(got) != want {
		t.Errorf("%s = %X, want %s", v.Kind, got, want)
	}
}

// Update keys of other types under the supplement's AES-128 BDK, X9.24-3:2017 6.5.3; figures from
// openemv/dukpt test/dukpt_aes128_update_key_test.c (supplement pages 7, 24 and 30).
func TestAESUpdateKeys(t *testing.T) {
	ksn := parseKSN(t, "123456789012345600000001")
	for working, want := range map[dukpt.KeyType]string{
		dukpt.AES128:   "9A9770AEE1ACD1B13473D0463A1883B9",
		dukpt.TDES2Key: "4744A5ECBC62B5C4BB76FBEAE1E244A3",
		dukpt.TDES3Key: "AF82BE8533CFCA526DA71708667AD0BBC7A7517504C78C8A",
	} {
		p, err := dukpt.NewUpdateKeyPath(ksn, dukpt.AES128, working)
		if err != nil {
			t.Fatal(err)
		}
		out := make([]byte, working.Size())
		if err := software.AESDerive(out, unhex(t, "FEDCBA9876543210F1F1F1F1F1F1F1F1"), p); err != nil || upper(out) != want {
			t.Errorf("%s: %X, %v; want %s", working, out, err, want)
		}
		terminal, err := software.NewTerminal(unhex(t, "1273671EA26AC29AFA4D1084127652A1"), ksn.Initial())
		if err != nil {
			t.Fatal(err)
		}
		if err := terminal.UpdateKey(out, working); err != nil || upper(out) != want {
			t.Errorf("terminal, %s: %X, %v; want %s", working, out, err, want)
		}
	}
}

func mustAES(t *testing.T, key []byte) cipher.Block {
	t.Helper()
	b, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func xor(a, b []byte) []byte {
	out := make([]byte, len(a))
	for i := range a {
		out[i] = a[i] ^ b[i]
	}
	return out
}

// cbc enciphers whole blocks.
func cbc(b cipher.Block, iv, plain []byte) []byte {
	out := make([]byte, len(plain))
	cipher.NewCBCEncrypter(b, iv).CryptBlocks(out, plain)
	return out
}

// retailMAC is ANSI X9.19 (ISO 9797-1 algorithm 3, padding 1).
func retailMAC(key, data []byte) []byte {
	var left, right des.Schedule
	left.ExpandBytes(key)
	right.ExpandBytes(key[8:])
	padded := append([]byte{}, data...)
	for len(padded)%8 != 0 {
		padded = append(padded, 0)
	}
	var x uint64
	for i := 0; i < len(padded); i += 8 {
		x = left.Encrypt(x ^ binary.BigEndian.Uint64(padded[i:]))
	}
	return binary.BigEndian.AppendUint64(nil, left.Encrypt(right.Decrypt(x)))
}

// cmac is NIST SP 800-38B for blocks of 8 or 16 bytes.
func cmac(b cipher.Block, data []byte) []byte {
	n := b.BlockSize()
	double := func(in []byte) []byte {
		out := make([]byte, n)
		for i := range in {
			out[i] = in[i] << 1
			if i+1 < n {
				out[i] |= in[i+1] >> 7
			}
		}
		if in[0]&0x80 != 0 {
			out[n-1] ^= map[int]byte{8: 0x1B, 16: 0x87}[n]
		}
		return out
	}
	l := make([]byte, n)
	b.Encrypt(l, l)
	sub := double(l)
	padded := append([]byte{}, data...)
	if len(data) == 0 || len(data)%n != 0 {
		sub = double(sub)
		padded = append(padded, 0x80)
		for len(padded)%n != 0 {
			padded = append(padded, 0)
		}
	}
	last := padded[len(padded)-n:]
	copy(last, xor(last, sub))
	out := cbc(b, make([]byte, n), padded)
	return out[len(out)-n:]
}
