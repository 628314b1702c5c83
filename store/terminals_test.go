package store_test

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"keyd/store"
	"keyd/store/storetest"
)

// A database from before there were terminals keeps what it has, and takes them.
func TestUpgradeToTerminals(t *testing.T) {
	before := func(schema string, version int) string {
		return dropLater(schema) + fmt.Sprintf("DROP TABLE %[1]sterminals; DROP TABLE %[1]sterminal_events; DELETE FROM %[1]sgoose_db_version WHERE version_id >= %[2]d", schema, version)
	}
	registers := func(t *testing.T, s store.Store) {
		t.Helper()
		if _, err := s.Get(t.Context(), "key-7"); err != nil {
			t.Error(err)
		}
		if err := s.AddTerminal(t.Context(), storetest.Terminal(1), storetest.Event("registered")); err != nil {
			t.Error(err)
		}
		if l, err := s.TerminalEvents(t.Context(), storetest.Terminal(1).ID, 0, 10); err != nil || len(l) != 1 {
			t.Errorf("%d events, %v", len(l), err)
		}
	}
	t.Run("SQLite", func(t *testing.T) {
		path := sound(t)
		execute(before("", 5))(t, path)
		registers(t, open(t, path))
	})
	t.Run("Postgres", func(t *testing.T) {
		server := sharedServer(t)
		o := newDatabase(t, server)
		s := openPostgres(t, o)
		put(t, s, storetest.Record("key-7", 1))
		closeStore(t, s)
		execute1(t, server, o.Database, before("keyd.", 2))
		registers(t, openPostgres(t, o))
	})
}

// BenchmarkTerminals lists pages of a hundred out of a million terminals, of 10,000 owners and
// 50 models, one in a thousand of them suspended.
func BenchmarkTerminals(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "keyd.db"))
	const terminals, owners, models = 1_000_000, 10_000, 50
	owner := func(n int) string { return fmt.Sprintf("merchant-%d", n%owners) }
	model := func(n int) string { return fmt.Sprintf("model %d", n/owners%models) }
	n := 0
	if err := s.Import(b.Context(), func() (store.Item, error) {
		if n++; n > terminals {
			return store.Item{}, io.EOF
		}
		r := storetest.Terminal(n)
		r.ID, r.Owner, r.Model = fmt.Sprintf("t-%07d", n), owner(n), model(n)
		r.Certificates = []byte(strings.Repeat("x", 1500))
		if n%1000 == 0 {
			r.State = store.TerminalSuspended
		}
		return store.Item{Terminal: &r}, nil
	}); err != nil {
		b.Fatal(err)
	}
	for name, f := range map[string]store.TerminalFilter{
		"all": {}, "owner": {Owner: owner(77)}, "model": {Model: model(77)}, "suspended": {State: store.TerminalSuspended}, "retired": {State: store.TerminalRetired},
		"owner-model": {Owner: owner(77), Model: model(77)}, "owner-state": {Owner: owner(77), State: store.TerminalSuspended},
		"model-state": {Model: model(77), State: store.TerminalSuspended}, "all-three": {Owner: owner(77), Model: model(77), State: store.TerminalRegistered},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Terminals(b.Context(), f, "t-0500000", 100); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
