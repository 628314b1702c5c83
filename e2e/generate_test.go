package e2e

import (
	"bytes"
	"crypto/aes"
	"fmt"
	"strings"
	"testing"

	keydv1 "keyd/api/keyd/v1"
)

const testPAN = "4111111111111111"

func visa(index int32, pvv string) *keydv1.PinMethod {
	return &keydv1.PinMethod{Method: &keydv1.PinMethod_VisaPvv{VisaPvv: &keydv1.VisaPvv{KeyIndex: index, Pvv: pvv}}}
}

func offset(value string) *keydv1.PinMethod {
	return &keydv1.PinMethod{Method: &keydv1.PinMethod_Ibm3624{Ibm3624: &keydv1.Ibm3624{Offset: value}}}
}

// pinOf deciphers a block under a zone key of these tests with the reference.
func pinOf(t *testing.T, format keydv1.PinBlockFormat, block []byte, pan string) string {
	t.Helper()
	var field []byte
	if format == keydv1.PinBlockFormat_ISO_FORMAT_4 {
		c := aesCipher(t, unhex(t, zoneAES))
		middle, clear := make([]byte, aes.BlockSize), make([]byte, aes.BlockSize)
		c.Decrypt(middle, block)
		c.Decrypt(clear, xor(middle, panField4(t, pan)))
		field = clear
	} else {
		clear := make([]byte, 8)
		tdes(t, unhex(t, zoneTDES)).Decrypt(clear, block)
		field = xor(clear, unhex(t, "0000"+account(pan)))
	}
	digits := hexUpper(field)
	n := strings.IndexByte("0123456789ABC", digits[1])
	return digits[2 : 2+n]
}

// pvvOf is Visa's PVV by the reference.
func pvvOf(t *testing.T, key, pan string, index int, pin string) string {
	a := account(pan)
	out := hexUpper(encrypt(tdes(t, unhex(t, key)), unhex(t, fmt.Sprintf("%s%d%s", a[1:], index, pin[:4]))))
	var first, later []byte
	for _, c := range []byte(out) {
		if c <= '9' {
			first = append(first, c)
		} else {
			later = append(later, c-'A'+'0')
		}
	}
	return string(append(first, later...)[:4])
}

// offsetOf is an IBM 3624 offset by the reference, for a rule of 12 digits from the left.
func offsetOf(t *testing.T, key, pan, pin string, check int) string {
	out := hexUpper(encrypt(tdes(t, unhex(t, key)), unhex(t, pan[:12]+"FFFF")))
	var offset []byte
	for i := len(pin) - check; i < len(pin); i++ {
		natural := strings.IndexByte("0123456789ABCDEF", out[i]) % 10
		offset = append(offset, byte('0'+(int(pin[i]-'0')-natural+10)%10))
	}
	return string(offset)
}

const pvkVisa, pvkIBM = "5CA64B3C22BEC347CA7E6609904BAAED", "1C1EB1090681CC9E6003E05217C7077E"

func issuerKeys(ring *keyring, mode string) (v2, v1 string) {
	rule := &ibm3624{Table: "0123456789012345", Start: 0, Length: 12, Pad: "F"}
	return ring.add("V2", "T", mode, pvkVisa), ring.add("V1", "T", mode, pvkIBM, func(k *testKey) { k.IBM3624 = rule })
}

// TestGeneratedPINs: a PIN that keyd makes has the length asked for, comes in a block of
// the format asked for, and the value beside it is the one that the reference makes of it,
// by which it verifies.
func TestGeneratedPINs(t *testing.T) {
	ring := newKeyring()
	v2, v1 := issuerKeys(ring, "C")
	s := startWith(t, tempDir(t)+"/dev", []string{"--verify-limits", "0,0,0"}, ring.keys...)
	pins := s.pins()
	seen := map[string]bool{}
	digits := map[byte]int{}
	for _, format := range []keydv1.PinBlockFormat{keydv1.PinBlockFormat_ISO_FORMAT_0, keydv1.PinBlockFormat_ISO_FORMAT_3, keydv1.PinBlockFormat_ISO_FORMAT_4} {
		for length := int32(4); length <= 12; length++ {
			for _, ibm := range []bool{false, true} {
				key, method := v2, visa(3, "")
				if ibm {
					key, method = v1, offset("")
				}
				out := zone(ring, format)
				made, err := pins.GeneratePinData(t.Context(), &keydv1.GeneratePinDataRequest{
					Outgoing: out, GenerationKeyId: key, PrimaryAccountNumber: testPAN, PinLength: length, Method: method})
				if err != nil {
					t.Fatalf("%v, %d digits, IBM %t: %v: %s", format, length, ibm, err, reason(err))
				}
				pin := pinOf(t, format, made.EncryptedPinBlock, testPAN)
				if len(pin) != int(length) || strings.Trim(pin, "0123456789") != "" {
					t.Fatalf("a PIN of %d digits is %q", length, pin)
				}
				seen[pin] = true
				for i := range pin {
					digits[pin[i]]++
				}
				datum := visa(3, pvvOf(t, pvkVisa, testPAN, 3, pin))
				if ibm {
					datum = offset(offsetOf(t, pvkIBM, testPAN, pin, len(pin)))
				}
				if made.Datum.String() != datum.String() || made.Custody != keydv1.Custody_CUSTODY_MODULE {
					t.Errorf("%v of %s; want %v", made, pin, datum)
				}
				verified, err := pins.VerifyPinData(t.Context(), &keydv1.VerifyPinDataRequest{
					Incoming: out, VerificationKeyId: key, PrimaryAccountNumber: testPAN, EncryptedPinBlock: made.EncryptedPinBlock, Expected: made.Datum})
				if err != nil || !verified.Verified {
					t.Errorf("a generated PIN does not verify: %v, %v", verified, err)
				}
			}
		}
	}
	if len(seen) < 50 || len(digits) != 10 { // 54 PINs, 432 digits
		t.Errorf("%d different PINs of 54, %d different digits", len(seen), len(digits))
	}
}

// TestChangedPINs: the value for a new PIN comes only with the right current one, and is
// the one that the reference makes.
func TestChangedPINs(t *testing.T) {
	ring := newKeyring()
	v2, v1 := issuerKeys(ring, "C")
	bdk := ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210")
	pins := start(t, ring.keys...).pins()
	in, in4 := zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0), zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_4)
	block := func(pin string) []byte { return encrypt(tdes(t, unhex(t, zoneTDES)), iso0(t, "0", pin, "F", testPAN)) }
	pvv := func(pin string) *keydv1.PinMethod { return visa(1, pvvOf(t, pvkVisa, testPAN, 1, pin)) }
	ibm := func(pin string, check int) *keydv1.PinMethod { return offset(offsetOf(t, pvkIBM, testPAN, pin, check)) }
	// The published block under FFFF9876543210E00001, of another account.
	dukpt := &keydv1.PinKey{KeyId: bdk, Format: keydv1.PinBlockFormat_ISO_FORMAT_0, Dukpt: &keydv1.DukptAttributes{KeySerialNumber: unhex(t, "FFFF9876543210E00001")}}
	const dukptPAN = "4012345678909"
	for name, c := range map[string]struct {
		request  *keydv1.ChangePinDataRequest
		verified bool
		datum    *keydv1.PinMethod
		refused  string
	}{
		"PVV":                {&keydv1.ChangePinDataRequest{Incoming: in, VerificationKeyId: v2, CurrentEncryptedPinBlock: block("1234"), Current: pvv("1234"), NewEncryptedPinBlock: block("852012")}, true, pvv("852012"), ""},
		"PVV, wrong PIN":     {&keydv1.ChangePinDataRequest{Incoming: in, VerificationKeyId: v2, CurrentEncryptedPinBlock: block("1235"), Current: pvv("1234"), NewEncryptedPinBlock: block("852012")}, false, nil, ""},
		"offset":             {&keydv1.ChangePinDataRequest{Incoming: in, VerificationKeyId: v1, CurrentEncryptedPinBlock: block("1234"), Current: ibm("1234", 4), NewEncryptedPinBlock: block("852012")}, true, ibm("852012", 4), ""},
		"offset, shorter":    {&keydv1.ChangePinDataRequest{Incoming: in, VerificationKeyId: v1, CurrentEncryptedPinBlock: block("123456"), Current: ibm("123456", 6), NewEncryptedPinBlock: block("8520")}, true, ibm("8520", 4), ""},
		"offset, wrong PIN":  {&keydv1.ChangePinDataRequest{Incoming: in, VerificationKeyId: v1, CurrentEncryptedPinBlock: block("1235"), Current: ibm("1234", 4), NewEncryptedPinBlock: block("8520")}, false, nil, ""},
		"a new key":          {&keydv1.ChangePinDataRequest{Incoming: in, NewIncoming: in4, VerificationKeyId: v2, CurrentEncryptedPinBlock: block("1234"), Current: pvv("1234"), NewEncryptedPinBlock: seal4(t, unhex(t, zoneAES), "99887", testPAN)}, true, pvv("99887"), ""},
		"DUKPT, then a zone": {&keydv1.ChangePinDataRequest{PrimaryAccountNumber: dukptPAN, Incoming: dukpt, NewIncoming: in, VerificationKeyId: v2, CurrentEncryptedPinBlock: unhex(t, "1B9C1845EB993A7A"), Current: visa(1, pvvOf(t, pvkVisa, dukptPAN, 1, "1234")), NewEncryptedPinBlock: encrypt(tdes(t, unhex(t, zoneTDES)), iso0(t, "0", "4321", "F", dukptPAN))}, true, visa(1, pvvOf(t, pvkVisa, dukptPAN, 1, "4321")), ""},
		"a new PIN that is not decimal, and a wrong one": {&keydv1.ChangePinDataRequest{Incoming: in, VerificationKeyId: v2, CurrentEncryptedPinBlock: block("1235"), Current: pvv("1234"), NewEncryptedPinBlock: block("85A0")}, false, nil, ""},
		"a new PIN that is not decimal":                  {&keydv1.ChangePinDataRequest{Incoming: in, VerificationKeyId: v2, CurrentEncryptedPinBlock: block("1234"), Current: pvv("1234"), NewEncryptedPinBlock: block("852F")}, false, nil, "PIN_BLOCK_INVALID"},
		"a new block that is none":                       {&keydv1.ChangePinDataRequest{Incoming: in, VerificationKeyId: v2, CurrentEncryptedPinBlock: block("1234"), Current: pvv("1234"), NewEncryptedPinBlock: make([]byte, 8)}, false, nil, "PIN_BLOCK_INVALID"},
		"a current block that is none":                   {&keydv1.ChangePinDataRequest{Incoming: in, VerificationKeyId: v2, CurrentEncryptedPinBlock: make([]byte, 8), Current: pvv("1234"), NewEncryptedPinBlock: block("1234")}, false, nil, "PIN_BLOCK_INVALID"},
		"a new block of format 1": {&keydv1.ChangePinDataRequest{Incoming: in, NewIncoming: &keydv1.PinKey{KeyId: in.KeyId, Format: keydv1.PinBlockFormat_ISO_FORMAT_1}, VerificationKeyId: v2,
			CurrentEncryptedPinBlock: block("1234"), Current: pvv("1234"), NewEncryptedPinBlock: block("1234")}, false, nil, "TRANSLATION_FORBIDDEN"},
	} {
		r := c.request
		if r.PrimaryAccountNumber == "" {
			r.PrimaryAccountNumber = testPAN
		}
		answer, err := pins.ChangePinData(t.Context(), r)
		if c.refused != "" {
			if reason(err) != c.refused {
				t.Errorf("%s: %v, %s; want %s", name, answer, reason(err), c.refused)
			}
			continue
		}
		if err != nil || answer.Verified != c.verified || answer.NewDatum.String() != c.datum.String() {
			t.Errorf("%s: %v, %v: %s; want %t, %v", name, answer, err, reason(err), c.verified, c.datum)
		}
	}
}

// TestGenerationCountsAsTry: whoever could have any number of PINs and their values for an
// account would know which PIN a value belongs to.
func TestGenerationCountsAsTry(t *testing.T) {
	ring := newKeyring()
	v2, _ := issuerKeys(ring, "C")
	pins := startWith(t, tempDir(t)+"/dev", []string{"--verify-limits", "3,3,3"}, ring.keys...).pins()
	out := zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0)
	block := encrypt(tdes(t, unhex(t, zoneTDES)), iso0(t, "0", "1234", "F", testPAN))
	generate := func() error {
		_, err := pins.GeneratePinData(t.Context(), &keydv1.GeneratePinDataRequest{Outgoing: out, GenerationKeyId: v2, PrimaryAccountNumber: testPAN, PinLength: 4, Method: visa(1, "")})
		return err
	}
	change := func() error {
		_, err := pins.ChangePinData(t.Context(), &keydv1.ChangePinDataRequest{Incoming: out, VerificationKeyId: v2, PrimaryAccountNumber: testPAN,
			CurrentEncryptedPinBlock: block, Current: visa(1, "0000"), NewEncryptedPinBlock: block})
		return err
	}
	verify := func() error {
		_, err := pins.VerifyPinData(t.Context(), &keydv1.VerifyPinDataRequest{Incoming: out, VerificationKeyId: v2, PrimaryAccountNumber: testPAN, EncryptedPinBlock: block, Expected: visa(1, "0000")})
		return err
	}
	for i, try := range []func() error{generate, change, verify} {
		if err := try(); err != nil {
			t.Fatalf("try %d: %v", i, err)
		}
	}
	for i, try := range []func() error{generate, change, verify} {
		if err := try(); reason(err) != "RATE_LIMITED" {
			t.Errorf("try %d over the limit: %s", i, reason(err))
		}
	}
	// A malformed block costs nothing; another account has tries of its own.
	other, err := pins.GeneratePinData(t.Context(), &keydv1.GeneratePinDataRequest{Outgoing: out, GenerationKeyId: v2, PrimaryAccountNumber: "4012345678909", PinLength: 4, Method: visa(1, "")})
	if err != nil || bytes.Equal(other.EncryptedPinBlock, block) {
		t.Errorf("another account: %v, %v", other, err)
	}
}
