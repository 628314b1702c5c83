package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"testing"

	keydv1 "keyd/api/keyd/v1"
)

// The zone keys that vectors are translated to.
const (
	zoneTDES = "AABBCCDDEEFF00112233445566778899"
	zoneAES  = "00112233445566778899AABBCCDDEEFF"
)

// keyring collects the keys of vectors under one name per use and value.
type keyring struct {
	keys  []testKey
	names map[string]string
}

func newKeyring() *keyring {
	k := &keyring{names: map[string]string{}}
	k.add("P0", "T", "B", zoneTDES)
	k.add("P0", "A", "B", zoneAES)
	return k
}

func (k *keyring) add(usage, algorithm, mode, value string, change ...func(*testKey)) string {
	key := testKey{Usage: usage, Algorithm: algorithm, Mode: mode, Value: value}
	for _, c := range change {
		c(&key)
	}
	id := fmt.Sprint(usage, algorithm, mode, value, key.KSN, key.IBM3624)
	if key.IBM3624 != nil {
		id = fmt.Sprint(usage, algorithm, mode, value, key.KSN, *key.IBM3624)
	}
	if name, ok := k.names[id]; ok {
		return name
	}
	key.Name = fmt.Sprintf("%s-%s-%d", strings.ToLower(usage), strings.ToLower(algorithm), len(k.keys))
	k.names[id] = key.Name
	k.keys = append(k.keys, key)
	return key.Name
}

// find returns the key of a name.
func (k *keyring) find(name string) testKey {
	i := slices.IndexFunc(k.keys, func(key testKey) bool { return key.Name == name })
	return k.keys[i]
}

// attempt is a call that is made once the service with all keys runs.
type attempt struct {
	id   string
	call func(*testing.T, keydv1.PinServiceClient)
}

// TestPublishedVectors sends every published figure that is an operation of the
// service through it: what the rules allow gives the published result, what they
// forbid is refused with its reason.
func TestPublishedVectors(t *testing.T) {
	ring := newKeyring()
	var attempts []attempt
	attempts = append(attempts, dukptTDES(t, ring)...)
	attempts = append(attempts, dukptAES(t, ring)...)
	attempts = append(attempts, blocks(t, ring)...)
	attempts = append(attempts, verifications(t, ring)...)
	attempts = append(attempts, translations(t, ring)...)
	pins := start(t, ring.keys...).pins()
	for _, a := range attempts {
		t.Run(a.id, func(t *testing.T) { a.call(t, pins) })
	}
	t.Logf("%d attempts", len(attempts))
}

func zone(ring *keyring, format keydv1.PinBlockFormat) *keydv1.PinKey {
	if format == keydv1.PinBlockFormat_ISO_FORMAT_4 {
		return &keydv1.PinKey{KeyId: ring.add("P0", "A", "B", zoneAES), Format: format}
	}
	return &keydv1.PinKey{KeyId: ring.add("P0", "T", "B", zoneTDES), Format: format}
}

// expectTranslation translates to the TDES zone key in format 0 and expects the PIN.
func expectTranslation(id string, ring *keyring, in *keydv1.PinKey, pan, pin string, block []byte) attempt {
	out := zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0)
	return attempt{id, func(t *testing.T, pins keydv1.PinServiceClient) {
		answer, err := pins.TranslatePinData(t.Context(), &keydv1.TranslatePinDataRequest{Incoming: in, Outgoing: out, PrimaryAccountNumber: pan, EncryptedPinBlock: block})
		if err != nil {
			t.Fatalf("%v: %s", err, reason(err))
		}
		want := encrypt(tdes(t, unhex(t, zoneTDES)), iso0(t, "0", pin, "F", pan))
		if !bytes.Equal(answer.EncryptedPinBlock, want) {
			t.Errorf("block %X, want %X", answer.EncryptedPinBlock, want)
		}
		if answer.Custody == keydv1.Custody_CUSTODY_UNSPECIFIED || len(answer.KeyCheckValue) != 6 {
			t.Errorf("custody %v, check value %q", answer.Custody, answer.KeyCheckValue)
		}
	}}
}

func expectRefusal(id, want string, in, out *keydv1.PinKey, pan string, block []byte) attempt {
	return attempt{id, func(t *testing.T, pins keydv1.PinServiceClient) {
		answer, err := pins.TranslatePinData(t.Context(), &keydv1.TranslatePinDataRequest{Incoming: in, Outgoing: out, PrimaryAccountNumber: pan, EncryptedPinBlock: block})
		if got := reason(err); got != want || answer != nil {
			t.Errorf("%s, want %s (answer %v)", got, want, answer)
		}
	}}
}

func dukptTDES(t *testing.T, ring *keyring) (attempts []attempt) {
	type vector struct {
		ID, Kind, BDK, KSN, PAN, PIN string
		PINKey                       string `json:"pin_key"`
		Block                        string `json:"encrypted_pin_block"`
		Format                       string `json:"pin_block_format"`
	}
	published := 0
	for _, v := range readVectors[vector](t, "../dukpt/software/testdata/dukpt_tdes.json") {
		if v.Kind != "derivation" {
			continue
		}
		in := &keydv1.PinKey{
			KeyId:  ring.add("B0", "T", "X", v.BDK),
			Dukpt:  &keydv1.DukptAttributes{KeySerialNumber: unhex(t, v.KSN)},
			Format: keydv1.PinBlockFormat_ISO_FORMAT_0,
		}
		if v.Block != "" && v.Format == "ISO-0" {
			published++
			attempts = append(attempts, expectTranslation(v.ID, ring, in, v.PAN, v.PIN, unhex(t, v.Block)))
		}
		if v.PINKey != "" {
			block := encrypt(tdes(t, unhex(t, v.PINKey)), iso0(t, "0", "8520", "F", "4012345678909"))
			attempts = append(attempts, expectTranslation(v.ID+" PIN key", ring, in, "4012345678909", "8520", block))
		}
	}
	if published < 10 {
		t.Fatalf("only %d published TDES DUKPT blocks were found", published)
	}
	return attempts
}

func dukptAES(t *testing.T, ring *keyring) (attempts []attempt) {
	type vector struct {
		ID, Kind, BDK, KSN, PAN, PIN, Usage string
		Working                             string `json:"working_key_type"`
		Derived                             string `json:"derived_key"`
		Block                               string `json:"encrypted_pin_block"`
	}
	types := map[string]keydv1.DukptAttributes_KeyType{
		"AES128": keydv1.DukptAttributes_AES_128, "AES192": keydv1.DukptAttributes_AES_192, "AES256": keydv1.DukptAttributes_AES_256,
		"2TDEA": keydv1.DukptAttributes_TDES_2KEY, "3TDEA": keydv1.DukptAttributes_TDES_3KEY,
	}
	published, derived := 0, 0
	for _, v := range readVectors[vector](t, "../dukpt/software/testdata/dukpt_aes.json") {
		if v.Usage != "PIN" || (v.Kind != "iso4_pin_block" && v.Kind != "derived_key") {
			continue
		}
		in := &keydv1.PinKey{
			KeyId:  ring.add("B0", "A", "X", v.BDK),
			Dukpt:  &keydv1.DukptAttributes{KeySerialNumber: unhex(t, v.KSN), KeyType: types[v.Working]},
			Format: keydv1.PinBlockFormat_ISO_FORMAT_4,
		}
		if v.Kind == "iso4_pin_block" {
			published++
			attempts = append(attempts, expectTranslation(v.ID, ring, in, v.PAN, v.PIN, unhex(t, v.Block)))
			continue
		}
		derived++
		const pan, pin = "4111111111111111", "852012"
		if counter := unhex(t, v.KSN[16:]); bits.OnesCount32(binary.BigEndian.Uint32(counter)) > 16 {
			// The supplement prints keys for counters that no terminal may use.
			attempts = append(attempts, expectRefusal(v.ID, "KSN_INVALID", in, zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0), pan, make([]byte, 16)))
			continue
		}
		block := []byte(nil)
		if strings.HasSuffix(v.Working, "TDEA") {
			in.Format = keydv1.PinBlockFormat_ISO_FORMAT_3
			block = encrypt(tdes(t, unhex(t, v.Derived)), iso0(t, "3", pin, "C", pan))
		} else {
			block = seal4(t, unhex(t, v.Derived), pin, pan)
		}
		attempts = append(attempts, expectTranslation(v.ID, ring, in, pan, pin, block))
	}
	if published < 6 || derived < 90 {
		t.Fatalf("%d published blocks and %d derived PIN keys were found", published, derived)
	}
	return attempts
}

// blocks sends the published PIN blocks: enciphered ones as they are, clear ones under
// a zone key.
func blocks(t *testing.T, ring *keyring) (attempts []attempt) {
	type vector struct {
		ID, Format, PIN, PAN, Reason string
		PAN12                        string `json:"pan_12"`
		Clear                        string `json:"clear_block"`
		PINField                     string `json:"pin_field"`
		Key                          string
		Block                        string `json:"encrypted_block"`
		Valid                        bool
	}
	for _, v := range readVectors[vector](t, "../pinblock/testdata/pinblock.json") {
		pan := v.PAN
		if v.PAN12 != "" {
			pan = v.PAN12 + "0"
		}
		if pan == "" {
			pan = "5432101234567890"
		}
		format, iso := formats[v.Format]
		if !iso {
			format = keydv1.PinBlockFormat_ISO_FORMAT_0 // the contract cannot even name it
		}
		var in *keydv1.PinKey
		var block []byte
		switch {
		case v.Block != "" && len(v.Key) >= 32:
			algorithm := "T"
			if format == keydv1.PinBlockFormat_ISO_FORMAT_4 {
				algorithm = "A"
			}
			in, block = &keydv1.PinKey{KeyId: ring.add("P0", algorithm, "B", v.Key), Format: format}, unhex(t, v.Block)
		case v.PINField != "":
			in, block = zone(ring, format), seal4Field(t, unhex(t, zoneAES), unhex(t, v.PINField), pan)
		case len(v.Clear) == 16:
			in, block = zone(ring, format), encrypt(tdes(t, unhex(t, zoneTDES)), unhex(t, v.Clear))
		case len(v.Clear) == 14:
			in, block = zone(ring, format), unhex(t, v.Clear) // seven bytes: no block of any format
		default:
			continue // a PAN field alone
		}
		out := zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0)
		switch {
		case v.Valid && iso && format != keydv1.PinBlockFormat_ISO_FORMAT_2:
			attempts = append(attempts, expectTranslation(v.ID, ring, in, pan, v.PIN, block))
		case len(block)%8 != 0:
			attempts = append(attempts, expectRefusal(v.ID, "REQUEST_INVALID", in, out, pan, block))
		case v.Format == "ISO-2":
			attempts = append(attempts, expectRefusal(v.ID, "TRANSLATION_FORBIDDEN", in, out, pan, block))
		case strings.HasPrefix(v.Reason, "PIN not numeric"):
			// ISO 9564-1: the host does not look at PIN digits.
			attempts = append(attempts, attempt{v.ID + " not decimal", func(t *testing.T, pins keydv1.PinServiceClient) {
				if _, err := pins.TranslatePinData(t.Context(), &keydv1.TranslatePinDataRequest{Incoming: in, Outgoing: out, PrimaryAccountNumber: pan, EncryptedPinBlock: block}); err != nil {
					t.Errorf("a block with a PIN digit that is not decimal: %v", err)
				}
			}})
		default:
			attempts = append(attempts, expectRefusal(v.ID, "PIN_BLOCK_INVALID", in, out, pan, block))
		}
	}
	if len(attempts) < 50 {
		t.Fatalf("only %d PIN blocks were found", len(attempts))
	}
	return attempts
}

func verifications(t *testing.T, ring *keyring) (attempts []attempt) {
	type vector struct {
		ID, Algorithm, PVK, PAN, PIN, PVV, PVKI, Offset, Pad string
		PAN12                                                string `json:"pan_12"`
		Table                                                string `json:"decimalization_table"`
		Validation                                           string `json:"validation_data"`
	}
	singleDES := 0
	for _, v := range readVectors[vector](t, "../hsm/module/internal/pinverify/testdata/pin_verify.json") {
		if len(v.PVK) == 16 {
			singleDES++ // refused when the key is loaded: TestTestKeysAreChecked
			continue
		}
		request := func(pin string) *keydv1.VerifyPinDataRequest {
			r := &keydv1.VerifyPinDataRequest{
				Incoming:             zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0),
				PrimaryAccountNumber: v.PAN,
				EncryptedPinBlock:    encrypt(tdes(t, unhex(t, zoneTDES)), iso0(t, "0", pin, "F", v.PAN)),
			}
			if v.Algorithm == "VISA_PVV" {
				r.VerificationKeyId = ring.add("V2", "T", "V", v.PVK)
				index, err := strconv.Atoi(v.PVKI)
				if err != nil {
					t.Fatal(err)
				}
				r.Expected = &keydv1.PinMethod{Method: &keydv1.PinMethod_VisaPvv{VisaPvv: &keydv1.VisaPvv{KeyIndex: int32(index), Pvv: v.PVV}}}
				return r
			}
			rule := validationRule(t, v.PAN, v.Validation, v.Pad)
			rule.Table = v.Table
			r.VerificationKeyId = ring.add("V1", "T", "V", v.PVK, func(k *testKey) { k.IBM3624 = rule })
			r.Expected = &keydv1.PinMethod{Method: &keydv1.PinMethod_Ibm3624{Ibm3624: &keydv1.Ibm3624{Offset: v.Offset}}}
			return r
		}
		wrong := map[byte]string{'0': "1", '9': "8"}[v.PIN[0]]
		if wrong == "" {
			wrong = string(v.PIN[0] + 1)
		}
		for pin, verified := range map[string]bool{v.PIN: true, wrong + v.PIN[1:]: false} {
			r := request(pin)
			attempts = append(attempts, attempt{fmt.Sprint(v.ID, " ", verified), func(t *testing.T, pins keydv1.PinServiceClient) {
				answer, err := pins.VerifyPinData(t.Context(), r)
				if err != nil || answer.Verified != verified {
					t.Errorf("%v, %v; want %v", answer, err, verified)
				}
			}})
		}
	}
	if singleDES != 2 || len(attempts) != 2*15 {
		t.Fatalf("%d vectors with single DES, %d attempts", singleDES, len(attempts))
	}
	return attempts
}

// validationRule finds the rule that makes the published validation data of the PAN.
func validationRule(t *testing.T, pan, data, pad string) *ibm3624 {
	t.Helper()
	for start := range len(pan) {
		for length := min(16, len(pan)-start); length > 0; length-- {
			if pan[start:start+length]+strings.Repeat(pad, 16-length) == data {
				return &ibm3624{Start: start, Length: length, Pad: pad}
			}
		}
	}
	t.Fatalf("no rule makes %s of %s", data, pan)
	return nil
}

func translations(t *testing.T, ring *keyring) (attempts []attempt) {
	type side struct{ Key, BDK, KSN, Format, Block string }
	type vector struct {
		ID, PAN, PIN, Policy string
		PAN12                string `json:"pan_12"`
		Incoming, Outgoing   side
	}
	published, refused := 0, 0
	for _, v := range readVectors[vector](t, "testdata/translate.json") {
		pan := v.PAN
		if v.PAN12 != "" {
			pan = v.PAN12 + "0"
		}
		pinKey := func(s side) *keydv1.PinKey {
			if s.BDK != "" {
				return &keydv1.PinKey{KeyId: ring.add("B0", "T", "X", s.BDK), Format: formats[s.Format],
					Dukpt: &keydv1.DukptAttributes{KeySerialNumber: unhex(t, s.KSN)}}
			}
			return &keydv1.PinKey{KeyId: ring.add("P0", "T", "B", s.Key), Format: formats[s.Format]}
		}
		switch {
		case v.Incoming.Format != "ISO-0" || !strings.HasPrefix(v.Outgoing.Format, "ISO-") || len(v.Incoming.Key) == 16:
			// A format that the contract cannot name, or a single-DES key that cannot be
			// loaded: the contract's own "unspecified" is refused.
			refused++
			in := zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0)
			out := &keydv1.PinKey{KeyId: in.KeyId, Format: formats[v.Outgoing.Format]}
			if v.Outgoing.Format == "ISO-0" {
				in, out = &keydv1.PinKey{KeyId: in.KeyId}, in
			}
			attempts = append(attempts, expectRefusal(v.ID+" non-ISO", "REQUEST_INVALID", in, out, pan, unhex(t, v.Incoming.Block)))
		case v.Policy == "must_refuse":
			refused++
			attempts = append(attempts, expectRefusal(v.ID, "TRANSLATION_FORBIDDEN", pinKey(v.Incoming), pinKey(v.Outgoing), pan, unhex(t, v.Incoming.Block)))
		default:
			published++
			in, out := pinKey(v.Incoming), pinKey(v.Outgoing)
			block, want := unhex(t, v.Incoming.Block), unhex(t, v.Outgoing.Block)
			attempts = append(attempts, attempt{v.ID, func(t *testing.T, pins keydv1.PinServiceClient) {
				answer, err := pins.TranslatePinData(t.Context(), &keydv1.TranslatePinDataRequest{Incoming: in, Outgoing: out, PrimaryAccountNumber: pan, EncryptedPinBlock: block})
				if err != nil || !bytes.Equal(answer.EncryptedPinBlock, want) {
					t.Errorf("%X, %v; want %X", answer.GetEncryptedPinBlock(), err, want)
				}
			}})
		}
	}
	if published < 8 || refused < 5 {
		t.Fatalf("%d published translations, %d refused", published, refused)
	}
	return attempts
}
