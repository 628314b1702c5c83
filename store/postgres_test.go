package store_test

import (
	"context"
	"sync"
	"testing"

	"keyd/store"
	"keyd/store/postgrestest"
	"keyd/store/storetest"
)

// shared is the server of most tests: one for the test binary, each test with a database of its
// own on it.
var shared struct {
	once   sync.Once
	server *postgrestest.Server
	err    error
}

func sharedServer(t testing.TB) *postgrestest.Server {
	t.Helper()
	shared.once.Do(func() { shared.server, shared.err = postgrestest.Start() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// stopShared is for TestMain.
func stopShared() error {
	if shared.server == nil {
		return nil
	}
	return shared.server.Stop()
}

// ownServer starts a server that a test may do anything with.
func ownServer(t testing.TB, settings ...string) *postgrestest.Server {
	t.Helper()
	s, err := postgrestest.Start(settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// newDatabase returns options that open an empty database of a server.
func newDatabase(t testing.TB, s *postgrestest.Server) store.PostgresOptions {
	t.Helper()
	name, err := s.Create(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return store.PostgresOptions{Hosts: []string{s.SocketDir}, Database: name, User: postgrestest.User}
}

func openPostgres(t testing.TB, o store.PostgresOptions) *store.Postgres {
	t.Helper()
	s, err := store.OpenPostgres(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	return s
}

func TestPostgresConformance(t *testing.T) {
	server := sharedServer(t)
	storetest.Test(t, func(t *testing.T) store.Store { return openPostgres(t, newDatabase(t, server)) })
}

func TestPostgresConformanceReopened(t *testing.T) {
	server := sharedServer(t)
	storetest.TestReopen(t, func(t *testing.T) func() store.Store {
		o := newDatabase(t, server)
		return func() store.Store { return openPostgres(t, o) }
	})
}

func TestPostgresConformanceOfBackups(t *testing.T) {
	server := sharedServer(t)
	storetest.TestBackup(t, func(t *testing.T) store.Store { return openPostgres(t, newDatabase(t, server)) })
}
