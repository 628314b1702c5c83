package module

import (
	"testing"

	"keyd/hsm"
)

// TestEveryEngineSaysItsCustody: an operation has one row, and a reason where a clear value is in memory.
func TestEveryEngineSaysItsCustody(t *testing.T) {
	s, _ := newTestServer(t)
	seen := map[string]bool{}
	for _, o := range s.engines.custodies() {
		switch {
		case o.Operation == "" || seen[o.Operation]:
			t.Errorf("a second row: %v", o)
		case o.Custody != uint32(hsm.InToken) && o.Custody != uint32(hsm.InModule), (o.Why == "") != (o.Custody == uint32(hsm.InToken)):
			t.Errorf("no custody with its reason: %v", o)
		}
		seen[o.Operation] = true
	}
	for _, want := range []string{
		"MACs with static keys", "MACs under AES DUKPT", "MACs under TDES DUKPT", "encrypting and decrypting data", "re-encrypting data", "card verification values",
		"PIN records: setting, changing and comparing PINs", "PINs typed on phones", "key ceremonies: components", "key ceremonies: import and export of key blocks", "key injection into terminals",
	} {
		if !seen[want] {
			t.Errorf("no row %q", want)
		}
	}
}
