package service

import (
	"os"

	"keyd/config"
	"keyd/hsm/module"
	"keyd/supervisor"
)

// withLedger gives the modules the file in which they remember which device an initial key
// belongs to, which is made if it is missing. The front never gets it.
func withLedger(c *config.Config, s *supervisor.Config) (*os.File, error) {
	f, err := module.CreateLedger(c.Ledger)
	if err != nil {
		return nil, err
	}
	s.Module.Files = append(s.Module.Files, supervisor.Inherited{Flag: "--ledger-fd", File: f})
	return f, nil
}
