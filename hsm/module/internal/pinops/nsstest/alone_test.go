package nsstest

import (
	"testing"

	"keyd/hsm"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/pinops/pinopstest"
	"keyd/hsm/module/internal/sealedtest"
)

// TestAlone: what stays in the token has calls of its own, and what goes by the module's memory shares them.
func TestAlone(t *testing.T) {
	b := sealedtest.On(t, open(t))
	engine := pinops.NewEngine(b.Keys, nil)
	for _, s := range pinopstest.Samples(b) {
		op := s.Operation()
		derives := s.Name == "translation, AES DUKPT 4 to 0" || s.Name == "translation, AES DUKPT 4 to 4" || s.Name == "verification, AES DUKPT 4"
		if !engine.Alone(op) || engine.ByModule().Alone(op) != derives {
			t.Errorf("%s: %v, in the module's memory %v", s.Name, engine.Alone(op), engine.ByModule().Alone(op))
		}
	}
	zone, elsewhere := hsm.PINKey{}, hsm.PINKey{KSN: b.KSN("FFFF9876543210E00001")}
	for name, c := range map[string]struct {
		op   *pinops.Operation
		want bool
	}{
		"TDES DUKPT":              {&pinops.Operation{Translate: &hsm.TranslatePIN{Incoming: elsewhere, Outgoing: zone}}, false},
		"format 1":                {&pinops.Operation{Translate: &hsm.TranslatePIN{Incoming: hsm.PINKey{Format: hsm.Format1}, Outgoing: zone}}, false},
		"IBM 3624":                {&pinops.Operation{Verify: &hsm.VerifyPIN{Incoming: zone, IBM3624: &hsm.IBM3624{}}}, false},
		"a change of which a PIN": {&pinops.Operation{Change: &hsm.ChangePIN{Incoming: elsewhere, NewIncoming: zone}}, true},
		"a change of which none":  {&pinops.Operation{Change: &hsm.ChangePIN{Incoming: elsewhere, NewIncoming: elsewhere}}, false},
	} {
		if got := engine.Alone(c.op); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
