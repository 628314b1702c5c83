// Package nss listens to the PIN operations that stay in a token of NSS softokn. It is a package of its own because
// a process loads one library.
package nss

import (
	"os"
	"testing"

	"keyd/hsm"
	"keyd/hsm/module/internal/eavesdrop"
	"keyd/hsm/module/internal/pinops/pinopstest"
	"keyd/hsm/module/internal/token/tokentest"
)

func TestMain(m *testing.M) { os.Exit(tokentest.Run(m)) }

// TestNothingIsOverheard: who has every buffer between the module and the token, and pkcs11-spy's log, learns
// no PIN, no clear field and no key from the operations that stay in the token, and of no PIN a single bit.
func TestNothingIsOverheard(t *testing.T) {
	r := eavesdrop.RecordWithSpy(t, tokentest.NSSPath(t))
	h := pinopstest.Overheard(t, tokentest.NSSThrough(t, r.Library).Open(t, 1), r, hsm.Demands{TokenCustody: true})
	if len(h.Problems) != 0 {
		t.Error(h.Problems)
	}
	for _, f := range h.Findings {
		t.Errorf("%v", f)
	}
	// It would prove nothing if nothing had been carried out, or no PIN were an object of the token.
	for _, formats := range []string{"0", "3", "4"} {
		for _, name := range []string{"verification in ISO-", "generation in ISO-", "change in ISO-", "translation from ISO-0 to ISO-", "translation from ISO-3 to ISO-", "translation from ISO-4 to ISO-"} {
			if h.Carried[name+formats] == 0 {
				t.Errorf("no %s%s was carried out in the token: %v", name, formats, h.Carried)
			}
		}
	}
	operations := 0
	for _, n := range h.Carried {
		operations += n
	}
	if h.Blocks < operations/2 {
		t.Errorf("only %d blocks of %d operations are objects of the token", h.Blocks, operations)
	}
}
