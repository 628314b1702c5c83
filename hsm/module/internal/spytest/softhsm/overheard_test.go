// Package softhsm listens to PIN operations of a token that does not keep PINs. It is a package of its own because a
// process loads one library.
package softhsm

import (
	"os"
	"strings"
	"testing"

	"keyd/hsm"
	"keyd/hsm/module/internal/eavesdrop"
	"keyd/hsm/module/internal/pinops/pinopstest"
	"keyd/hsm/module/internal/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

// TestTheModulesEngineIsOverheard: an engine that has PINs in the module's memory gets them from the token
// in clear, and the listener finds exactly that, clear fields and PINs, and no key. If it found nothing here,
// that it finds nothing with another engine would prove nothing.
func TestTheModulesEngineIsOverheard(t *testing.T) {
	r := eavesdrop.RecordWithSpy(t, tokentest.SoftHSMPath)
	h := pinopstest.Overheard(t, tokentest.SoftHSMThrough(t, r.Library).Open(t, 1), r, hsm.Demands{})
	if len(h.Problems) != 0 {
		t.Error(h.Problems)
	}
	kinds := h.Kinds()
	t.Log(kinds, h.Carried)
	for _, want := range []string{
		"PIN, two digits a byte", "clear PIN field", "clear PIN field with the account digits", "digits of a clear PIN field of format 4", "transformed security parameter",
	} {
		if kinds[want] == 0 {
			t.Errorf("the listener does not find: %s", want)
		}
	}
	for _, f := range h.Findings {
		switch {
		case f.Kind == "key", f.Kind == "part of a key", f.Kind == "bits of a PIN":
			t.Errorf("%v", f)
		case f.What == "some operation": // counted over all of them
		case !strings.HasPrefix(f.Where, "C_Decrypt") && !strings.HasPrefix(f.Where, "C_Encrypt"):
			t.Errorf("found where no engine of the module's has it: %v", f)
		}
	}
	for _, task := range []string{"translation", "verification", "generation", "change"} {
		n := 0
		for _, f := range h.Findings {
			if strings.HasPrefix(f.What, task) {
				n++
			}
		}
		if n == 0 {
			t.Errorf("of no %s is anything found", task)
		}
	}
	if h.Blocks != 0 {
		t.Errorf("%d blocks are objects of the token", h.Blocks)
	}
}
