package development

import (
	"fmt"
	"os"

	"keyd/config"
)

// UsePostgres has the service work on a PostgreSQL database, alone. The front gets a copy of
// the password, in DIR/config/postgres.password.
func (s *Service) UsePostgres(p config.Postgres) error {
	password, err := os.ReadFile(p.PasswordFile)
	if err != nil {
		return fmt.Errorf("--postgres-password-file: %w", err)
	}
	defer clear(password)
	p.PasswordFile = s.path("config", "postgres.password")
	if err := replaceFile(p.PasswordFile, password, 0o600); err != nil {
		return err
	}
	s.Config.Database.Postgres, s.Config.Fleet = &p, config.Fleet{Node: "dev", Size: 1}
	return s.Config.CheckDatabase()
}
