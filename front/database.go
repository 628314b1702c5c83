package front

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"

	"keyd/store"
)

// shared reports whether other keyds work on the database too.
func (o *Options) shared() bool { return len(o.Postgres.Hosts) > 0 }

// openDatabase returns nothing with an error, and not a store that is nil.
func openDatabase(o Options) (store.Store, error) {
	if o.shared() {
		s, err := store.OpenPostgres(context.Background(), o.Postgres)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	s, err := store.OpenSQLite(context.Background(), filepath.Join(o.State, "keyd.db"))
	if err != nil {
		return nil, err
	}
	return s, nil
}

// databaseFiles returns to which ports the front connects for its database, and which files it
// reads for that.
func databaseFiles(o Options) (ports []uint16, files []string, err error) {
	for _, h := range o.Postgres.Hosts {
		at, err := netip.ParseAddrPort(h)
		if err != nil {
			return nil, nil, fmt.Errorf("database: %w", err)
		}
		ports = append(ports, at.Port())
	}
	for _, f := range []string{o.Postgres.PasswordFile, o.Postgres.CAFile, o.Postgres.CertificateFile, o.Postgres.KeyFile} {
		if f != "" {
			files = append(files, f)
		}
	}
	return ports, files, nil
}
