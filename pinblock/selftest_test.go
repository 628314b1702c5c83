package pinblock

import "testing"

func TestSelfTest(t *testing.T) {
	if err := SelfTest(); err != nil {
		t.Fatal(err)
	}
}

// TestSelfTestSees: a changed digit in any known answer is a failure.
func TestSelfTestSees(t *testing.T) {
	for i := range selfTests {
		for at := range selfTests[i].block {
			selfTests[i].block[at] ^= 1
			if err := SelfTest(); err == nil {
				t.Errorf("%s: byte %d of the answer does not matter", selfTests[i].format, at)
			}
			selfTests[i].block[at] ^= 1
		}
	}
	for at := range selfTestField4 {
		selfTestField4[at] ^= 1
		if err := SelfTest(); err == nil {
			t.Errorf("byte %d of the PAN field does not matter", at)
		}
		selfTestField4[at] ^= 1
	}
	if err := SelfTest(); err != nil {
		t.Fatal(err)
	}
}
