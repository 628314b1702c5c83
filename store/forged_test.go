package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"keyd/store"
	"keyd/store/storetest"
)

// What is not allowed in the file can have come there past keyd.
func TestForgedInventoryIsNotServed(t *testing.T) {
	const id = "'00000000000000000000000000000001'"
	for name, statement := range map[string]string{
		"ceremony's ID":       "INSERT INTO ceremonies VALUES ('canary', 'k', '', '', 'OPEN', 0, x'', x'', 0, 0)",
		"ceremony's kind":     "INSERT INTO ceremonies VALUES (" + id + ", '', '', '', 'OPEN', 0, x'', x'', 0, 0)",
		"ceremony's subject":  "INSERT INTO ceremonies VALUES (" + id + ", 'k', '', NULL, 'OPEN', 0, x'', x'', 0, 0)",
		"ceremony's state":    "INSERT INTO ceremonies VALUES (" + id + ", 'k', '', '', 'canary', 0, x'', x'', 0, 0)",
		"negative revision":   "INSERT INTO ceremonies VALUES (" + id + ", 'k', '', '', 'OPEN', -1, x'', x'', 0, 0)",
		"papers as text":      "INSERT INTO ceremonies VALUES (" + id + ", 'k', '', '', 'OPEN', 0, 'canary', x'', 0, 0)",
		"long papers":         "INSERT INTO ceremonies VALUES (" + id + ", 'k', '', '', 'OPEN', 0, zeroblob(262145), x'', 0, 0)",
		"early record":        "INSERT INTO ceremonies VALUES (" + id + ", 'k', '', '', 'OPEN', 0, x'', x'00', 0, 0)",
		"opening time":        "INSERT INTO ceremonies VALUES (" + id + ", 'k', '', '', 'OPEN', 0, x'', x'', 'canary', 0)",
		"epoch 0":             "INSERT INTO epochs VALUES (0, 'CURRENT', x'00', x'', '', '')",
		"epoch as text":       "INSERT INTO epochs VALUES ('canary', 'CURRENT', x'00', x'', '', '')",
		"empty epoch":         "INSERT INTO epochs VALUES (1, 'CURRENT', x'', x'', '', '')",
		"long epoch":          "INSERT INTO epochs VALUES (1, 'CURRENT', zeroblob(1048577), x'', '', '')",
		"no change":           "INSERT INTO epochs VALUES (2, 'PROPOSED', x'00', x'', '', '')",
		"change as text":      "INSERT INTO epochs VALUES (2, 'PROPOSED', x'00', '{}', '', '')",
		"change that is none": "INSERT INTO epochs VALUES (2, 'PROPOSED', x'00', CAST('{\"canary\":1}' AS BLOB), '', '')",
		"change with spaces":  "INSERT INTO epochs VALUES (2, 'PROPOSED', x'00', CAST('{ }' AS BLOB), '', '')",
		"change of no key":    "INSERT INTO epochs VALUES (2, 'PROPOSED', x'00', CAST('{\"purge\":[{\"name\":\"\",\"version\":1}]}' AS BLOB), '', '')",
		"alias's target":      "INSERT INTO aliases VALUES ('a', '')",
		"alias of itself":     "INSERT INTO aliases VALUES ('a', 'a')",
		"alias as bytes":      "INSERT INTO aliases VALUES ('a', x'00')",
		"empty tag":           "INSERT INTO key_tags VALUES ('zpk', '', 'canary')",
		"tag's value":         "INSERT INTO key_tags VALUES ('zpk', 't', NULL)",
		"tag with line feed":  "INSERT INTO key_tags VALUES ('zpk', 't', 'canary' || char(10))",
		"usage of version 0":  "INSERT INTO key_usage VALUES ('zpk', 0, 1, 0)",
		"negative count":      "INSERT INTO key_usage VALUES ('zpk', 1, -1, 0)",
		"count as text":       "INSERT INTO key_usage VALUES ('zpk', 1, 'canary', 0)",
		"terminal's state":    terminalRow("'t', 'o', 'm', 's', '', 'canary', x'', x'', '', 1, 0, 0"),
		"terminal's owner":    terminalRow("'t', '', 'm', 's', '', 'REGISTERED', x'', x'', '', 1, 0, 0"),
		"a key of no size":    terminalRow("'t', 'o', 'm', 's', '', 'REGISTERED', x'00', x'00', '', 1, 0, 0"),
		"a key without more":  terminalRow("'t', 'o', 'm', 's', '', 'REGISTERED', x'', zeroblob(32), '', 1, 0, 0"),
		"long certificates":   terminalRow("'t', 'o', 'm', 's', '', 'REGISTERED', zeroblob(16385), zeroblob(32), '', 1, 0, 0"),
		"replaced by nothing": terminalRow("'t', 'o', 'm', 's', '', 'REPLACED', x'', x'', '', 1, 0, 0"),
		"replaced by itself":  terminalRow("'t', 'o', 'm', 's', '', 'REPLACED', x'', x'', 't', 1, 0, 0"),
		"terminal's revision": terminalRow("'t', 'o', 'm', 's', '', 'REGISTERED', x'', x'', '', 'canary', 0, 0"),
		"event's kind":        eventRow("'t', 1, '', 'a', '', 0"),
		"event's number":      eventRow("'t', 'canary', 'registered', 'a', '', 0"),
		"event's detail":      eventRow("'t', 1, 'registered', 'a', 'canary' || char(10), 0"),
		"host's key":          "INSERT INTO key_hosts VALUES ('h', 'a canary', x'00', x'', 0)",
		"version of a set":    "INSERT INTO key_sets VALUES ('k', 'canary', x'00', 0)",
		"list's number":       "INSERT INTO revocation_lists VALUES (zeroblob(32), 'i', 'canary', 0, 0, 0, zeroblob(32), x'', x'00', 0)",
		"injection's state":   injectionRow("'canary', 'm', 'k', 1, zeroblob(32), x'', '[]', 1, x'', x'', x'', x'', x'', '', 0, 0, 0"),
		"injection's keys":    injectionRow("'BEGUN', 'm', 'k', 1, zeroblob(32), x'', CAST('canary' AS BLOB), 1, x'', x'', x'', x'', x'', '', 0, 0, 0"),
		"no answer":           injectionRow("'PENDING', 'm', 'k', 1, zeroblob(32), x'', CAST('[]' AS BLOB), 1, x'', x'', x'00', x'', x'', '', 0, 0, 0"),
		"no statement":        injectionRow("'CONFIRMED', 'm', 'k', 1, zeroblob(32), x'', CAST('[]' AS BLOB), 1, x'', x'', x'00', x'', x'', '', 0, 0, 1"),
		"a key of no name":    "INSERT INTO terminal_keys VALUES ('t', 'a canary', 1, '" + strings.Repeat("0", 32) + "', x'00', 0, 0)",
		"a void of no state":  voidRow("'canary', 1, x'00', '', zeroblob(16), zeroblob(98), x'', 0, 0, zeroblob(32), 0, 0, 0"),
		"no token":            voidRow("'AUTHORIZED', 1, x'00', '', zeroblob(16), zeroblob(98), x'', 0, 1, zeroblob(32), 0, 0, 0"),
		"a token too early":   voidRow("'SCANNED', 1, x'00', 'canary', zeroblob(16), zeroblob(98), x'', 0, 1, zeroblob(32), 0, 0, 0"),
		"time of use":         "INSERT INTO key_usage VALUES ('zpk', 1, 1, 9223372036854775807)",
	} {
		t.Run(name, func(t *testing.T) {
			path := sound(t)
			execute("DROP TABLE ceremonies; CREATE TABLE ceremonies (id, kind, node, subject, state, revision, papers, record, opened_at, expires_at);"+
				"DROP TABLE epochs; CREATE TABLE epochs (version, state, sealed, change, ceremony, node);"+
				"DROP TABLE aliases; CREATE TABLE aliases (alias, target); DROP TABLE key_tags; CREATE TABLE key_tags (name, tag, value);"+
				"DROP TABLE terminals; CREATE TABLE terminals (id, owner, model, serial, site, state, certificates, public_key, replaced_by, revision, registered_at, changed_at, key_set DEFAULT '');"+
				"DROP TABLE terminal_events; CREATE TABLE terminal_events (terminal, number, kind, actor, detail, at);"+
				"DROP TABLE key_hosts; CREATE TABLE key_hosts (name, key, certificates, list, changed_at);"+
				"DROP TABLE key_sets; CREATE TABLE key_sets (name, version, content, created_at);"+
				"DROP TABLE revocation_lists; CREATE TABLE revocation_lists (issuer_key, issuer, number, entries, this_update, next_update, digest, issuers, list, stored_at);"+
				"DROP TABLE injections; CREATE TABLE injections (terminal, number, id, state, method, key_set, key_set_version, request, nonce, keys, revision, answer, key_blocks, "+
				"record, receipt, statement, failure, created_at, confirm_by, confirmed_at);"+
				"DROP TABLE terminal_keys; CREATE TABLE terminal_keys (terminal, name, version, injection, sealed, not_after, created_at);"+
				"DROP TABLE voids; CREATE TABLE voids (id, merchant, terminal, reference, amount, currency, fee, state, version, content, token, code, payload, slip, code_expires_at, burnt_at, "+
				"request, due_at, created_at, changed_at, paid_at DEFAULT 0);"+
				"DROP TABLE key_usage; CREATE TABLE key_usage (name, version, uses, last_used);"+statement)(t, path)
			s := open(t, path)
			ctx := t.Context()
			_, ceremony := s.Ceremony(ctx, strings.Trim(id, "'"))
			_, ceremonies := s.Ceremonies(ctx, "", time.Time{}, "", 10)
			_, current := s.CurrentEpoch(ctx)
			_, proposed := s.ProposedEpoch(ctx)
			_, alias := s.Alias(ctx, "a")
			_, aliases := s.Aliases(ctx, "", 10)
			_, tags := s.Tags(ctx, "zpk")
			_, usage := s.UsageOf(ctx, "zpk")
			_, terminal := s.Terminal(ctx, "t")
			_, terminals := s.Terminals(ctx, store.TerminalFilter{}, "", 10)
			_, events := s.TerminalEvents(ctx, "t", 0, 10)
			_, hosts := s.KeyHosts(ctx)
			_, sets := s.KeySets(ctx)
			_, lists := s.RevocationLists(ctx)
			_, injection := s.Injection(ctx, "t", strings.Repeat("0", 32))
			_, ofTerminal := s.KeysOfTerminal(ctx, "t")
			_, void := s.Void(ctx, strings.Repeat("0", 32))
			_, voids := s.ListVoids(ctx, "m", "", time.Time{}, "", 10)
			corrupt := 0
			for call, err := range map[string]error{
				"Ceremony": ceremony, "Ceremonies": ceremonies, "CurrentEpoch": current, "ProposedEpoch": proposed, "Alias": alias, "Aliases": aliases, "Tags": tags, "UsageOf": usage,
				"Terminal": terminal, "Terminals": terminals, "TerminalEvents": events,
				"KeyHosts": hosts, "KeySets": sets, "RevocationLists": lists, "Injection": injection, "KeysOfTerminal": ofTerminal, "Void": void, "ListVoids": voids,
				"AdvanceEpoch": s.AdvanceEpoch(ctx, 2, nil, nil),
			} {
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

func terminalRow(values string) string {
	return "INSERT INTO terminals (id, owner, model, serial, site, state, certificates, public_key, replaced_by, revision, registered_at, changed_at) VALUES (" + values + ")"
}

func injectionRow(values string) string {
	return "INSERT INTO injections VALUES ('t', 1, '" + strings.Repeat("0", 32) + "', " + values + ")"
}

func voidRow(values string) string {
	return "INSERT INTO voids VALUES ('" + strings.Repeat("0", 32) + "', 'm', 't', 'r', 1, 156, 0, " + values + ", 0)"
}

func eventRow(values string) string { return "INSERT INTO terminal_events VALUES (" + values + ")" }

// A damaged proposal can be withdrawn, and the next one takes effect.
func TestWithdrawDamagedProposal(t *testing.T) {
	path := sound(t)
	s := open(t, path)
	if err := s.AdoptEpoch(t.Context(), 1, storetest.Epoch(1)); err != nil {
		t.Fatal(err)
	}
	if err := s.ProposeEpoch(t.Context(), "", 2, storetest.Epoch(2), store.Change{}); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	execute("UPDATE epochs SET change = x'00' WHERE version = 2")(t, path)
	s = open(t, path)
	if err := s.AdvanceEpoch(t.Context(), 2, nil, nil); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("AdvanceEpoch: %v, want ErrCorrupt", err)
	}
	if err := s.WithdrawEpoch(t.Context(), 2, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.ProposeEpoch(t.Context(), "", 2, storetest.Epoch(2), store.Change{}); err != nil {
		t.Fatal(err)
	}
	if err := s.AdvanceEpoch(t.Context(), 2, nil, nil); err != nil {
		t.Fatal(err)
	}
}
