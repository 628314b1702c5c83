package e2e

import (
	"regexp"
	"strings"
	"testing"

	keydv1 "keyd/api/keyd/v1"
)

// TestCustodyTable: what `keyd status --custody` says of a kind of operation is what answers to it
// say. Each operation is carried out once; no row but those for which a call needs a ceremony, a
// terminal or a phone goes untried.
func TestCustodyTable(t *testing.T) {
	ring := newKeyring()
	v2, v1 := issuerKeys(ring, "C")
	retail, cmacKey := ring.add("M3", "T", "C", zoneTDES), ring.add("M6", "A", "C", zoneAES)
	dataKey, cvk := ring.add("D0", "A", "B", zoneAES), ring.add("C0", "T", "C", zoneTDES)
	bdk, bdkAES := ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210"), ring.add("B0", "A", "X", "FEDCBA9876543210F1F1F1F1F1F1F1F1")
	s := start(t, ring.keys...)
	pins, macs, data := s.pins(), s.macs(), s.data()
	format0 := zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0)
	block := encrypt(tdes(t, unhex(t, zoneTDES)), iso0(t, "0", "1234", "F", testPAN))
	type answer interface{ GetCustody() keydv1.Custody }
	mac := func(key string, algorithm keydv1.MacKey_Algorithm, dukpt *keydv1.DukptAttributes) (answer, error) {
		k := &keydv1.MacKey{KeyId: key, Algorithm: algorithm, Dukpt: dukpt}
		if dukpt != nil {
			k.Direction = keydv1.MacKey_RESPONSE
		}
		return macs.GenerateMac(t.Context(), &keydv1.GenerateMacRequest{Key: k, Message: []byte("message")})
	}
	aesData := &keydv1.DataKey{KeyId: dataKey, Mode: keydv1.DataKey_CBC}
	message, iv := make([]byte, 16), make([]byte, 16)

	table := s.status().Tokens[0].Operations
	tried := map[string]bool{}
	for name, c := range map[string]struct {
		rows string // a pattern of the rows that say it
		try  func() (answer, error)
	}{
		"translation": {"^PIN operations$|^PIN translation", func() (answer, error) {
			return pins.TranslatePinData(t.Context(), &keydv1.TranslatePinDataRequest{Incoming: format0, Outgoing: format0, PrimaryAccountNumber: testPAN, EncryptedPinBlock: block})
		}},
		"verification by PVV": {"^PIN operations$|^PIN verification", func() (answer, error) {
			return pins.VerifyPinData(t.Context(), &keydv1.VerifyPinDataRequest{Incoming: format0, VerificationKeyId: v2, PrimaryAccountNumber: testPAN, EncryptedPinBlock: block, Expected: visa(1, "1234")})
		}},
		"verification by offset": {"^PIN operations$|^PIN verification", func() (answer, error) {
			return pins.VerifyPinData(t.Context(), &keydv1.VerifyPinDataRequest{Incoming: format0, VerificationKeyId: v1, PrimaryAccountNumber: testPAN, EncryptedPinBlock: block, Expected: offset("1234")})
		}},
		"generation": {"^PIN operations$|^PIN generation", func() (answer, error) {
			return pins.GeneratePinData(t.Context(), &keydv1.GeneratePinDataRequest{Outgoing: format0, GenerationKeyId: v2, PrimaryAccountNumber: testPAN, PinLength: 4, Method: visa(1, "")})
		}},
		"change": {"^PIN operations$|^PIN change", func() (answer, error) {
			return pins.ChangePinData(t.Context(), &keydv1.ChangePinDataRequest{Incoming: format0, NewIncoming: format0, VerificationKeyId: v2, PrimaryAccountNumber: testPAN, CurrentEncryptedPinBlock: block, NewEncryptedPinBlock: block, Current: visa(1, "1234")})
		}},
		"retail MAC":         {"^MACs with static keys$", func() (answer, error) { return mac(retail, keydv1.MacKey_ISO9797_ALGORITHM3, nil) }},
		"CMAC":               {"^MACs with static keys$", func() (answer, error) { return mac(cmacKey, keydv1.MacKey_CMAC, nil) }},
		"CMAC, AES DUKPT":    {"^MACs under AES DUKPT$", func() (answer, error) { return mac(bdkAES, keydv1.MacKey_CMAC, transaction(t, "B0A")) }},
		"retail, TDES DUKPT": {"^MACs under TDES DUKPT$", func() (answer, error) { return mac(bdk, keydv1.MacKey_ISO9797_ALGORITHM3, transaction(t, "B0T")) }},
		"encrypting": {"^encrypting and decrypting data$", func() (answer, error) {
			return data.EncryptData(t.Context(), &keydv1.EncryptDataRequest{Key: aesData, Plaintext: message})
		}},
		"decrypting": {"^encrypting and decrypting data$", func() (answer, error) {
			return data.DecryptData(t.Context(), &keydv1.DecryptDataRequest{Key: aesData, Ciphertext: message, InitializationVector: iv})
		}},
		"re-encrypting": {"^re-encrypting data$", func() (answer, error) {
			return data.ReEncryptData(t.Context(), &keydv1.ReEncryptDataRequest{Incoming: aesData, Outgoing: aesData, Ciphertext: message, InitializationVector: iv})
		}},
		"making a card value": {"^card verification values$", func() (answer, error) {
			return data.GenerateCardValidationData(t.Context(), &keydv1.GenerateCardValidationDataRequest{KeyId: cvk, PrimaryAccountNumber: testPAN, Method: cvv2("1228")})
		}},
		"checking a card value": {"^card verification values$", func() (answer, error) {
			return data.VerifyCardValidationData(t.Context(), &keydv1.VerifyCardValidationDataRequest{KeyId: cvk, PrimaryAccountNumber: testPAN, Method: cvv2("1228"), ValidationData: "123"})
		}},
	} {
		got, err := c.try()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		found := false
		for _, o := range table {
			if !regexp.MustCompile(c.rows).MatchString(o.Operation) {
				continue
			}
			found, tried[o.Operation] = true, true
			if o.Custody != got.GetCustody() || (o.Why == "") != (o.Custody == keydv1.Custody_CUSTODY_TOKEN) {
				t.Errorf("%s: the answer says %v, the table %v", name, got.GetCustody(), o)
			}
		}
		if !found {
			t.Errorf("%s: no row of the table says it", name)
		}
	}
	for _, o := range table {
		if !tried[o.Operation] && !regexp.MustCompile("^PIN records|^PINs typed on phones$|^key ceremonies|^key injection").MatchString(o.Operation) {
			t.Errorf("a row that no call was made for: %v", o)
		}
	}

	for _, format := range []string{"table", "json"} {
		out, err := s.command("", "status", "--dir", s.dir, "--as", "auditor", "--custody", "--output", format)
		if err != nil {
			t.Fatalf("%v:\n%s", err, out)
		}
		for _, o := range table {
			row := regexp.QuoteMeta(o.Operation) + ` +` + strings.ToLower(strings.TrimPrefix(o.Custody.String(), "CUSTODY_")) + ` +(-|` + regexp.QuoteMeta(o.Why) + `)\n`
			if format == "json" {
				row = `"operation": +"` + regexp.QuoteMeta(o.Operation) + `",\s+"custody": +"` + o.Custody.String() + `",\s+"why": +"` + regexp.QuoteMeta(o.Why) + `"`
			}
			if !regexp.MustCompile(row).MatchString(out) {
				t.Errorf("%s: %v is not in\n%s", format, o, out)
			}
		}
	}
	out, err := s.command("", "status", "--dir", s.dir, "--as", "auditor")
	if err != nil || !regexp.MustCompile(`(?m)^custody +\d+ of `).MatchString(out) || strings.Contains(out, "OPERATION") {
		t.Errorf("%v:\n%s", err, out)
	}
}
