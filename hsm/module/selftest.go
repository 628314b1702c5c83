package module

import (
	"errors"
	"fmt"

	"keyd/dukpt/software"
	"keyd/hsm/module/internal/macops"
	"keyd/hsm/module/internal/pinverify"
	"keyd/hsm/module/internal/token"
	"keyd/pinblock"
)

// selfTests are known answers of what this process computes itself. Those of the
// token are token.Probes. All of them pass before the first request is read, but for
// mechanisms that a token may lack.
var selfTests = []struct {
	name string
	run  func() error
}{
	{"DES, TDES and DUKPT derivation", software.SelfTest},
	{"ISO 9564-1 PIN blocks", pinblock.SelfTest},
	{"Visa PVV and IBM 3624", pinverify.SelfTest},
	{"MACs with TDES", macops.SelfTest},
}

// powerOn runs every self-test and returns the names of what passed. The first
// failure is returned and ends the process: for good if an answer was wrong, and not
// if the token did not answer.
func powerOn(t *token.Token) ([]string, error) {
	var passed []string
	for _, test := range selfTests {
		if err := test.run(); err != nil {
			return nil, Permanent{fmt.Errorf("power-on self-test %q failed: %w", test.name, err)}
		}
		passed = append(passed, test.name)
	}
	for _, probe := range token.Probes {
		err := probe.Try(t)
		if errors.Is(err, token.ErrLacks) {
			continue // what needs it is refused, and the status says so
		}
		if err != nil {
			err = fmt.Errorf("the token failed a known-answer test, so that it cannot host keyd's keys: %w", err)
			switch token.ClassOf(err) {
			case token.Bug, token.Refused: // a wrong answer, or a mechanism that it lacks
				return nil, Permanent{err}
			}
			return nil, err
		}
		passed = append(passed, "token: "+probe.Name)
	}
	return passed, nil
}
