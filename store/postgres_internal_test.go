package store

import (
	"strings"
	"testing"

	"keyd/store/postgrestest"
)

// The plan must not read the table or sort, even where the tables are small: a lookup costs the
// same with any number of keys.
func TestPostgresLookupsUseTheIndex(t *testing.T) {
	server, err := postgrestest.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	name, err := server.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := OpenPostgres(t.Context(), PostgresOptions{Hosts: []string{server.SocketDir}, Database: name, User: postgrestest.User})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := server.Connect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	if _, err := c.Exec(t.Context(), "SET search_path = keyd; SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off; SET plan_cache_mode = force_generic_plan"); err != nil {
		t.Fatal(err)
	}
	for query, args := range map[string]int{
		getKey: 1, listKeys: 2, getVersion: 2, newestVersions: 2, listVersions: 3, listPrefix: 3, listTagged: 4, listTaggedWith: 5,
		listCeremonies: 3, listCeremoniesIn: 4, getAlias: 1, aliasesOf: 2, listTags: 2, usageOf: 2, getCounter: 1, readJournal: 0, trimJournal: 1,
		followPostgres: 1, listLinks: 2, extendPostgres: 3,
	} {
		if _, err := c.Exec(t.Context(), "PREPARE q AS "+query); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		execute := "EXPLAIN EXECUTE q"
		if args > 0 {
			execute += "(" + strings.TrimSuffix(strings.Repeat("NULL, ", args), ", ") + ")"
		}
		rows, err := c.Query(t.Context(), execute)
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, line)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		all := strings.Join(plan, "\n")
		if !strings.Contains(all, "Index") || strings.Contains(all, "Seq Scan") || strings.Contains(all, "Sort") {
			t.Errorf("the plan of %s:\n%s", query, all)
		}
		if _, err := c.Exec(t.Context(), "DEALLOCATE q"); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzHost: whatever a host is said to be, no name is looked up, and what is taken for this
// machine is on it.
func FuzzHost(f *testing.F) {
	for _, seed := range []string{"127.0.0.1:5432", "[::1]:5432", "[::ffff:127.0.0.1]:1", "/run/postgresql", "localhost:5432", "10.0.0.1:70000", "[fe80::1%eth0]:1", "/a\x00b", "0:1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, h string) {
		host, port, local, err := splitHost(h)
		if err != nil {
			if host != "" || port != 0 || local {
				t.Errorf("splitHost(%q) = %q, %d, %v and %v", h, host, port, local, err)
			}
			return
		}
		switch {
		case strings.HasPrefix(host, "/"):
			if host != h || !local || strings.ContainsRune(h, 0) {
				t.Errorf("splitHost(%q) = %q, %v", h, host, local)
			}
		case strings.Trim(host, "0123456789abcdefABCDEF:.") != "" || port == 0:
			t.Errorf("splitHost(%q) = %q, %d", h, host, port)
		case local && !strings.HasPrefix(host, "127.") && host != "::1" && !strings.HasPrefix(host, "::ffff:127."):
			t.Errorf("splitHost(%q) takes %q for this machine", h, host)
		}
	})
}
