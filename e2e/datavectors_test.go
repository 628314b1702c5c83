package e2e

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	keydv1 "keyd/api/keyd/v1"
)

func hexUpper(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

func (s *service) data() keydv1.DataServiceClient {
	s.t.Helper()
	return keydv1.NewDataServiceClient(s.connect(s.tls("switch")))
}

// dataAttempt is data that are enciphered and deciphered.
type dataAttempt struct {
	id                string
	key               *keydv1.DataKey
	plain, iv, cipher []byte
}

// TestPublishedData has every published encipherment with a DUKPT data key done through the
// service, both ways, and under another key.
func TestPublishedData(t *testing.T) {
	ring := newKeyring()
	attempts := dukptData(t, ring)
	zone := &keydv1.DataKey{KeyId: ring.add("D0", "A", "B", zoneAES), Mode: keydv1.DataKey_CBC}
	data := start(t, ring.keys...).data()
	for _, a := range attempts {
		t.Run(a.id, func(t *testing.T) {
			made, err := data.EncryptData(t.Context(), &keydv1.EncryptDataRequest{Key: a.key, Plaintext: a.plain, InitializationVector: a.iv})
			if err != nil || !bytes.Equal(made.Ciphertext, a.cipher) || !bytes.Equal(made.InitializationVector, a.iv) || len(made.KeyCheckValue) != 6 {
				t.Fatalf("%X (%v), %v: %s; want %X", made.GetCiphertext(), made, err, reason(err), a.cipher)
			}
			back, err := data.DecryptData(t.Context(), &keydv1.DecryptDataRequest{Key: a.key, Ciphertext: a.cipher, InitializationVector: a.iv})
			if err != nil || !bytes.Equal(back.Plaintext, a.plain) {
				t.Errorf("%X, %v: %s", back.GetPlaintext(), err, reason(err))
			}
			if len(a.plain)%16 != 0 {
				return // no whole blocks of AES
			}
			again, err := data.ReEncryptData(t.Context(), &keydv1.ReEncryptDataRequest{Incoming: a.key, Outgoing: zone, Ciphertext: a.cipher, InitializationVector: a.iv})
			if err != nil {
				t.Fatalf("re-encrypt: %v: %s", err, reason(err))
			}
			plain := make([]byte, len(a.plain))
			cipher.NewCBCDecrypter(aesCipher(t, unhex(t, zoneAES)), again.InitializationVector).CryptBlocks(plain, again.Ciphertext)
			if !bytes.Equal(plain, a.plain) {
				t.Errorf("re-encrypted: %X", plain)
			}
		})
	}
	t.Logf("%d attempts", len(attempts))
}

func dukptData(t *testing.T, ring *keyring) (attempts []dataAttempt) {
	add := func(id string, key *keydv1.DataKey, direction keydv1.DataKey_Direction, plain, iv, result string) {
		if result == "" {
			return
		}
		key = proto.Clone(key).(*keydv1.DataKey)
		key.Direction = direction
		attempts = append(attempts, dataAttempt{id, key, unhex(t, plain), unhex(t, iv), unhex(t, result)})
	}
	const request, response = keydv1.DataKey_REQUEST, keydv1.DataKey_RESPONSE
	type tdesVector struct {
		ID, Kind, BDK, KSN string
		Plain              string `json:"data_plain"`
		IV                 string `json:"data_iv"`
		Request            string `json:"data_request_encrypted_cbc"`
		Response           string `json:"data_response_encrypted_cbc"`
		IV2                string `json:"data_request_iv2"`
		Request2           string `json:"data_request_encrypted_cbc_iv2"`
		Block              string `json:"single_block_plain"`
		BlockResult        string `json:"single_block_encrypted_with_data_key"`
		Track              string `json:"track_plain"`
		TrackResult        string `json:"track_encrypted_with_data_key_cbc"`
	}
	const zero = "0000000000000000"
	for _, v := range readVectors[tdesVector](t, "../dukpt/software/testdata/dukpt_tdes.json") {
		if v.Kind != "derivation" {
			continue
		}
		key := &keydv1.DataKey{KeyId: ring.add("B0", "T", "X", v.BDK), Mode: keydv1.DataKey_CBC, Dukpt: &keydv1.DukptAttributes{KeySerialNumber: unhex(t, v.KSN)}}
		add(v.ID+" request", key, request, v.Plain, v.IV, v.Request)
		add(v.ID+" response", key, response, v.Plain, v.IV, v.Response)
		add(v.ID+" request, other IV", key, request, v.Plain, v.IV2, v.Request2)
		add(v.ID+" block", key, request, v.Block, zero, v.BlockResult)
		add(v.ID+" track", key, request, v.Track, zero, v.TrackResult)
	}
	published := len(attempts)
	type aesVector struct {
		ID, Kind, BDK, KSN, Usage, Direction, Result, IV string
		Plain                                            string `json:"data_padded"`
		Working                                          string `json:"working_key_type"`
		Derived                                          string `json:"derived_key"`
	}
	types := map[string]keydv1.DukptAttributes_KeyType{
		"AES128": keydv1.DukptAttributes_AES_128, "AES192": keydv1.DukptAttributes_AES_192, "AES256": keydv1.DukptAttributes_AES_256,
		"2TDEA": keydv1.DukptAttributes_TDES_2KEY, "3TDEA": keydv1.DukptAttributes_TDES_3KEY,
	}
	for _, v := range readVectors[aesVector](t, "../dukpt/software/testdata/dukpt_aes.json") {
		if v.BDK == "" {
			continue // the advance of a KSN
		}
		key := &keydv1.DataKey{KeyId: ring.add("B0", "A", "X", v.BDK), Mode: keydv1.DataKey_CBC,
			Dukpt: &keydv1.DukptAttributes{KeySerialNumber: unhex(t, v.KSN), KeyType: types[v.Working]}}
		direction := request
		if v.Direction == "response" || v.Usage == "DataDec" {
			direction = response
		}
		switch {
		case v.Kind == "cbc_encrypt":
			add(v.ID, key, direction, v.Plain, v.IV, v.Result)
		case v.Kind == "ecb_encrypt_single_block":
			add(v.ID, key, direction, v.Plain, zero+zero, v.Result) // one block of CBC
		case v.Kind == "derived_key" && (v.Usage == "DataEnc" || v.Usage == "DataDec") && !strings.Contains(v.KSN[16:], "FFFF"):
			block, iv := aesCipher, zero+zero
			if strings.HasSuffix(v.Working, "TDEA") {
				block, iv = tdes, zero
			}
			plain := strings.Repeat("4B", len(iv)/2)
			add(v.ID+" data key", key, direction, plain, iv, hexUpper(encrypt(block(t, unhex(t, v.Derived)), unhex(t, plain))))
		}
	}
	if published < 30 || len(attempts)-published < 45 {
		t.Fatalf("%d published encipherments of TDES DUKPT, %d of AES DUKPT", published, len(attempts)-published)
	}
	return attempts
}

// TestStaticDataKeys enciphers data of many sizes, in every mode and under every algorithm,
// and compares with Go's own.
func TestStaticDataKeys(t *testing.T) {
	const three = "0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123"
	ring := newKeyring()
	keys := map[string]struct {
		name  string
		block cipher.Block
	}{
		"AES-128": {ring.add("D0", "A", "B", zoneAES), aesCipher(t, unhex(t, zoneAES))},
		"AES-256": {ring.add("D0", "A", "B", zoneAES+zoneTDES), aesCipher(t, unhex(t, zoneAES+zoneTDES))},
		"TDES-2":  {ring.add("D0", "T", "B", zoneTDES), tdes(t, unhex(t, zoneTDES))},
		"TDES-3":  {ring.add("D0", "T", "B", three), tdes(t, unhex(t, three))},
	}
	onlyCTR := ring.add("D0", "A", "B", zoneTDES, func(k *testKey) { k.DataModes = []string{"CTR"} })
	data := start(t, ring.keys...).data()
	for name, k := range keys {
		size := k.block.BlockSize()
		for _, n := range []int{size, 2 * size, 8192 - size, 8192, 8192 + size, 32768} {
			plain := random(t, n)
			key := &keydv1.DataKey{KeyId: k.name, Mode: keydv1.DataKey_CBC}
			made, err := data.EncryptData(t.Context(), &keydv1.EncryptDataRequest{Key: key, Plaintext: plain})
			if err != nil {
				t.Fatalf("%s, %d bytes: %v: %s", name, n, err, reason(err))
			}
			want := make([]byte, n)
			cipher.NewCBCEncrypter(k.block, made.InitializationVector).CryptBlocks(want, plain)
			if !bytes.Equal(made.Ciphertext, want) {
				t.Errorf("%s, %d bytes: not what CBC makes of them", name, n)
			}
			back, err := data.DecryptData(t.Context(), &keydv1.DecryptDataRequest{Key: key, Ciphertext: want, InitializationVector: made.InitializationVector})
			if err != nil || !bytes.Equal(back.Plaintext, plain) {
				t.Errorf("%s, %d bytes: %v", name, n, err)
			}
		}
		if size == 8 {
			_, err := data.EncryptData(t.Context(), &keydv1.EncryptDataRequest{Key: &keydv1.DataKey{KeyId: k.name, Mode: keydv1.DataKey_CTR}, Plaintext: make([]byte, 8)})
			if reason(err) != "KEY_USAGE_MISMATCH" {
				t.Errorf("%s in CTR mode: %s", name, reason(err))
			}
			continue
		}
		for _, n := range []int{1, 15, 16, 17, 8191, 8192, 8193, 32767, 32768} {
			plain := random(t, n)
			key := &keydv1.DataKey{KeyId: k.name, Mode: keydv1.DataKey_CTR}
			made, err := data.EncryptData(t.Context(), &keydv1.EncryptDataRequest{Key: key, Plaintext: plain})
			if err != nil {
				t.Fatalf("%s, %d bytes in CTR mode: %v: %s", name, n, err, reason(err))
			}
			want := make([]byte, n)
			cipher.NewCTR(k.block, made.InitializationVector).XORKeyStream(want, plain)
			if !bytes.Equal(made.Ciphertext, want) {
				t.Errorf("%s, %d bytes: not what CTR makes of them", name, n)
			}
			// Counter blocks that overflow on the way.
			for _, counter := range []string{"FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", "0000000000000000FFFFFFFFFFFFFFF0"} {
				cipher.NewCTR(k.block, unhex(t, counter)).XORKeyStream(want, plain)
				back, err := data.DecryptData(t.Context(), &keydv1.DecryptDataRequest{Key: key, Ciphertext: want, InitializationVector: unhex(t, counter)})
				if err != nil || !bytes.Equal(back.Plaintext, plain) {
					t.Errorf("%s, %d bytes from counter %s: %v", name, n, counter, err)
				}
			}
			other := &keydv1.DataKey{KeyId: keys["AES-256"].name, Mode: keydv1.DataKey_CTR}
			again, err := data.ReEncryptData(t.Context(), &keydv1.ReEncryptDataRequest{Incoming: key, Outgoing: other, Ciphertext: made.Ciphertext, InitializationVector: made.InitializationVector})
			if err != nil {
				t.Fatalf("%s, %d bytes again: %v: %s", name, n, err, reason(err))
			}
			cipher.NewCTR(keys["AES-256"].block, again.InitializationVector).XORKeyStream(want, again.Ciphertext)
			if !bytes.Equal(want, plain) {
				t.Errorf("%s, %d bytes again: other data", name, n)
			}
		}
	}
	// Sizes that are refused, and the counter that is not the caller's to choose.
	aesCBC := &keydv1.DataKey{KeyId: keys["AES-128"].name, Mode: keydv1.DataKey_CBC}
	aesCTR := &keydv1.DataKey{KeyId: keys["AES-128"].name, Mode: keydv1.DataKey_CTR}
	for what, r := range map[string]*keydv1.EncryptDataRequest{
		"no data":               {Key: aesCBC},
		"no whole blocks":       {Key: aesCBC, Plaintext: make([]byte, 24)},
		"an IV of 8 bytes":      {Key: aesCBC, Plaintext: make([]byte, 16), InitializationVector: make([]byte, 8)},
		"too many":              {Key: aesCBC, Plaintext: make([]byte, 32784)},
		"a counter of a caller": {Key: aesCTR, Plaintext: make([]byte, 16), InitializationVector: make([]byte, 16)},
		"no mode":               {Key: &keydv1.DataKey{KeyId: aesCBC.KeyId}, Plaintext: make([]byte, 16)},
	} {
		if _, err := data.EncryptData(t.Context(), r); reason(err) != "REQUEST_INVALID" {
			t.Errorf("%s: %s", what, reason(err))
		}
	}
	for mode, want := range map[keydv1.DataKey_Mode]string{keydv1.DataKey_CBC: "KEY_USAGE_MISMATCH", keydv1.DataKey_CTR: "OK"} {
		_, err := data.EncryptData(t.Context(), &keydv1.EncryptDataRequest{Key: &keydv1.DataKey{KeyId: onlyCTR, Mode: mode}, Plaintext: make([]byte, 16)})
		if reason(err) != want {
			t.Errorf("a key for CTR alone in %v: %s, want %s", mode, reason(err), want)
		}
	}
	if _, err := data.DecryptData(t.Context(), &keydv1.DecryptDataRequest{Key: aesCBC, Ciphertext: make([]byte, 16)}); reason(err) != "REQUEST_INVALID" {
		t.Errorf("deciphered without an IV: %s", reason(err))
	}
}

func random(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPublishedCardValues has every published card verification value made and verified.
func TestPublishedCardValues(t *testing.T) {
	type vector struct {
		ID, CVK, PAN, Expiry, CVV, Kind string
		ServiceCode                     string `json:"service_code"`
	}
	ring := newKeyring()
	vectors := readVectors[vector](t, "testdata/cvv.json")
	names := make([]string, len(vectors))
	for i, v := range vectors {
		names[i] = ring.add("C0", "T", "C", v.CVK)
	}
	data := start(t, ring.keys...).data()
	for i, v := range vectors {
		method := &keydv1.CardValidationMethod{Method: &keydv1.CardValidationMethod_Cvv{Cvv: &keydv1.Cvv{CardExpiryDate: v.Expiry, ServiceCode: v.ServiceCode}}}
		if v.ServiceCode == "000" {
			if _, err := data.GenerateCardValidationData(t.Context(), &keydv1.GenerateCardValidationDataRequest{KeyId: names[i], PrimaryAccountNumber: v.PAN, Method: method}); reason(err) != "REQUEST_INVALID" {
				t.Errorf("%s: a CVV with the service code of a CVV2: %s", v.ID, reason(err))
			}
			method = &keydv1.CardValidationMethod{Method: &keydv1.CardValidationMethod_Cvv2{Cvv2: &keydv1.Cvv2{CardExpiryDate: v.Expiry}}}
		}
		made, err := data.GenerateCardValidationData(t.Context(), &keydv1.GenerateCardValidationDataRequest{KeyId: names[i], PrimaryAccountNumber: v.PAN, Method: method})
		if err != nil || made.ValidationData != v.CVV || made.Custody != keydv1.Custody_CUSTODY_MODULE || len(made.KeyCheckValue) != 6 {
			t.Errorf("%s: %v, %v: %s; want %s", v.ID, made, err, reason(err), v.CVV)
		}
		for value, want := range map[string]bool{v.CVV: true, "000": v.CVV == "000"} {
			verified, err := data.VerifyCardValidationData(t.Context(), &keydv1.VerifyCardValidationDataRequest{KeyId: names[i], PrimaryAccountNumber: v.PAN, Method: method, ValidationData: value})
			if err != nil || verified.Verified != want {
				t.Errorf("%s: %s verifies as %v, %v", v.ID, value, verified, err)
			}
		}
	}
	// iCVV: the reference, since no published figure is one.
	icvv := &keydv1.CardValidationMethod{Method: &keydv1.CardValidationMethod_Icvv{Icvv: &keydv1.Icvv{CardExpiryDate: "2812"}}}
	made, err := data.GenerateCardValidationData(t.Context(), &keydv1.GenerateCardValidationDataRequest{KeyId: names[0], PrimaryAccountNumber: "4111111111111111", Method: icvv})
	if want := cvv(t, unhex(t, vectors[0].CVK), "41111111111111112812999"); err != nil || made.ValidationData != want {
		t.Errorf("iCVV: %v, %v; want %s", made, err, want)
	}
}

// cvv is the construction of card verification values over the digits of their input.
func cvv(t *testing.T, key []byte, digits string) string {
	in := unhex(t, digits+strings.Repeat("0", 32-len(digits)))
	out := hexUpper(encrypt(tdes(t, key), xor(encrypt(des1(t, key[:8]), in[:8]), in[8:])))
	var first, later []byte
	for _, c := range []byte(out) {
		if c <= '9' {
			first = append(first, c)
		} else {
			later = append(later, c-'A'+'0')
		}
	}
	return string(append(first, later...)[:3])
}
