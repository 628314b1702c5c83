package e2e

import (
	"fmt"
	"testing"

	keydv1 "keyd/api/keyd/v1"
)

// TestCardValuesAreNotGuessed: a value of three digits has limits of its own, and is the
// same value however its digits are shared out among PAN and expiry date.
func TestCardValuesAreNotGuessed(t *testing.T) {
	ring := newKeyring()
	cvk := ring.add("C0", "T", "C", zoneTDES)
	data := startWith(t, tempDir(t)+"/dev", []string{"--card-limits", "3,3,3"}, ring.keys...).data()
	try := func(pan, expiry, value string) error {
		_, err := data.VerifyCardValidationData(t.Context(), &keydv1.VerifyCardValidationDataRequest{KeyId: cvk, PrimaryAccountNumber: pan, Method: cvv2(expiry), ValidationData: value})
		return err
	}
	for i := range 3 {
		if err := try(testPAN, "1230", fmt.Sprintf("%03d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for name, same := range map[string][2]string{"again": {testPAN, "1230"}, "a digit moved": {testPAN + "1", "2300"}, "two digits moved": {testPAN + "12", "3000"}} {
		if err := try(same[0], same[1], "777"); reason(err) != "RATE_LIMITED" {
			t.Errorf("%s: %s", name, reason(err))
		}
	}
	if err := try(testPAN, "1231", "777"); err != nil {
		t.Errorf("another value: %v", err)
	}
	// Making one is no guess.
	for range 5 {
		if _, err := data.GenerateCardValidationData(t.Context(), &keydv1.GenerateCardValidationDataRequest{KeyId: cvk, PrimaryAccountNumber: testPAN, Method: cvv2("1230")}); err != nil {
			t.Fatal(err)
		}
	}
}
