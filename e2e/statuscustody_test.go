package e2e

import (
	"regexp"
	"strings"
	"testing"

	keydv1 "keyd/api/keyd/v1"
)

// custodyAnswer is an answer that names its custody.
type custodyAnswer interface{ GetCustody() keydv1.Custody }

// custodyCall is an operation of a row of the table.
type custodyCall struct {
	row string
	try func(s *service) (custodyAnswer, error)
}

// custodyCalls are operations for each row but those for which a call needs a ceremony, a terminal or a
// phone.
func custodyCalls(t *testing.T, ring *keyring) (calls []custodyCall) {
	const (
		format0, format1, format3, format4 = keydv1.PinBlockFormat_ISO_FORMAT_0, keydv1.PinBlockFormat_ISO_FORMAT_1, keydv1.PinBlockFormat_ISO_FORMAT_3, keydv1.PinBlockFormat_ISO_FORMAT_4
		pin                                = "1234"
	)
	v2, v1 := issuerKeys(ring, "C")
	retail, cmacKey := ring.add("M3", "T", "C", zoneTDES), ring.add("M6", "A", "C", zoneAES)
	dataKey, cvk := ring.add("D0", "A", "B", zoneAES), ring.add("C0", "T", "C", zoneTDES)
	bdk, bdkAES := ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210"), ring.add("B0", "A", "X", "FEDCBA9876543210F1F1F1F1F1F1F1F1")
	add := func(row string, try func(s *service) (custodyAnswer, error)) {
		calls = append(calls, custodyCall{row, try})
	}

	// A block is one of the PIN under a zone key, or a published working key (dukpt_tdes.json, dukpt_aes.json).
	type block struct {
		key   *keydv1.PinKey
		value []byte
	}
	tdesBlock := func(f keydv1.PinBlockFormat) block {
		control, fill := "0", "F"
		if f == format3 {
			control, fill = "3", "C"
		}
		return block{zone(ring, f), encrypt(tdes(t, unhex(t, zoneTDES)), iso0(t, control, pin, fill, testPAN))}
	}
	zone0, zone3, zone4 := tdesBlock(format0), tdesBlock(format3), block{zone(ring, format4), seal4(t, unhex(t, zoneAES), pin, testPAN)}
	zone1 := block{zone(ring, format1), encrypt(tdes(t, unhex(t, zoneTDES)), unhex(t, "14"+pin+"0123456789"))}
	dukptTDES := block{&keydv1.PinKey{KeyId: bdk, Format: format0, Dukpt: transaction(t, "B0T")},
		encrypt(tdes(t, unhex(t, "042666B49184CF5C68DE9628D0397B36")), iso0(t, "0", pin, "F", testPAN))}
	dukptAES := block{&keydv1.PinKey{KeyId: bdkAES, Format: format4, Dukpt: transaction(t, "B0A")}, seal4(t, unhex(t, "AF8CB133A78F8DC2D1359F18527593FB"), pin, testPAN)}

	translate := func(row string, in, out block) {
		add("translate a PIN, "+row, func(s *service) (custodyAnswer, error) {
			return s.pins().TranslatePinData(t.Context(), &keydv1.TranslatePinDataRequest{Incoming: in.key, Outgoing: out.key, PrimaryAccountNumber: testPAN, EncryptedPinBlock: in.value})
		})
	}
	verify := func(row, key string, in block, method *keydv1.PinMethod) {
		add(row, func(s *service) (custodyAnswer, error) {
			return s.pins().VerifyPinData(t.Context(), &keydv1.VerifyPinDataRequest{Incoming: in.key, VerificationKeyId: key, PrimaryAccountNumber: testPAN, EncryptedPinBlock: in.value, Expected: method})
		})
	}
	generate := func(row, key string, out block, method *keydv1.PinMethod) {
		add(row, func(s *service) (custodyAnswer, error) {
			return s.pins().GeneratePinData(t.Context(), &keydv1.GeneratePinDataRequest{Outgoing: out.key, GenerationKeyId: key, PrimaryAccountNumber: testPAN, PinLength: 4, Method: method})
		})
	}
	change := func(row, key string, in block, method *keydv1.PinMethod) {
		add(row, func(s *service) (custodyAnswer, error) {
			return s.pins().ChangePinData(t.Context(), &keydv1.ChangePinDataRequest{Incoming: in.key, NewIncoming: in.key, VerificationKeyId: key, PrimaryAccountNumber: testPAN,
				CurrentEncryptedPinBlock: in.value, NewEncryptedPinBlock: in.value, Current: method})
		})
	}
	for _, in := range []block{zone0, zone3} {
		translate("formats 0 and 3, zone to zone", in, zone0)
		translate("formats 0 and 3, zone to zone", in, zone3)
		translate("formats 0 and 3 to 4, zone to zone", in, zone4)
		translate("format 4 to 0 and 3, zone to zone", zone4, in)
		verify("verify a PIN, Visa PVV, zone", v2, in, visa(1, "1234"))
		generate("generate a PIN, Visa PVV", v2, in, visa(1, ""))
		change("change a PIN, Visa PVV", v2, in, visa(1, "1234"))
	}
	translate("format 4, zone to zone", zone4, zone4)
	translate("AES DUKPT to a zone", dukptAES, zone0)
	translate("AES DUKPT to a zone", dukptAES, zone4)
	translate("TDES DUKPT to a zone", dukptTDES, zone0)
	translate("from format 1", zone1, zone0)
	verify("verify a PIN, Visa PVV, zone", v2, zone4, visa(1, "1234"))
	verify("verify a PIN, Visa PVV, AES DUKPT", v2, dukptAES, visa(1, "1234"))
	verify("verify a PIN, Visa PVV, TDES DUKPT", v2, dukptTDES, visa(1, "1234"))
	generate("generate a PIN, Visa PVV", v2, zone4, visa(1, ""))
	change("change a PIN, Visa PVV", v2, zone4, visa(1, "1234"))
	const ibm = "verify, generate, change a PIN, IBM 3624"
	verify(ibm, v1, zone0, offset("1234"))
	generate(ibm, v1, zone0, offset(""))
	change(ibm, v1, zone0, offset("1234"))

	mac := func(row, key string, algorithm keydv1.MacKey_Algorithm, dukpt *keydv1.DukptAttributes) {
		k := &keydv1.MacKey{KeyId: key, Algorithm: algorithm, Dukpt: dukpt}
		if dukpt != nil {
			k.Direction = keydv1.MacKey_RESPONSE
		}
		add(row, func(s *service) (custodyAnswer, error) {
			return s.macs().GenerateMac(t.Context(), &keydv1.GenerateMacRequest{Key: k, Message: []byte("message")})
		})
		add(row, func(s *service) (custodyAnswer, error) {
			return s.macs().VerifyMac(t.Context(), &keydv1.VerifyMacRequest{Key: k, Message: []byte("message"), Mac: make([]byte, 8)})
		})
	}
	mac("MACs with static keys", retail, keydv1.MacKey_ISO9797_ALGORITHM3, nil)
	mac("MACs with static keys", cmacKey, keydv1.MacKey_CMAC, nil)
	mac("MACs under AES DUKPT", bdkAES, keydv1.MacKey_CMAC, transaction(t, "B0A"))
	mac("MACs under TDES DUKPT", bdk, keydv1.MacKey_ISO9797_ALGORITHM3, transaction(t, "B0T"))

	key, message, iv := &keydv1.DataKey{KeyId: dataKey, Mode: keydv1.DataKey_CBC}, make([]byte, 16), make([]byte, 16)
	add("encrypting and decrypting data", func(s *service) (custodyAnswer, error) {
		return s.data().EncryptData(t.Context(), &keydv1.EncryptDataRequest{Key: key, Plaintext: message})
	})
	add("encrypting and decrypting data", func(s *service) (custodyAnswer, error) {
		return s.data().DecryptData(t.Context(), &keydv1.DecryptDataRequest{Key: key, Ciphertext: message, InitializationVector: iv})
	})
	add("re-encrypting data", func(s *service) (custodyAnswer, error) {
		return s.data().ReEncryptData(t.Context(), &keydv1.ReEncryptDataRequest{Incoming: key, Outgoing: key, Ciphertext: message, InitializationVector: iv})
	})
	add("card verification values", func(s *service) (custodyAnswer, error) {
		return s.data().GenerateCardValidationData(t.Context(), &keydv1.GenerateCardValidationDataRequest{KeyId: cvk, PrimaryAccountNumber: testPAN, Method: cvv2("1228")})
	})
	add("card verification values", func(s *service) (custodyAnswer, error) {
		return s.data().VerifyCardValidationData(t.Context(), &keydv1.VerifyCardValidationDataRequest{KeyId: cvk, PrimaryAccountNumber: testPAN, Method: cvv2("1228"), ValidationData: "123"})
	})
	return calls
}

// untriedRows are those for which a call needs a ceremony, a terminal or a phone.
var untriedRows = regexp.MustCompile("^PIN records|^PINs typed on phones$|^key ceremonies|^key injection")

// TestCustodyTable: what the table of `keyd status --custody` says of a kind of operation is what answers to
// it say.
func TestCustodyTable(t *testing.T) {
	ring := newKeyring()
	calls := custodyCalls(t, ring)
	s := startWith(t, tempDir(t)+"/dev", []string{"--verify-limits", "0,0,0", "--translate-limits", "0,0,0"}, ring.keys...)
	table := checkCustodyTable(t, s, calls)
	for _, o := range table {
		if strings.Contains(o.Operation, "PIN") && o.Custody != keydv1.Custody_CUSTODY_MODULE {
			t.Errorf("with SoftHSM: %v", o)
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

// TestCustodyTableOnNSS is the same with a token that keeps PINs.
func TestCustodyTableOnNSS(t *testing.T) {
	ring := newKeyring()
	calls := custodyCalls(t, ring)
	kept := 0
	for _, o := range checkCustodyTable(t, startNSS(t, ring.keys...), calls) {
		if strings.Contains(o.Operation, "a PIN, ") && o.Custody == keydv1.Custody_CUSTODY_TOKEN {
			kept++
		}
	}
	if kept != 9 { // of thirteen: all but TDES DUKPT, format 1 and IBM 3624
		t.Errorf("%d rows of PIN operations stay in the token", kept)
	}
}

// checkCustodyTable carries each operation out and compares its answer with its row. Every row is tried.
func checkCustodyTable(t *testing.T, s *service, calls []custodyCall) []*keydv1.OperationCustody {
	t.Helper()
	rows := map[string]*keydv1.OperationCustody{}
	tried := map[string]bool{}
	table := s.status().Tokens[0].Operations
	for _, o := range table {
		rows[o.Operation] = o
		if (o.Why == "") != (o.Custody == keydv1.Custody_CUSTODY_TOKEN) {
			t.Errorf("no reason, or one for nothing: %v", o)
		}
	}
	for _, c := range calls {
		tried[c.row] = true
		answer, err := c.try(s)
		switch {
		case err != nil:
			t.Errorf("%s: %s: %v", c.row, reason(err), err)
		case rows[c.row] == nil:
			t.Errorf("%s: there is no such row", c.row)
		case rows[c.row].Custody != answer.GetCustody():
			t.Errorf("%s: the answer says %v, the table %v", c.row, answer.GetCustody(), rows[c.row])
		}
	}
	for _, o := range table {
		if !tried[o.Operation] && !untriedRows.MatchString(o.Operation) {
			t.Errorf("a row that no call was made for: %v", o)
		}
	}
	return table
}
