package software

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestSelfTest(t *testing.T) {
	if err := SelfTest(); err != nil {
		t.Fatal(err)
	}
	if got := SelfTests(); !slices.Equal(got, []string{"TDES", "TDES DUKPT", "AES DUKPT"}) {
		t.Errorf("SelfTests = %q", got)
	}
}

// Every bit of every known answer counts.
func TestSelfTestDetectsWrongAnswers(t *testing.T) {
	for i, a := range knownAnswers {
		for j := range a.want {
			for _, digit := range "0123456789ABCDEF" {
				if byte(digit) == a.want[j] {
					continue
				}
				answers := slices.Clone(knownAnswers)
				answers[i].want = a.want[:j] + string(digit) + a.want[j+1:]
				if err := selfTest(answers); !errors.Is(err, ErrSelfTest) || !strings.HasSuffix(err.Error(), a.name) {
					t.Fatalf("%s, digit %d %c: %v", a.name, j, digit, err)
				}
			}
		}
		for name, answer := range map[string]string{"shorter": a.want[2:], "longer": a.want + "00", "no hex": "XX", "none": ""} {
			answers := slices.Clone(knownAnswers)
			answers[i].want = answer
			if err := selfTest(answers); !errors.Is(err, ErrSelfTest) {
				t.Errorf("%s, %s: %v", a.name, name, err)
			}
		}
	}
}

func TestSelfTestReportsFailingComputation(t *testing.T) {
	broken := errors.New("broken")
	answers := []knownAnswer{{"X", "00", func() ([]byte, error) { return []byte{0}, broken }}}
	if err := selfTest(answers); !errors.Is(err, ErrSelfTest) || !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

func TestSelfTestSimulatingFailure(t *testing.T) {
	for _, name := range SelfTests() {
		if err := SelfTestSimulatingFailure(name); !errors.Is(err, ErrSelfTest) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := SelfTestSimulatingFailure("ROT13"); err == nil || errors.Is(err, ErrSelfTest) {
		t.Errorf("unknown name: %v", err)
	}
	if err := SelfTest(); err != nil {
		t.Errorf("a simulated failure stays: %v", err)
	}
}
