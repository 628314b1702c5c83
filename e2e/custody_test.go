package e2e

import (
	"testing"

	keydv1 "keyd/api/keyd/v1"
)

// TestDemandedCustody: where the policy demands that every clear value stays in the token,
// the module does what the token can do alone and refuses the rest, before anything is
// deciphered or counted.
func TestDemandedCustody(t *testing.T) {
	ring := newKeyring()
	v2, _ := issuerKeys(ring, "C")
	retail, cmacKey := ring.add("M3", "T", "C", zoneTDES), ring.add("M6", "A", "C", zoneAES)
	dataKey, cvk := ring.add("D0", "A", "B", zoneAES), ring.add("C0", "T", "C", zoneTDES)
	bdk, bdkAES := ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210"), ring.add("B0", "A", "X", "FEDCBA9876543210F1F1F1F1F1F1F1F1")
	s := startWith(t, tempDir(t)+"/dev", []string{"--verify-limits", "1,1,1"}, ring.keys...)
	s.replace(s.file("config", "policy.yaml"), []byte(`version: 1
identities:
  - id: spiffe://dev.keyd/switch
    roles: [careful]
roles:
  careful:
    - methods: ["PinService/*", "MacService/*", "DataService/*"]
      keys: ["*"]
      usages: ["*"]
      custody: token
`))
	s.reload(loaded)
	pins, macs, data := s.pins(), s.macs(), s.data()
	format0 := zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0)
	block := encrypt(tdes(t, unhex(t, zoneTDES)), iso0(t, "0", "1234", "F", testPAN))
	mac := func(key string, algorithm keydv1.MacKey_Algorithm, dukpt *keydv1.DukptAttributes) func() error {
		k := &keydv1.MacKey{KeyId: key, Algorithm: algorithm, Dukpt: dukpt}
		if dukpt != nil {
			k.Direction = keydv1.MacKey_RESPONSE
		}
		return func() error {
			answer, err := macs.GenerateMac(t.Context(), &keydv1.GenerateMacRequest{Key: k, Message: []byte("message")})
			if err == nil && answer.Custody != keydv1.Custody_CUSTODY_TOKEN {
				t.Errorf("%s: %v", key, answer.Custody)
			}
			return err
		}
	}
	for name, c := range map[string]struct {
		want string
		try  func() error
	}{
		"retail MAC":             {"OK", mac(retail, keydv1.MacKey_ISO9797_ALGORITHM3, nil)},
		"CMAC":                   {"OK", mac(cmacKey, keydv1.MacKey_CMAC, nil)},
		"CMAC under AES DUKPT":   {"OK", mac(bdkAES, keydv1.MacKey_CMAC, transaction(t, "B0A"))},
		"a MAC under TDES DUKPT": {"CUSTODY_UNAVAILABLE", mac(bdk, keydv1.MacKey_CMAC, transaction(t, "B0T"))},
		"a MAC with a wrong key": {"KEY_USAGE_MISMATCH", mac(dataKey, keydv1.MacKey_CMAC, nil)},
		"a translation": {"CUSTODY_UNAVAILABLE", func() error {
			_, err := pins.TranslatePinData(t.Context(), &keydv1.TranslatePinDataRequest{Incoming: format0, Outgoing: format0, PrimaryAccountNumber: testPAN, EncryptedPinBlock: block})
			return err
		}},
		"a translation of no block": {"CUSTODY_UNAVAILABLE", func() error {
			_, err := pins.TranslatePinData(t.Context(), &keydv1.TranslatePinDataRequest{Incoming: format0, Outgoing: format0, PrimaryAccountNumber: testPAN, EncryptedPinBlock: make([]byte, 8)})
			return err
		}},
		"a generation": {"CUSTODY_UNAVAILABLE", func() error {
			_, err := pins.GeneratePinData(t.Context(), &keydv1.GeneratePinDataRequest{Outgoing: format0, GenerationKeyId: v2, PrimaryAccountNumber: testPAN, PinLength: 4, Method: visa(1, "")})
			return err
		}},
		"data": {"CUSTODY_UNAVAILABLE", func() error {
			_, err := data.EncryptData(t.Context(), &keydv1.EncryptDataRequest{Key: &keydv1.DataKey{KeyId: dataKey, Mode: keydv1.DataKey_CTR}, Plaintext: []byte("data")})
			return err
		}},
		"a card": {"CUSTODY_UNAVAILABLE", func() error {
			_, err := data.VerifyCardValidationData(t.Context(), &keydv1.VerifyCardValidationDataRequest{KeyId: cvk, PrimaryAccountNumber: testPAN, Method: cvv2("1228"), ValidationData: "123"})
			return err
		}},
	} {
		for range 3 { // no try is counted for what is refused
			if err := c.try(); reason(err) != c.want {
				t.Errorf("%s: %s, want %s", name, reason(err), c.want)
			}
		}
	}
}
