package service

import (
	"fmt"
	"os"

	"keyd/config"
	"keyd/hsm/module"
	"keyd/supervisor"
)

// withCheckpoints gives the modules the file in which they remember what checkpoints of audit
// logs they have signed, which is made if it is missing. The front never gets it.
func withCheckpoints(c *config.Config, s *supervisor.Config) (*os.File, error) {
	f, err := module.CreateCheckpoints(c.Audit.Checkpoints)
	if err != nil {
		return nil, fmt.Errorf("audit.checkpoints: %w", err)
	}
	s.Module.Files = append(s.Module.Files, supervisor.Inherited{Flag: "--checkpoints-fd", File: f})
	return f, nil
}
