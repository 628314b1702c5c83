package e2e

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	keydv1 "keyd/api/keyd/v1"
)

// TestOneOfEachUseOfASerial: a key serial number is good for one PIN block, one MAC of a
// request, one of a response, and the same for data. A retry that is identical is answered
// again, anything else is a replay, and a wrong MAC uses nothing up.
func TestOneOfEachUseOfASerial(t *testing.T) {
	for name, c := range map[string]struct{ algorithm, value, serial string }{
		"TDES": {"T", "0123456789ABCDEFFEDCBA9876543210", "FFFF9876543210E0000"},
		"AES":  {"A", "FEDCBA9876543210F1F1F1F1F1F1F1F1", "12345678901234560000000"},
	} {
		t.Run(name, func(t *testing.T) {
			ring := newKeyring()
			checked := ring.add("B0", c.algorithm, "X", c.value, once)
			free := ring.add("B0", c.algorithm, "X", c.value) // the same, unchecked: it stands in for the terminal
			s := start(t, ring.keys...)
			macs, data := s.macs(), s.data()
			serial := func(counter string) *keydv1.DukptAttributes {
				return &keydv1.DukptAttributes{KeySerialNumber: unhex(t, c.serial+counter)}
			}
			expect := func(what, want string, err error) {
				t.Helper()
				if reason(err) != want {
					t.Errorf("%s: %s, want %s", what, reason(err), want)
				}
			}
			message, iv := []byte("an authorisation"), make([]byte, map[string]int{"T": 8, "A": 16}[c.algorithm])

			// A MAC to the terminal is made once; the same again is the same.
			response := &keydv1.GenerateMacRequest{Message: message, Key: &keydv1.MacKey{
				KeyId: checked, Algorithm: keydv1.MacKey_CMAC, Dukpt: serial("2"), Direction: keydv1.MacKey_RESPONSE}}
			first, err := macs.GenerateMac(t.Context(), response)
			expect("a response", "OK", err)
			again, err := macs.GenerateMac(t.Context(), response)
			if err != nil || !bytes.Equal(again.Mac, first.Mac) {
				t.Errorf("the same again: %v, %v", again, err)
			}
			other := proto.Clone(response).(*keydv1.GenerateMacRequest)
			other.Message = []byte("another")
			_, err = macs.GenerateMac(t.Context(), other)
			expect("another response", "KSN_REPLAYED", err)

			// A MAC of a request.
			request := &keydv1.VerifyMacRequest{Message: message, Mac: make([]byte, 8), Key: &keydv1.MacKey{
				KeyId: checked, Algorithm: keydv1.MacKey_CMAC, Dukpt: serial("2"), Direction: keydv1.MacKey_REQUEST}}
			for range 3 {
				verified, err := macs.VerifyMac(t.Context(), request)
				expect("a wrong MAC", "OK", err)
				if verified.GetVerified() {
					t.Error("a wrong MAC verifies")
				}
			}
			right := proto.Clone(request).(*keydv1.VerifyMacRequest)
			terminal := proto.Clone(request.Key).(*keydv1.MacKey)
			terminal.KeyId = free
			made, err := macs.GenerateMac(t.Context(), &keydv1.GenerateMacRequest{Key: terminal, Message: message})
			expect("the terminal's MAC", "OK", err)
			right.Mac = made.GetMac()
			older := proto.Clone(request).(*keydv1.VerifyMacRequest)
			older.Key.Dukpt = serial("1")
			for range 2 { // the second is a retry
				verified, err := macs.VerifyMac(t.Context(), right)
				if err != nil || !verified.Verified {
					t.Errorf("the right MAC: %v, %v", verified, err)
				}
			}
			_, err = macs.VerifyMac(t.Context(), request)
			expect("a wrong MAC after the right one", "KSN_REPLAYED", err)
			_, err = macs.VerifyMac(t.Context(), older)
			expect("an older counter", "KSN_REPLAYED", err)

			// Data of the same transaction.
			decrypt := &keydv1.DecryptDataRequest{Ciphertext: make([]byte, 4096), InitializationVector: iv, Key: &keydv1.DataKey{
				KeyId: checked, Mode: keydv1.DataKey_CBC, Dukpt: serial("2"), Direction: keydv1.DataKey_REQUEST}}
			plain, err := data.DecryptData(t.Context(), decrypt)
			expect("data", "OK", err)
			retried, err := data.DecryptData(t.Context(), decrypt)
			if err != nil || !bytes.Equal(retried.Plaintext, plain.Plaintext) {
				t.Errorf("the same data again: %v", err)
			}
			decrypt.Ciphertext[4095] = 1
			_, err = data.DecryptData(t.Context(), decrypt)
			expect("other data", "KSN_REPLAYED", err)
			_, err = data.EncryptData(t.Context(), &keydv1.EncryptDataRequest{Plaintext: make([]byte, 32), Key: &keydv1.DataKey{
				KeyId: checked, Mode: keydv1.DataKey_CBC, Dukpt: serial("2"), Direction: keydv1.DataKey_RESPONSE}})
			expect("data of the response", "OK", err)

			// And still the PIN.
			format, block := keydv1.PinBlockFormat_ISO_FORMAT_0, 8
			if c.algorithm == "A" {
				format, block = keydv1.PinBlockFormat_ISO_FORMAT_4, 16
			}
			_, err = s.pins().TranslatePinData(t.Context(), &keydv1.TranslatePinDataRequest{
				Incoming:             &keydv1.PinKey{KeyId: checked, Format: format, Dukpt: serial("2")},
				Outgoing:             zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0),
				PrimaryAccountNumber: testPAN, EncryptedPinBlock: make([]byte, block)})
			expect("a block that is none", "PIN_BLOCK_INVALID", err)
		})
	}
}
