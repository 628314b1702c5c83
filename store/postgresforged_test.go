package store_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"keyd/store"
	"keyd/store/storetest"
)

// What is not allowed in the database can have come there past keyd.
func TestPostgresForgedRowsAreNotServed(t *testing.T) {
	server := sharedServer(t)
	const id = "'00000000000000000000000000000001'"
	for name, c := range map[string][2]string{ // the table as it is forged, and a row
		"key's state":         {"keys (name text, version bigint, state text, sealed bytea, created_at bigint)", "'zpk', 1, 'canary', '\\x00', 0"},
		"key's version":       {"keys (name text, version bigint, state text, sealed bytea, created_at bigint)", "'zpk', 4294967296, 'ENABLED', '\\x00', 0"},
		"version as text":     {"keys (name text, version text, state text, sealed bytea, created_at bigint)", "'zpk', '1', 'ENABLED', '\\x00', 0"},
		"no sealed key":       {"keys (name text, version bigint, state text, sealed bytea, created_at bigint)", "'zpk', 1, 'ENABLED', NULL, 0"},
		"sealed as text":      {"keys (name text, version bigint, state text, sealed text, created_at bigint)", "'zpk', 1, 'ENABLED', 'canary', 0"},
		"long sealed key":     {"keys (name text, version bigint, state text, sealed bytea, created_at bigint)", "'zpk', 1, 'ENABLED', decode(repeat('00', 65537), 'hex'), 0"},
		"far future":          {"keys (name text, version bigint, state text, sealed bytea, created_at bigint)", "'zpk', 1, 'ENABLED', '\\x00', 9223372036854775807"},
		"negative counter":    {"counters (sequence bytea, counter bigint, receipt bytea, accepted_at bigint)", "'\\x01', -1, '\\x', 0"},
		"large counter":       {"counters (sequence bytea, counter bigint, receipt bytea, accepted_at bigint)", "'\\x01', 4294967296, '\\x', 0"},
		"counter as text":     {"counters (sequence bytea, counter text, receipt bytea, accepted_at bigint)", "'\\x01', 'canary', '\\x', 0"},
		"long receipt":        {"counters (sequence bytea, counter bigint, receipt bytea, accepted_at bigint)", "'\\x01', 1, decode(repeat('00', 257), 'hex'), 0"},
		"row 0":               {"counter_journal (number bigint, batch bytea)", "0, '\\x01'"},
		"empty batch":         {"counter_journal (number bigint, batch bytea)", "1, '\\x'"},
		"no batch":            {"counter_journal (number bigint, batch bytea)", "1, NULL"},
		"batch as text":       {"counter_journal (number bigint, batch text)", "1, 'canary'"},
		"short receipt key":   {"receipt_keys (id bigint, key bytea, created_at bigint)", "1, '\\x00', 0"},
		"ceremony's state":    {"ceremonies (id text, kind text, node text, subject text, state text, revision bigint, papers bytea, record bytea, opened_at bigint, expires_at bigint)", id + ", 'k', '', '', 'canary', 0, '\\x', '\\x', 0, 0"},
		"ceremony's node":     {"ceremonies (id text, kind text, node text, subject text, state text, revision bigint, papers bytea, record bytea, opened_at bigint, expires_at bigint)", id + ", 'k', 'a canary', '', 'OPEN', 0, '\\x', '\\x', 0, 0"},
		"empty epoch":         {"epochs (version bigint, state text, sealed bytea, change bytea, ceremony text, node text)", "1, 'CURRENT', '\\x', '\\x', '', ''"},
		"change that is none": {"epochs (version bigint, state text, sealed bytea, change bytea, ceremony text, node text)", "2, 'PROPOSED', '\\x00', '\\x00', '', ''"},
		"proposer":            {"epochs (version bigint, state text, sealed bytea, change bytea, ceremony text, node text)", "2, 'PROPOSED', '\\x00', convert_to('{}', 'UTF8'), '', 'a canary'"},
		"alias of itself":     {"aliases (alias text, target text)", "'a', 'a'"},
		"tag with line feed":  {"key_tags (name text, tag text, value text)", "'zpk', 't', 'canary' || chr(10)"},
		"negative count":      {"key_usage (name text, version bigint, uses bigint, last_used bigint)", "'zpk', 1, -1, 0"},
		"long link":           {"epoch_links (version bigint, link bytea)", "1, decode(repeat('00', 257), 'hex')"},
		"node's name":         {"nodes (name text, version text, epoch bigint, instance text, detail text, last_seen bigint)", "'a canary', '', 0, '', '', 0"},
		"node's time":         {"nodes (name text, version text, epoch bigint, instance text, detail text, last_seen bigint)", "'n', '', 0, '', '', 9223372036854775807"},
		"terminal's state":    {"terminals (id text, owner text, model text, serial text, site text, state text, certificates bytea, public_key bytea, replaced_by text, revision bigint, registered_at bigint, changed_at bigint, key_set text DEFAULT '')", "'t', 'o', 'm', 's', '', 'canary', '\\x', '\\x', '', 1, 0, 0"},
		"a key of no size":    {"terminals (id text, owner text, model text, serial text, site text, state text, certificates bytea, public_key bytea, replaced_by text, revision bigint, registered_at bigint, changed_at bigint, key_set text DEFAULT '')", "'t', 'o', 'm', 's', '', 'REGISTERED', '\\x00', '\\x00', '', 1, 0, 0"},
		"replaced by nothing": {"terminals (id text, owner text, model text, serial text, site text, state text, certificates bytea, public_key bytea, replaced_by text, revision bigint, registered_at bigint, changed_at bigint, key_set text DEFAULT '')", "'t', 'o', 'm', 's', '', 'REPLACED', '\\x', '\\x', '', 1, 0, 0"},
		"host's key":          {"key_hosts (name text, key text, certificates bytea, list bytea, changed_at bigint)", "'h', 'a canary', '\\x00', '\\x', 0"},
		"a key of no name":    {"terminal_keys (terminal text, name text, version bigint, injection text, sealed bytea, not_after bigint, created_at bigint)", "'t', 'a canary', 1, repeat('0', 32), '\\x00', 0, 0"},
		"event's detail":      {"terminal_events (terminal text, number bigint, kind text, actor text, detail text, at bigint)", "'t', 1, 'registered', 'a', 'canary' || chr(10), 0"},
		"negative revision":   {"marks (one bigint, revision bigint, restored bigint)", "1, -1, 0"},
		"restored":            {"marks (one bigint, revision bigint, restored bigint)", "1, 0, 2"},
	} {
		t.Run(name, func(t *testing.T) {
			o := newDatabase(t, server)
			s := openPostgres(t, o)
			table, _, _ := strings.Cut(c[0], " ")
			execute1(t, server, o.Database, fmt.Sprintf("DROP TABLE keyd.%s; CREATE TABLE keyd.%s; INSERT INTO keyd.%s VALUES (%s)", table, c[0], table, c[1]))
			corrupt := 0
			for call, err := range readings(t, s, strings.Trim(id, "'")) {
				switch {
				case errors.Is(err, store.ErrCorrupt):
					corrupt++
				case err != nil && !errors.Is(err, store.ErrNotFound):
					t.Errorf("%s: %v", call, err)
				}
				if err != nil && strings.Contains(err.Error(), "canary") {
					t.Errorf("%s says what is stored: %v", call, err)
				}
			}
			if corrupt == 0 {
				t.Error("no call finds the database damaged")
			}
		})
	}
}

// readings are the methods that read.
func readings(t *testing.T, s store.Store, ceremonyID string) map[string]error {
	t.Helper()
	ctx := t.Context()
	_, get := s.Get(ctx, "zpk")
	_, list := s.List(ctx, "", 10)
	_, counter := s.Counter(ctx, []byte{1})
	_, receiptKeys := s.ReceiptKeys(ctx)
	_, ceremony := s.Ceremony(ctx, ceremonyID)
	_, current := s.CurrentEpoch(ctx)
	_, proposed := s.ProposedEpoch(ctx)
	_, alias := s.Alias(ctx, "a")
	_, tags := s.Tags(ctx, "zpk")
	_, usage := s.UsageOf(ctx, "zpk")
	_, links := s.EpochLinks(ctx, 0, 10)
	_, nodes := s.Nodes(ctx)
	_, revision := s.Revision(ctx)
	_, restored := s.Restored(ctx)
	_, terminal := s.Terminal(ctx, "t")
	_, terminals := s.Terminals(ctx, store.TerminalFilter{}, "", 10)
	_, events := s.TerminalEvents(ctx, "t", 0, 10)
	return map[string]error{
		"Terminal": terminal, "Terminals": terminals, "TerminalEvents": events,
		"Get": get, "List": list, "Counter": counter, "ReceiptKeys": receiptKeys, "Ceremony": ceremony, "CurrentEpoch": current, "ProposedEpoch": proposed,
		"Alias": alias, "Tags": tags, "UsageOf": usage, "EpochLinks": links, "Nodes": nodes, "Revision": revision, "Restored": restored,
		"ReadJournal":   s.ReadJournal(ctx, func(uint64, []byte) error { return nil }),
		"ExtendJournal": s.ExtendJournal(ctx, 0, nil, func(uint64, []byte) error { return nil }, func(uint64) ([]byte, error) { return nil, nil }),
		"Export":        s.Export(ctx, func(store.Item) error { return nil }),
	}
}

// What a server reports is told apart: a trigger makes a sound server report it.
func TestPostgresFailures(t *testing.T) {
	server := sharedServer(t)
	o := newDatabase(t, server)
	s := openPostgres(t, o)
	for code, want := range map[string]error{
		"53100": store.ErrFull, "53300": store.ErrUnreachable, "57P01": store.ErrUnreachable, "57P02": store.ErrUnreachable, "57P03": store.ErrUnreachable,
		"57014": store.ErrUnreachable, "25P03": store.ErrUnreachable, "08006": store.ErrUnreachable, "25006": store.ErrReadOnly, "55P03": store.ErrLocked,
		"40001": store.ErrLocked, "40P01": store.ErrLocked, "42501": store.ErrDenied, "XX001": store.ErrCorrupt, "XX002": store.ErrCorrupt,
		"58030": store.ErrFailed, "53200": store.ErrFailed, "P0001": store.ErrFailed, "23514": store.ErrFailed,
	} {
		execute1(t, server, o.Database, fmt.Sprintf(`CREATE OR REPLACE FUNCTION keyd.fail() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN RAISE EXCEPTION 'canary' USING ERRCODE = '%s'; END $$;
			CREATE OR REPLACE TRIGGER fail BEFORE INSERT OR UPDATE ON keyd.keys FOR EACH ROW EXECUTE FUNCTION keyd.fail();
			CREATE OR REPLACE TRIGGER fail BEFORE INSERT OR UPDATE ON keyd.counter_journal FOR EACH ROW EXECUTE FUNCTION keyd.fail();
			CREATE OR REPLACE TRIGGER fail BEFORE INSERT OR UPDATE ON keyd.counters FOR EACH ROW EXECUTE FUNCTION keyd.fail()`, code))
		for call, err := range map[string]error{
			"Put": s.Put(t.Context(), storetest.Record("zpk", 1)), "Fold": s.Fold(t.Context(), storetest.Counter("q", 1)),
			"ExtendJournal": s.ExtendJournal(t.Context(), 0, nil, func(uint64, []byte) error { return nil }, func(uint64) ([]byte, error) { return []byte("b"), nil }),
		} {
			if !errors.Is(err, want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s: %s: %v, want %v", code, call, err, want)
			}
		}
	}
	execute1(t, server, o.Database, "DROP FUNCTION keyd.fail CASCADE")
	put(t, s, storetest.Record("zpk", 1)) // nothing of it has happened, and the store goes on
	if number, _ := newest(t, s); number != 0 {
		t.Errorf("the journal has %d rows", number)
	}
}

// What the server undoes because of a conflict is tried again, some times.
func TestPostgresConflictsAreTriedAgain(t *testing.T) {
	server := sharedServer(t)
	o := newDatabase(t, server)
	s := openPostgres(t, o)
	for _, code := range []string{"40001", "40P01"} {
		// nextval is not undone.
		execute1(t, server, o.Database, fmt.Sprintf(`DROP SEQUENCE IF EXISTS keyd.tries CASCADE; CREATE SEQUENCE keyd.tries;
			CREATE OR REPLACE FUNCTION keyd.conflict() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN IF nextval('keyd.tries') %% 3 <> 0 THEN RAISE EXCEPTION 'x' USING ERRCODE = '%s'; END IF; RETURN NEW; END $$;
			CREATE OR REPLACE TRIGGER conflict BEFORE INSERT ON keyd.keys FOR EACH ROW EXECUTE FUNCTION keyd.conflict();
			CREATE OR REPLACE TRIGGER conflict BEFORE INSERT ON keyd.counters FOR EACH ROW EXECUTE FUNCTION keyd.conflict()`, code))
		put(t, s, storetest.Record("key-"+code, 1))
		if err := s.Fold(t.Context(), storetest.Counter("q-"+code, 1)); err != nil {
			t.Errorf("Fold: %v", err)
		}
	}
}

// Another's lock is waited for, and not for ever.
func TestPostgresLocked(t *testing.T) {
	t.Parallel()
	server := ownServer(t)
	o := newDatabase(t, server)
	s := openPostgres(t, o)
	c, err := server.Connect(t.Context(), o.Database)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	if _, err := c.Exec(t.Context(), "SELECT pg_advisory_lock(1803117617, 1), pg_advisory_lock(1803117617, 2)"); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := s.Put(t.Context(), storetest.Record("zpk", 1)); !errors.Is(err, store.ErrLocked) {
			t.Errorf("Put: %v, want ErrLocked", err)
		}
	})
	wait.Go(func() {
		err := s.ExtendJournal(t.Context(), 0, nil, func(uint64, []byte) error { return nil }, func(uint64) ([]byte, error) { return []byte("b"), nil })
		if !errors.Is(err, store.ErrLocked) {
			t.Errorf("ExtendJournal: %v, want ErrLocked", err)
		}
	})
	if _, err := s.Get(t.Context(), "zpk"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a reader is kept out: %v", err)
	}
	wait.Wait()
	if _, err := c.Exec(t.Context(), "SELECT pg_advisory_unlock_all()"); err != nil {
		t.Fatal(err)
	}
	put(t, s, storetest.Record("zpk", 1))
}

// Connections that the server's operator ends, one by one or for good, are made anew.
func TestPostgresConnectionsAreEnded(t *testing.T) {
	server := ownServer(t)
	o := newDatabase(t, server)
	s := openPostgres(t, o)
	put(t, s, storetest.Record("zpk", 1))
	for n := range 10 {
		execute1(t, server, "postgres", "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '"+o.Database+"'")
		if n%2 == 0 {
			if _, err := s.Get(t.Context(), "zpk"); err != nil {
				t.Errorf("Get: %v", err)
			}
		} else if err := s.Put(t.Context(), storetest.Record(fmt.Sprint("n", n), 1)); err != nil {
			t.Errorf("Put: %v", err)
		}
	}
	execute1(t, server, "postgres", "ALTER DATABASE "+o.Database+" CONNECTION LIMIT 0")
	execute1(t, server, "postgres", "ALTER ROLE keyd CONNECTION LIMIT 0")
	execute1(t, server, "postgres", "CREATE ROLE guest LOGIN IN ROLE keyd")
	guest := o
	guest.User = "guest"
	refused(t, guest, store.ErrUnreachable) // too many connections
	execute1(t, server, "postgres", "ALTER DATABASE "+o.Database+" CONNECTION LIMIT -1")
	if err := server.Shut(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.Get(t.Context(), "zpk"); !errors.Is(err, store.ErrUnreachable) {
			t.Errorf("Get without a server: %v, want ErrUnreachable", err)
		}
	}
	if err := server.Launch(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "zpk"); err != nil {
		t.Errorf("Get when it is back: %v", err)
	}
}

// Two fronts see each other's changes at once.
func TestPostgresTwoStores(t *testing.T) {
	o := newDatabase(t, sharedServer(t))
	first, second := openPostgres(t, o), openPostgres(t, o)
	before, err := second.Revision(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	put(t, first, storetest.Record("zpk", 1))
	after, err := second.Revision(t.Context())
	if err != nil || after <= before {
		t.Errorf("the revision is %d after %d, %v", after, before, err)
	}
	if _, err := second.Get(t.Context(), "zpk"); err != nil {
		t.Error(err)
	}
	if err := first.ReportNode(t.Context(), storetest.Node("a")); err != nil {
		t.Fatal(err)
	}
	if nodes, err := second.Nodes(t.Context()); err != nil || len(nodes) != 1 || nodes[0].Age > time.Minute {
		t.Errorf("Nodes = %v, %v", nodes, err)
	}
}
