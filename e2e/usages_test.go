package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	keydv1 "keyd/api/keyd/v1"
)

// TestEveryUsageHasItsOperations tries every kind of key for every purpose that an
// operation has a key for. Each is carried out with the keys that are made for it, and
// refused with all others, by the module and with its reason.
func TestEveryUsageHasItsOperations(t *testing.T) {
	ring := newKeyring()
	const double, quad = "0123456789ABCDEFFEDCBA9876543210", "0123456789ABCDEFFEDCBA98765432100011223344556677" + "8899AABBCCDDEEFF"
	rule := func(k *testKey) { k.IBM3624 = &ibm3624{Table: "0123456789012345", Start: 0, Length: 12, Pad: "F"} }
	names := map[string]string{} // of a kind and mode: "P0T/B"
	for _, kind := range []struct{ usage, algorithms, modes, value string }{
		{"P0", "TA", "BDEN", double}, {"B0", "TA", "XN", double}, {"D0", "TA", "BDEN", double},
		{"C0", "T", "CGVN", double}, {"V1", "T", "CGVN", double}, {"V2", "T", "CGVN", double},
		{"M1", "T", "CGVN", double}, {"M3", "T", "CGVN", double}, {"M6", "TA", "CGVN", double}, {"M7", "H", "CGVN", quad},
		{"K0", "TA", "BDEN", double}, {"K1", "TA", "BDEN", double},
	} {
		for _, algorithm := range strings.Split(kind.algorithms, "") {
			for _, mode := range strings.Split(kind.modes, "") {
				var change []func(*testKey)
				if kind.usage == "V1" {
					change = append(change, rule)
				}
				names[kind.usage+algorithm+"/"+mode] = ring.add(kind.usage, algorithm, mode, kind.value, change...)
			}
		}
	}
	v2, v1 := names["V2T/C"], names["V1T/C"]
	s := startWith(t, tempDir(t)+"/dev", []string{"--verify-limits", "0,0,0", "--translate-limits", "0,0,0"}, ring.keys...)
	pins, macs, data := s.pins(), s.macs(), s.data()

	// What is right for a block is a matter of other tests: here a block that deciphers to
	// none is as good, since it comes after the usage.
	block8, block16 := make([]byte, 8), make([]byte, 16)
	static := zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0)
	pinKey := func(kind, name string) (*keydv1.PinKey, []byte) {
		k, block := &keydv1.PinKey{KeyId: name, Format: keydv1.PinBlockFormat_ISO_FORMAT_0}, block8
		if kind[2] == 'A' {
			k.Format, block = keydv1.PinBlockFormat_ISO_FORMAT_4, block16
		}
		k.Dukpt = transaction(t, kind)
		return k, block
	}
	macKey := func(algorithm keydv1.MacKey_Algorithm) func(kind, name string) *keydv1.MacKey {
		return func(kind, name string) *keydv1.MacKey {
			k := &keydv1.MacKey{KeyId: name, Algorithm: algorithm, Dukpt: transaction(t, kind)}
			if k.Dukpt != nil {
				k.Direction = keydv1.MacKey_REQUEST
			}
			return k
		}
	}
	dataKey := func(kind, name string) *keydv1.DataKey {
		k := &keydv1.DataKey{KeyId: name, Mode: keydv1.DataKey_CBC, Dukpt: transaction(t, kind)}
		if k.Dukpt != nil {
			k.Direction = keydv1.DataKey_REQUEST
		}
		return k
	}
	iv := func(kind string) []byte {
		if kind[2] == 'A' {
			return block16
		}
		return block8
	}
	type purpose struct {
		name  string
		right []string // kinds and modes that may do it
		try   func(ctx context.Context, kind, name string) error
	}
	bdks := []string{"B0T/X", "B0T/N", "B0A/X", "B0A/N"}
	purposes := []purpose{
		{"decipher a PIN block", append([]string{"P0T/B", "P0T/D", "P0T/N", "P0A/B", "P0A/D", "P0A/N"}, bdks...), func(ctx context.Context, kind, name string) error {
			in, block := pinKey(kind, name)
			_, err := pins.TranslatePinData(ctx, &keydv1.TranslatePinDataRequest{Incoming: in, Outgoing: static, PrimaryAccountNumber: testPAN, EncryptedPinBlock: block})
			return err
		}},
		{"encipher a PIN block", append([]string{"P0T/B", "P0T/E", "P0T/N", "P0A/B", "P0A/E", "P0A/N"}, bdks...), func(ctx context.Context, kind, name string) error {
			out, _ := pinKey(kind, name)
			_, err := pins.TranslatePinData(ctx, &keydv1.TranslatePinDataRequest{Incoming: static, Outgoing: out, PrimaryAccountNumber: testPAN, EncryptedPinBlock: block8})
			return err
		}},
		{"verify by PVV", []string{"V2T/C", "V2T/V", "V2T/N"}, func(ctx context.Context, _, name string) error {
			_, err := pins.VerifyPinData(ctx, &keydv1.VerifyPinDataRequest{Incoming: static, VerificationKeyId: name, PrimaryAccountNumber: testPAN, EncryptedPinBlock: block8, Expected: visa(1, "1234")})
			return err
		}},
		{"verify by offset", []string{"V1T/C", "V1T/V", "V1T/N"}, func(ctx context.Context, _, name string) error {
			_, err := pins.VerifyPinData(ctx, &keydv1.VerifyPinDataRequest{Incoming: static, VerificationKeyId: name, PrimaryAccountNumber: testPAN, EncryptedPinBlock: block8, Expected: offset("1234")})
			return err
		}},
		{"generate a PVV", []string{"V2T/C", "V2T/G", "V2T/N"}, func(ctx context.Context, _, name string) error {
			_, err := pins.GeneratePinData(ctx, &keydv1.GeneratePinDataRequest{Outgoing: static, GenerationKeyId: name, PrimaryAccountNumber: testPAN, PinLength: 4, Method: visa(1, "")})
			return err
		}},
		{"generate an offset", []string{"V1T/C", "V1T/G", "V1T/N"}, func(ctx context.Context, _, name string) error {
			_, err := pins.GeneratePinData(ctx, &keydv1.GeneratePinDataRequest{Outgoing: static, GenerationKeyId: name, PrimaryAccountNumber: testPAN, PinLength: 4, Method: offset("")})
			return err
		}},
		{"encipher a generated PIN", append([]string{"P0T/B", "P0T/E", "P0T/N", "P0A/B", "P0A/E", "P0A/N"}, bdks...), func(ctx context.Context, kind, name string) error {
			out, _ := pinKey(kind, name)
			_, err := pins.GeneratePinData(ctx, &keydv1.GeneratePinDataRequest{Outgoing: out, GenerationKeyId: v1, PrimaryAccountNumber: testPAN, PinLength: 4, Method: offset("")})
			return err
		}},
		{"change a PIN by PVV", []string{"V2T/C", "V2T/N"}, func(ctx context.Context, _, name string) error {
			_, err := pins.ChangePinData(ctx, &keydv1.ChangePinDataRequest{Incoming: static, VerificationKeyId: name, PrimaryAccountNumber: testPAN, CurrentEncryptedPinBlock: block8, NewEncryptedPinBlock: block8, Current: visa(1, "1234")})
			return err
		}},
		{"change a PIN by offset", []string{"V1T/C", "V1T/N"}, func(ctx context.Context, _, name string) error {
			_, err := pins.ChangePinData(ctx, &keydv1.ChangePinDataRequest{Incoming: static, VerificationKeyId: name, PrimaryAccountNumber: testPAN, CurrentEncryptedPinBlock: block8, NewEncryptedPinBlock: block8, Current: offset("1234")})
			return err
		}},
		{"decipher a new PIN", append([]string{"P0T/B", "P0T/D", "P0T/N", "P0A/B", "P0A/D", "P0A/N"}, bdks...), func(ctx context.Context, kind, name string) error {
			in, block := pinKey(kind, name)
			_, err := pins.ChangePinData(ctx, &keydv1.ChangePinDataRequest{Incoming: static, NewIncoming: in, VerificationKeyId: v2, PrimaryAccountNumber: testPAN, CurrentEncryptedPinBlock: block8, NewEncryptedPinBlock: block, Current: visa(1, "1234")})
			return err
		}},
		{"encipher data", append([]string{"D0T/B", "D0T/E", "D0T/N", "D0A/B", "D0A/E", "D0A/N"}, bdks...), func(ctx context.Context, kind, name string) error {
			_, err := data.EncryptData(ctx, &keydv1.EncryptDataRequest{Key: dataKey(kind, name), Plaintext: block16})
			return err
		}},
		{"decipher data", append([]string{"D0T/B", "D0T/D", "D0T/N", "D0A/B", "D0A/D", "D0A/N"}, bdks...), func(ctx context.Context, kind, name string) error {
			_, err := data.DecryptData(ctx, &keydv1.DecryptDataRequest{Key: dataKey(kind, name), Ciphertext: block16, InitializationVector: iv(kind)})
			return err
		}},
		{"re-encrypt data from", append([]string{"D0T/B", "D0T/D", "D0T/N", "D0A/B", "D0A/D", "D0A/N"}, bdks...), func(ctx context.Context, kind, name string) error {
			_, err := data.ReEncryptData(ctx, &keydv1.ReEncryptDataRequest{Incoming: dataKey(kind, name), Outgoing: dataKey("D0A", names["D0A/B"]), Ciphertext: block16, InitializationVector: iv(kind)})
			return err
		}},
		{"re-encrypt data to", append([]string{"D0T/B", "D0T/E", "D0T/N", "D0A/B", "D0A/E", "D0A/N"}, bdks...), func(ctx context.Context, kind, name string) error {
			_, err := data.ReEncryptData(ctx, &keydv1.ReEncryptDataRequest{Incoming: dataKey("D0A", names["D0A/B"]), Outgoing: dataKey(kind, name), Ciphertext: block16, InitializationVector: block16})
			return err
		}},
		{"generate a card verification value", []string{"C0T/C", "C0T/G", "C0T/N"}, func(ctx context.Context, _, name string) error {
			_, err := data.GenerateCardValidationData(ctx, &keydv1.GenerateCardValidationDataRequest{KeyId: name, PrimaryAccountNumber: testPAN, Method: cvv2("1228")})
			return err
		}},
		{"verify a card verification value", []string{"C0T/C", "C0T/V", "C0T/N"}, func(ctx context.Context, _, name string) error {
			_, err := data.VerifyCardValidationData(ctx, &keydv1.VerifyCardValidationDataRequest{KeyId: name, PrimaryAccountNumber: testPAN, Method: cvv2("1228"), ValidationData: "123"})
			return err
		}},
	}
	for _, m := range []struct {
		algorithm keydv1.MacKey_Algorithm
		kinds     []string
		bdks      []string
	}{
		{keydv1.MacKey_ISO9797_ALGORITHM1, []string{"M1T"}, []string{"B0T/X", "B0T/N"}},
		{keydv1.MacKey_ISO9797_ALGORITHM3, []string{"M3T"}, []string{"B0T/X", "B0T/N"}},
		{keydv1.MacKey_CMAC, []string{"M6T", "M6A"}, bdks},
		{keydv1.MacKey_HMAC_SHA256, []string{"M7H"}, nil},
	} {
		key := macKey(m.algorithm)
		generate, verify := slices.Clone(m.bdks), slices.Clone(m.bdks)
		for _, kind := range m.kinds {
			generate = append(generate, kind+"/C", kind+"/G", kind+"/N")
			verify = append(verify, kind+"/C", kind+"/V", kind+"/N")
		}
		purposes = append(purposes,
			purpose{fmt.Sprint("generate ", m.algorithm), generate, func(ctx context.Context, kind, name string) error {
				_, err := macs.GenerateMac(ctx, &keydv1.GenerateMacRequest{Key: key(kind, name), Message: block8})
				return err
			}},
			purpose{fmt.Sprint("verify ", m.algorithm), verify, func(ctx context.Context, kind, name string) error {
				_, err := macs.VerifyMac(ctx, &keydv1.VerifyMacRequest{Key: key(kind, name), Message: block8, Mac: block8})
				return err
			}})
	}
	attempts := 0
	for _, p := range purposes {
		for kind, name := range names {
			attempts++
			got := reason(p.try(t.Context(), kind, name))
			right := slices.Contains(p.right, kind)
			switch {
			case right && got != "OK" && got != "PIN_BLOCK_INVALID":
				t.Errorf("%s with %s: %s", p.name, kind, got)
			case !right && got != "KEY_USAGE_MISMATCH":
				t.Errorf("%s with %s: %s, want KEY_USAGE_MISMATCH", p.name, kind, got)
			}
		}
	}
	if attempts != len(purposes)*len(names) || len(names) < 45 {
		t.Errorf("%d attempts with %d keys", attempts, len(names))
	}
	t.Logf("%d attempts", attempts)
}

// transaction is set for a BDK.
func transaction(t *testing.T, kind string) *keydv1.DukptAttributes {
	t.Helper()
	switch kind[:3] {
	case "B0T":
		return &keydv1.DukptAttributes{KeySerialNumber: unhex(t, "FFFF9876543210E00001")}
	case "B0A":
		return &keydv1.DukptAttributes{KeySerialNumber: unhex(t, "123456789012345600000001")}
	}
	return nil
}

func cvv2(expiry string) *keydv1.CardValidationMethod {
	return &keydv1.CardValidationMethod{Method: &keydv1.CardValidationMethod_Cvv2{Cvv2: &keydv1.Cvv2{CardExpiryDate: expiry}}}
}

// TestDirectionOfTransactions: an incoming BDK receives requests and sends responses; it
// does not stand in for a terminal.
func TestDirectionOfTransactions(t *testing.T) {
	ring := newKeyring()
	direction := func(d string) func(*testKey) { return func(k *testKey) { k.Direction = d } }
	host := ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543200", direction("incoming"))
	terminal := ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543201", direction("outgoing"))
	received := ring.add("M6", "A", "C", "0123456789ABCDEFFEDCBA9876543202", direction("incoming"))
	sent := ring.add("M6", "A", "C", "0123456789ABCDEFFEDCBA9876543203", direction("outgoing"))
	s := start(t, ring.keys...)
	macs, data := s.macs(), s.data()
	block := make([]byte, 8)
	for _, key := range []string{host, terminal, received, sent} {
		dukpt := &keydv1.DukptAttributes{KeySerialNumber: unhex(t, "FFFF9876543210E00001")}
		if key == received || key == sent {
			dukpt = nil
		}
		for _, way := range []keydv1.MacKey_Direction{keydv1.MacKey_REQUEST, keydv1.MacKey_RESPONSE} {
			mac := &keydv1.MacKey{KeyId: key, Algorithm: keydv1.MacKey_CMAC, Dukpt: dukpt, Direction: way}
			request := way == keydv1.MacKey_REQUEST
			sends := request == (key == terminal)
			if dukpt == nil {
				mac.Direction, sends = 0, key == sent
			}
			expect := func(what string, right bool, err error) {
				t.Helper()
				if want := map[bool]string{true: "OK", false: "KEY_USAGE_MISMATCH"}[right]; reason(err) != want {
					t.Errorf("%s, %v, %s: %s, want %s", ring.find(key).Direction, way, what, reason(err), want)
				}
			}
			_, err := macs.GenerateMac(t.Context(), &keydv1.GenerateMacRequest{Key: mac, Message: block})
			expect("generate a MAC", sends, err)
			_, err = macs.VerifyMac(t.Context(), &keydv1.VerifyMacRequest{Key: mac, Message: block, Mac: block})
			expect("verify a MAC", !sends, err)
			if dukpt == nil {
				continue
			}
			k := &keydv1.DataKey{KeyId: key, Mode: keydv1.DataKey_CBC, Dukpt: dukpt, Direction: keydv1.DataKey_Direction(way)}
			_, err = data.EncryptData(t.Context(), &keydv1.EncryptDataRequest{Key: k, Plaintext: block})
			expect("encipher", sends, err)
			_, err = data.DecryptData(t.Context(), &keydv1.DecryptDataRequest{Key: k, Ciphertext: block, InitializationVector: block})
			expect("decipher", !sends, err)
		}
	}
}
