package pinverify

import "testing"

func TestSelfTest(t *testing.T) {
	if err := SelfTest(); err != nil {
		t.Fatal(err)
	}
}

// TestSelfTestSees: a changed digit in any known answer is a failure.
func TestSelfTestSees(t *testing.T) {
	for name, answer := range map[string][]byte{
		"TSP": knownTSP[:], "validation data": knownValidation[:], "natural PIN": knownNatural[:],
		"enciphered validation data": knownEncipheredValidation[:],
		"enciphered TSP":             knownEncipheredTSP[:2], // the rest gives no digit of the PVV
	} {
		for at := range answer {
			answer[at] ^= 0x11
			if SelfTest() == nil {
				t.Errorf("byte %d of the %s does not matter", at, name)
			}
			answer[at] ^= 0x11
		}
	}
	for _, s := range []*string{&knownPVV, &knownOffset} {
		for _, other := range others(*s) {
			was := *s
			*s = other
			if SelfTest() == nil {
				t.Errorf("%s passes for %s", other, was)
			}
			*s = was
		}
	}
	if err := SelfTest(); err != nil {
		t.Fatal(err)
	}
}
