package keyblock

import (
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	for text, want := range map[string]error{
		"B0000P0TE00E0000": nil, "D0000P0AB00N0000": nil, "B0000K0TN00N0000": nil, "D0000S0ES00N0000": nil, "D0000M7HC00S0000": nil,
		"B0000B0TX00E0000": nil, "B0000B2TY00E0000": nil, "D0000K2RT00E0000": nil, "D0000K4AB00E0010": nil, "D0000P0AB00N0020": nil,
		"B000010TE00E0000": nil, "B0000P01100E0000": nil,
		"B0000Q0TE00E0000": ErrUsage, "B0000X0TX00E0000": ErrUsage, "B0000p0TE00E0000": ErrUsage, "B00001ATE00E0000": ErrUsage,
		"B0000P0QE00E0000": ErrAlgorithm, "B0000P0tE00E0000": ErrAlgorithm, "B0000P0TQ00E0000": ErrMode, "B0000P0Te00E0000": ErrMode,
		"B0000P0TE00X0000": ErrExportability, "B0000P0TE00E0030": ErrContext, "B0000P0TE00E0001": ErrContext,
		"B0000P0HE00E0000": ErrUsageAlgorithm, "B0000P0DE00E0000": ErrUsageAlgorithm, "D0000M7AG00E0000": ErrUsageAlgorithm,
		"D0000K4TB00E0000": ErrUsageAlgorithm, "D0000S0AS00E0000": ErrUsageAlgorithm, "D0000M0AG00E0000": ErrUsageAlgorithm,
		"B0000P0TX00E0000": ErrUsageMode, "B0000B1TE00E0000": ErrUsageMode, "B0000V1TE00E0000": ErrUsageMode, "B0000I0TE00E0000": ErrUsageMode,
		"D0000S0RE00E0000": ErrUsageMode,
	} {
		h, _, err := ParseHeader([]byte(text))
		if err != nil {
			t.Fatal(text, err)
		}
		if err := h.Validate(); err != want {
			t.Errorf("%s: %v, want %v", text, err, want)
		}
	}
	if err := (&Header{}).Validate(); err != ErrVersion {
		t.Error(err)
	}
	if h := plain('B'); func() error { h.Reserved = ""; return h.Validate() }() != ErrContext {
		t.Error("a header without key context is valid")
	}
}

// Every row has letters of the other tables only, a name and mode N; no code comes twice, and
// every letter of the other tables is of use.
func TestTablesAgree(t *testing.T) {
	codes := map[string]bool{}
	var algorithms, modes string
	for _, u := range Usages() {
		if codes[u.Code] || len(u.Code) != 2 || u.Name == "" || !strings.Contains(u.Modes, "N") {
			t.Errorf("row %+v", u)
		}
		codes[u.Code] = true
		algorithms, modes = algorithms+u.Algorithms, modes+u.Modes
		if got, found := LookUpUsage(u.Code); !found || got != u {
			t.Errorf("%s is found as %+v", u.Code, got)
		}
	}
	for c := byte('A'); c <= 'Z'; c++ {
		if used := strings.Contains(algorithms, string(c)); used != (AlgorithmName(c) != "") && c != 'D' {
			t.Errorf("algorithm %c: used %t, named %q", c, used, AlgorithmName(c))
		}
		if used := strings.Contains(modes, string(c)); used != (ModeName(c) != "") {
			t.Errorf("mode %c: used %t, named %q", c, used, ModeName(c))
		}
	}
	if strings.Contains(algorithms, "D") {
		t.Error("a usage has keys of single DES")
	}
	if u, _ := LookUpUsage("P0"); u.Name != "PIN encryption key" {
		t.Errorf("P0 is called %q", u.Name)
	}
	for c, want := range map[byte]string{'E': "exportable in a trusted key block", 'N': "not exportable", 'S': "exportable in other forms too", 'X': ""} {
		if got := ExportabilityName(c); got != want {
			t.Errorf("exportability %c: %q", c, got)
		}
	}
}
